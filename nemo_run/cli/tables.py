"""Tables in a terminal: no line is longer than it, names are cut in the middle, numbers never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from nemo_run.run.terminal import TableLine, aligned, fitted, printable, width, with_note


def drawn(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    room: int,
    *,
    right: Sequence[str],
    styles: Mapping[str, str],
    below: str,
) -> Text:
    """Return a table for a terminal; its state comes first, and columns for which there is no room stand below a row.

    Args:
        columns: Names of the columns; one that is empty throughout is left out.
        rows: Its cells.
        room: Columns of the terminal.
        right: Columns that are aligned to the right, and never cut.
        styles: Styles of the cells with these texts.
        below: A column whose text stands behind its row or below it.
    """
    cells = [[printable(cell) for cell in row] for row in (columns, *rows)]
    places, moved = _places(cells, room, right, below)
    text = Text(no_wrap=True)
    for row in cells:
        parts = [aligned(row[i], size, right=columns[i] in right) for i, size in places]
        heads = row is cells[0]
        _append(text, parts, ["bold" if heads else styles.get(row[i], "") for i, _ in places])
        note = "" if heads else _note(columns, row, moved, below)
        text.append("".join(_behind("  ".join(parts).rstrip(), note, room)))
        text.append("" if row is cells[-1] else "\n")
    return text


def _places(
    cells: Sequence[Sequence[str]], room: int, right: Sequence[str], below: str
) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the columns that are shown, with their widths, and those that have no room."""
    columns = cells[0]
    shown = [i for i, name in enumerate(columns) if name != below and (i == 0 or any(row[i] for row in cells[1:]))]
    shown.sort(key=lambda i: columns[i] != "state")
    moved: list[int] = []
    while (widths := _widths(cells, shown, room, right)) is None and len(shown) > 1:
        moved.insert(0, shown.pop())
    return list(zip(shown, widths or [room], strict=True)), moved


def _note(columns: Sequence[str], row: Sequence[str], moved: Sequence[int], below: str) -> str:
    said = [f"{columns[i]} {row[i]}" for i in moved if row[i]]
    return ", ".join([*said, *(cell for name, cell in zip(columns, row, strict=True) if name == below and cell)])


def _widths(cells: Sequence[Sequence[str]], shown: Sequence[int], room: int, right: Sequence[str]) -> list[int] | None:
    widths = [max(width(row[i]) for row in cells) for i in shown]
    return fitted(widths, room, [cells[0][i] not in right for i in shown])


def _append(text: Text, parts: Sequence[str], looks: Sequence[str]) -> None:
    for number, (part, style) in enumerate(zip(parts, looks, strict=True)):
        last = number == len(parts) - 1
        text.append("  " if number else "")
        text.append(part.rstrip() if last else part, style)


def _behind(line: str, note: str, room: int) -> list[str]:
    """Return what follows a line: its note, behind it or in lines of their own."""
    first, *others = with_note(TableLine(line), note, room)
    return [first.text[len(line) :], *(f"\n{one.text}" for one in others)]
