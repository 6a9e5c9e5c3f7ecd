"""The progress of an experiment while it runs: a table that changes in a terminal, lines anywhere else."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.display import by_interest, counts, in_colours, summary_of_jobs, table_of_jobs
from nemo_run.run.notebook import changing_cell, in_notebook
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskProgress
from nemo_run.run.screen import Screen
from nemo_run.run.terminal import TableLine, columns_of, cut_middle, in_terminal, printable, wrapped

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_FEW = 20  # jobs whose every step is a line
_FAILURES = 10  # jobs of more that are told when they fail
_AGAIN = 10.0  # seconds between two summaries of many jobs


class ProgressView:
    """Shows the progress of an experiment while it runs: a table that changes in a terminal, lines elsewhere."""

    def __init__(
        self,
        definition: Definition,
        *,
        live: bool = True,
        stream: TextIO | None = None,
        screen: Screen | None = None,
    ) -> None:
        """Show the progress.

        Args:
            definition: The experiment.
            live: Draw a changing table where that is possible; lines if not.
            stream: Where to; standard error by default.
            screen: What logs are shown on at the same time.
        """
        self._definition = definition
        self._stream = stream or sys.stderr
        self._screen = screen or Screen()
        self._seen: dict[str, tuple[JobState, str]] = {}
        self._failures = 0
        self._summed_up = time.monotonic()
        self._progress = {job.id: JobProgress([TaskProgress() for _ in job.tasks]) for job in definition.jobs}
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._cell = contextlib.ExitStack()
        self._in_cell = live and stream is None and in_notebook()
        self._wants_live = live and in_terminal(self._stream)

    def __enter__(self) -> ProgressView:
        if self._in_cell:
            self._cell.enter_context(changing_cell(self._lines))
        elif self._wants_live:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream, highlight=False)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_drawing()

    def stop_drawing(self) -> None:
        """Leave the terminal alone; what follows is told in lines."""
        self._cell.close()
        self._in_cell = False
        if self._live:
            self._live.stop()
            self._live = None

    def _table(self) -> Text:
        return in_colours(self._lines())

    def _lines(self) -> list[TableLine]:
        with self._lock:
            progress = dict(self._progress)
        room = columns_of(self._stream) or 80
        below = len(wrapped(summary_of_jobs(self._definition, progress, 0), room))
        height = max(shutil.get_terminal_size().lines - 4 - below, 5)
        shown = by_interest(self._definition.jobs, progress, height)
        lines = table_of_jobs(self._definition, progress, room, shown)
        while len(lines) > height + 1 and len(shown) > 1:  # reasons take lines, too
            shown = by_interest(shown, progress, len(shown) - 1)
            lines = table_of_jobs(self._definition, progress, room, shown)
        title = cut_middle(f"experiment {printable(self._definition.id)}", room)
        summary = wrapped(summary_of_jobs(self._definition, progress, len(shown)), room)
        return [TableLine(title), *lines[: height + 1], *summary]

    def update_all(self, progress: Mapping[str, JobProgress]) -> None:
        """Take notice of the progress of several jobs."""
        for job in self._definition.jobs:
            if job.id in progress:
                self.update(job, progress[job.id])

    def update(self, job: JobDefinition, progress: JobProgress) -> None:
        """Take notice of a job's progress."""
        with self._lock:
            self._progress[job.id] = progress
        if not self._live and not self._in_cell:
            self._tell(job, progress)

    def _tell(self, job: JobDefinition, progress: JobProgress) -> None:
        seen = (progress.state, progress.reason)
        if self._seen.get(job.id) == seen or progress.state in (JobState.UNSUBMITTED, JobState.SUBMITTED):
            return
        self._seen[job.id] = seen
        if len(self._definition.jobs) <= _FEW or self._is_notable(progress):
            code = f" with exit code {progress.exit_code}" if progress.exit_code else ""
            why = f": {progress.reason}" if progress.reason else ""
            self._say(f"{progress.state} {self._name(job)}{code}{printable(why)}")
        elif time.monotonic() - self._summed_up >= _AGAIN:
            self._summed_up = time.monotonic()
            self._say(counts(one.state for one in self._progress.values()))

    def _name(self, job: JobDefinition) -> str:
        room = columns_of(self._stream)
        return cut_middle(printable(job.id), max(room - 20, 20)) if room else printable(job.id)

    def _is_notable(self, progress: JobProgress) -> bool:
        self._failures += progress.state is JobState.FAILED
        return progress.state is JobState.FAILED and self._failures <= _FAILURES

    def _say(self, text: str) -> None:
        self._screen.say(f"{time.strftime('%H:%M:%S')} {text}", self._stream)
