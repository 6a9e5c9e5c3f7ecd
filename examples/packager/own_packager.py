"""A packager: the Python files of a folder, and a file that is made at the launch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.packaging import PatternPackager
from nemo_run.core.packaging.archive import Entry


@dataclass(kw_only=True)
class Stamped(PatternPackager):
    """What the patterns name, and ``BUILT``.

    Attributes:
        by: What is written there.
    """

    by: str = "own_packager"

    def entries(self, path: Path) -> Iterator[Entry]:
        """Return what is packaged."""
        yield from super().entries(path)
        yield Entry.file("BUILT", f"built by {self.by}\n".encode())
