"""What notebooks show: the status of experiments and jobs as HTML, in a cell that changes while they run."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nemo_run.run.display import STATE_STYLES
from nemo_run.run.terminal import TableLine, printable

_EVERY = 0.5  # seconds between two changes of a cell
_COLOURS = {"green": "#15803d", "red": "#b91c1c", "yellow": "#a16207", "cyan": "#0e7490", "blue": "#1d4ed8"}


def in_notebook() -> bool:
    """Check whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def lines_as_html(lines: Sequence[TableLine]) -> str:
    """Return the lines of a table as HTML, their states in colours."""
    return f'<pre style="line-height: 1.3">{chr(10).join(map(_line, lines))}</pre>'


def _line(line: TableLine) -> str:
    state, rest = line.text[: len(line.state)], line.text[len(line.state) :]
    style = STATE_STYLES.get(line.state, "").rpartition(" ")[2]
    import html

    shown = f'<b style="color: {_COLOURS.get(style, "inherit")}">{html.escape(printable(state))}</b>' if state else ""
    return shown + html.escape(printable(rest))


def end_as_html(job: str, state: str, exit_code: int | None, reason: str, log: Sequence[str] = ()) -> str:
    """Return how a job ended, or how far it is, as HTML: with why, and with the end of its log."""
    code = f", exit code {exit_code}" if exit_code else ""
    why = f": {reason}" if reason else ""
    return lines_as_html([TableLine(f"{state}  {printable(job)}{code}{why}", state), *map(TableLine, log)])


@contextlib.contextmanager
def changing_cell(lines: Callable[[], Sequence[TableLine]]) -> Iterator[None]:
    """Show lines in the output of the cell that runs, and keep them as they are at last.

    Args:
        lines: Returns what is to be shown now.
    """
    from IPython.display import HTML, display

    cell: Any = display(HTML(lines_as_html(lines())), display_id=True)
    over = threading.Event()

    def change() -> None:
        while not over.wait(_EVERY):
            cell.update(HTML(lines_as_html(lines())))

    changing = threading.Thread(target=change, name="nemo-run-cell", daemon=True)
    changing.start()
    try:
        yield
    finally:
        over.set()
        changing.join()
        cell.update(HTML(lines_as_html(lines())))
