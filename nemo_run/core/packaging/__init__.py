"""Packagers: which code goes with a job, and how."""

from __future__ import annotations

from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.core.packaging.hybrid import ConditionalPackager, HybridPackager
from nemo_run.core.packaging.pattern import PatternPackager

__all__ = ["ConditionalPackager", "GitArchivePackager", "HybridPackager", "Packager", "PatternPackager"]
