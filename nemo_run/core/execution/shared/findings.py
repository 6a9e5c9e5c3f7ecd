"""What was found where somebody looked at an engine before a first task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: The thing.
        state: ``"ok"``, ``"note"`` or ``"broken"``.
        text: What was found, and what to do where it is broken.
    """

    what: str
    state: str
    text: str


class Load(NamedTuple):
    """How busy an engine is.

    Attributes:
        free_nodes: Nodes on which nothing runs; ``None`` where nobody knows.
        free_gpus: GPUs that no job has.
        start: When a job would start, in seconds since 1970; ``None`` where there is no estimate.
        why: Why there is none.
        is_broken: The engine cannot be asked, or refuses the job.
    """

    free_nodes: int | None = None
    free_gpus: int | None = None
    start: float | None = None
    why: str = ""
    is_broken: bool = False


class Examined:
    """What can be asked of an engine before a first task, with the answers of one that has nothing to tell."""

    def examine(self) -> Iterable[Finding]:
        """Look at the engine before a first task, and return what was found; nothing where there is nothing to tell."""
        return ()

    def load(self) -> Load:
        """Return how busy the engine is, and when a job of this executor would start, as far as it can be known."""
        return Load(why="this engine gives no estimate of when a job starts")
