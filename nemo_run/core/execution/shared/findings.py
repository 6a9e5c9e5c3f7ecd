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
