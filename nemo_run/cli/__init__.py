"""The command line: ``nemorun``, and command lines for your own functions.

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_run.cli.app import create_cli as create_cli

_MODULE_OF = {"create_cli": "app"}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
