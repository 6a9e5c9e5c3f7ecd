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
    """Print a line; that its reader has gone away, or that the stream cannot encode it, is no reason to stop."""
    encoding = stream.encoding or "utf-8"  # none where the text stays in memory
    with contextlib.suppress(BrokenPipeError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


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
    table = [columns, *([cell.replace("\n", " ") for cell in row] for row in rows)]
    kept = [cells for i, cells in enumerate(zip(*table, strict=True)) if i == 0 or not rows or any(cells[1:])]
    return "\n".join("  ".join(line).rstrip() for line in zip(*map(_aligned, kept), strict=True))


def _aligned(cells: Sequence[str]) -> list[str]:
    width = max(map(len, cells))
    return [cell.ljust(width) for cell in cells]
