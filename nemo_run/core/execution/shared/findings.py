"""What was found where somebody looked at an engine before a first task."""

from __future__ import annotations

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
