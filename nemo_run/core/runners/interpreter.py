"""What a new Python interpreter needs to run parts of this package."""

from __future__ import annotations

import os
from pathlib import Path


def import_environment() -> dict[str, str]:
    """Return what a new interpreter needs to import this package, where it is not installed but lies somewhere."""
    home = str(Path(__file__).resolve().parents[3])
    if Path(home).name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), home]))}
