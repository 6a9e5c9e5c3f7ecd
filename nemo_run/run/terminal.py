"""Writing for people: to a terminal or to a file, in plain text."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TextIO


def in_terminal(stream: TextIO) -> bool:
    """Check whether a person with a terminal that can draw looks at this stream."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "")


def say(text: str, stream: TextIO) -> None:
    """Print a line; that its reader has gone away is no reason to stop."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=stream, flush=True)


def duration(seconds: float) -> str:
    """Return a duration as people write it.

    >>> duration(3.24), duration(3725)
    ('3.2s', '1:02:05')
    """
    if seconds < 60:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned text; columns that are empty throughout are left out."""
    keep = [i for i, name in enumerate(columns) if not rows or any(row[i] for row in rows) or name == columns[0]]
    lines = [[columns[i] for i in keep], *([row[i].replace("\n", " ") for i in keep] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keep))]
    aligned = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in aligned)
