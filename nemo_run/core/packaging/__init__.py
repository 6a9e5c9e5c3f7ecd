"""Packagers: which code goes with a job, and how. Each is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_run.lazy_names import lazy_names

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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
