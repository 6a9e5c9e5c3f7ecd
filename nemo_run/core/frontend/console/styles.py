"""How tables look."""

from __future__ import annotations

from typing import Any

from rich import box

BOX_STYLE = box.ROUNDED
TABLE_STYLES: dict[str, Any] = {"box": BOX_STYLE, "show_lines": False, "pad_edge": False}
