"""Writing for people: to a terminal or to a file, in plain text."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from nemo_run.config.escaping import escaped

_LEAST = 20  # columns that a name gets, however narrow the terminal is


def in_terminal(stream: TextIO) -> bool:
    """Check whether a person with a terminal that can draw looks at this stream."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "")


def columns_of(stream: TextIO) -> int | None:
    """Return how many columns a terminal has; ``None`` for what is no terminal, where lines may be of any length."""
    if not in_terminal(stream):
        return None
    with contextlib.suppress(OSError, ValueError):
        if not os.environ.get("COLUMNS"):
            return os.get_terminal_size(stream.fileno()).columns or 80
    return shutil.get_terminal_size().columns


def say(text: str, stream: TextIO) -> None:
    """Print a line; that its reader has gone away, or that the stream cannot encode it, is no reason to stop."""
    with contextlib.suppress(BrokenPipeError):
        print(encodable(text, stream), file=stream, flush=True)


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with what the stream cannot encode, and what would act on a terminal, as escapes."""
    encoding = stream.encoding or "utf-8"  # none where the text stays in memory
    return escaped(text).encode(encoding, "backslashreplace").decode(encoding)


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


def ago(moment: float, now: float) -> str:
    """Return how long ago something was, as people say it; a date where that is longer than a month.

    >>> ago(0, 30), ago(0, 7300), ago(0, 86400 * 3)
    ('just now', '2 h ago', '3 days ago')
    """
    seconds = now - moment
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    days = int(seconds // 86400)
    if days > 31:
        return time.strftime("%Y-%m-%d", time.localtime(moment))
    return f"{days} days ago" if days > 1 else "1 day ago"


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> width("job"), width("作业")
    (3, 4)
    """
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut_middle(text: str, room: int) -> str:
    """Return a text that takes so many columns at most: names of one kind differ at their ends.

    >>> cut_middle("pretrain_llama3_8b_seed17", 15)
    'pretrai…_seed17'
    """
    if width(text) <= room:
        return text
    end = _beginning(text[::-1], (room - 1) // 2)[::-1]
    return f"{_beginning(text, room - 1 - width(end))}…{end}"


def _beginning(text: str, room: int) -> str:
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > room:
            return text[:index]
    return text


def printable(text: str) -> str:
    r"""Return a text in one line, what is not printable as escapes.

    >>> printable("a\x1b[2J")
    'a\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.replace("\n", " "))


@dataclass(frozen=True)
class TableRow:
    """A row of a table: its cells, the state or the like first and a name last; and what is to be said below it."""

    cells: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class TableLine:
    """A line of a table; ``state`` is what it begins with, to be drawn in a colour, or empty."""

    text: str
    state: str = ""


def table(
    columns: Sequence[str], rows: Sequence[TableRow], room: int | None, right: Sequence[str] = ()
) -> list[TableLine]:
    """Return a table in which no line is longer than the terminal.

    Names, in the last column, are cut in the middle. A note stands behind its row where there is room, or below it.

    Args:
        columns: Names of the columns; one that is empty throughout is left out.
        rows: The rows.
        room: Columns of the terminal; without a bound, a row and its note are one line, with the name as it is.
        right: Columns that are aligned to the right.
    """
    cells = [list(columns), *([printable(cell) for cell in row.cells] for row in rows)]
    last = len(columns) - 1
    kept = [i for i in range(len(columns)) if i in (0, last) or any(line[i] for line in cells[1:])]
    widths = {i: max(width(line[i]) for line in cells) for i in kept}
    if room is not None:
        others = sum(widths[i] + 2 for i in kept if i != last)
        widths[last] = min(widths[last], max(room - others, _LEAST))
    texts = [_line([(line[i], widths[i], columns[i] in right) for i in kept]) for line in cells]
    lines = [TableLine(texts[0])]
    for row, cut, text in zip(rows, cells[1:], texts[1:], strict=True):
        lines += with_note(TableLine(text, cut[0]), printable(row.note), room)
    return lines


def _line(cells: Iterable[tuple[str, int, bool]]) -> str:
    return "  ".join(aligned(text, room, right=right) for text, room, right in cells).rstrip()


def aligned(text: str, room: int, *, right: bool) -> str:
    """Return a text that takes just so many columns, cut in the middle where it is longer."""
    shown = cut_middle(text, room)
    fill = " " * (room - width(shown))
    return fill + shown if right else shown + fill


def with_note(line: TableLine, note: str, room: int | None) -> list[TableLine]:
    """Return a line with what is to be said of it: behind it where there is room, or below."""
    if not note:
        return [line]
    if room is None or width(line.text) + 4 + width(note) <= room:
        return [TableLine(f"{line.text}  ({note})", line.state)]
    import textwrap

    below = textwrap.wrap(note, max(room - 4, _LEAST), break_on_hyphens=False)
    return [line, *(TableLine(f"    {part}") for part in below)]


def fitted(widths: Sequence[int], room: int, may_be_cut: Sequence[bool]) -> list[int] | None:
    """Return widths of columns with which a line fits, the widest being cut most; ``None`` where it cannot.

    >>> fitted([70, 5, 64], 80, [True, False, True])
    [36, 5, 35]
    """
    found = list(widths)
    while sum(found) + 2 * (len(found) - 1) > room:
        left = [i for i, width in enumerate(found) if may_be_cut[i] and width > _LEAST]
        if not left:
            return None
        found[max(left, key=lambda i: (found[i], i))] -= 1
    return found


def wrapped(text: str, room: int | None) -> list[TableLine]:
    """Return a text in as many lines as it needs; without a bound, one line."""
    import textwrap

    return [TableLine(part) for part in textwrap.wrap(text, room or len(text) + 1, break_on_hyphens=False)]


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned text; columns that are empty throughout are left out."""
    lines = [columns, *([escaped(cell.replace("\n", " ")) for cell in row] for row in rows)]
    kept = [cells for i, cells in enumerate(zip(*lines, strict=True)) if i == 0 or not rows or any(cells[1:])]
    return "\n".join("  ".join(line).rstrip() for line in zip(*map(_aligned, kept), strict=True))


def _aligned(cells: Sequence[str]) -> list[str]:
    longest = max(map(len, cells))
    return [cell.ljust(longest) for cell in cells]
