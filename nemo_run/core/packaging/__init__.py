"""Packagers: which code goes with a job, and how. Each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_run.core.packaging.base import Packager as Packager
    from nemo_run.core.packaging.git import GitArchivePackager as GitArchivePackager
    from nemo_run.core.packaging.hybrid import (
        ConditionalPackager as ConditionalPackager,
        HybridPackager as HybridPackager,
    )
    from nemo_run.core.packaging.pattern import PatternPackager as PatternPackager

_MODULE_OF = {
    "ConditionalPackager": "hybrid",
    "GitArchivePackager": "git",
    "HybridPackager": "hybrid",
    "Packager": "base",
    "PatternPackager": "pattern",
}

if not TYPE_CHECKING:  # so that type checkers find misspelt names

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
