"""What people see of an experiment: a table of its jobs, and its progress while it runs.

In a terminal they are drawn with Rich; anywhere else they are plain lines, so that a file or a CI log reads well.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.records import Definition, JobDefinition, JobProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import duration, in_terminal, plain_table, say

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.live import Live
    from rich.table import Table

STATE_STYLES = {
    JobState.SUCCEEDED: "green", JobState.FAILED: "bold red", JobState.CANCELLED: "yellow",
    JobState.RUNNING: "cyan", JobState.UNKNOWN: "magenta",
}  # fmt: skip
_COLUMNS = ("#", "job", "state", "try", "elapsed", "exit", "executor", "reason")
_JUSTIFIED: dict[str, JustifyMethod] = dict.fromkeys(("#", "try", "elapsed", "exit"), "right")


def status_document(
    store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress]
) -> dict[str, dict[str, Any]]:
    """Return the status of every job, by its id, for programs."""
    result = {}
    for job in definition.jobs:
        state = progress[job.id]
        handle = state.tasks[0].handle
        result[job.id] = {
            "name": job.id,
            "status": state.state,
            "executor": job.tasks[0].executor,
            "job_id": handle.partition("://")[2],
            "handle": handle,
            "local_dir": str(store.path / job.directory),
            "exit_code": state.exit_code,
            "reason": state.reason,
            "tries": max(task.tries for task in state.tasks),
            "started": state.started,
            "ended": state.ended,
            "node": state.tasks[0].node,
            "dependencies": list(job.dependencies),
        }
    return result


def _row(index: int, job: JobDefinition, progress: JobProgress, now: float) -> tuple[str, ...]:
    elapsed = "" if progress.started is None else duration((progress.ended or now) - progress.started)
    tries = max(task.tries for task in progress.tasks)
    code = "" if progress.exit_code is None else str(progress.exit_code)
    reason = progress.reason
    if progress.state is JobState.UNSUBMITTED:
        reason = reason or _waits_for(job.dependencies)
    return (str(index), job.id, str(progress.state), str(tries or ""), elapsed, code, job.tasks[0].executor, reason)


def _waits_for(dependencies: Sequence[str]) -> str:
    if not dependencies:
        return ""
    more = f" and {len(dependencies) - 2} more" if len(dependencies) > 2 else ""
    return f"after {', '.join(dependencies[:2])}{more}"


def _rows(definition: Definition, progress: Mapping[str, JobProgress]) -> list[tuple[str, ...]]:
    now = time.time()
    return [_row(i, job, progress[job.id], now) for i, job in enumerate(definition.jobs)]


def print_status(definition: Definition, progress: Mapping[str, JobProgress], stream: TextIO | None = None) -> None:
    """Print the table of the jobs."""
    stream = stream or sys.stdout
    rows = _rows(definition, progress)
    if in_terminal(stream):
        from rich.console import Console

        Console(file=stream).print(_rich_table(definition.id, rows))
    else:
        say(f"experiment {definition.id}\n{plain_table(_COLUMNS, rows)}", stream)


def _rich_table(title: str, rows: Sequence[tuple[str, ...]], limit: int | None = None) -> Table:
    from rich.markup import escape
    from rich.table import Table

    keep = [i for i in range(len(_COLUMNS)) if i < 3 or any(row[i] for row in rows)]
    table = Table(title=escape(title), title_justify="left", header_style="bold", expand=False)
    for i in keep:
        table.add_column(_COLUMNS[i], justify=_JUSTIFIED.get(_COLUMNS[i], "left"))
    for row in rows[:limit]:
        cells = list(map(escape, row))
        cells[2] = _styled(row[2])
        table.add_row(*(cells[i] for i in keep))
    table.caption = _counts(rows[limit:]) if limit is not None else None
    return table


def _styled(state: str) -> str:
    style = STATE_STYLES.get(JobState[state])
    return f"[{style}]{state}[/]" if style else state


def _counts(rows: Sequence[tuple[str, ...]]) -> str | None:
    """Return how many further jobs there are, and in which states; nothing where there are none."""
    counts = Counter(row[2] for row in rows)
    return f"and {len(rows)} more: " + ", ".join(f"{n} {state}" for state, n in counts.items()) if rows else None


class ProgressView:
    """Shows the progress of an experiment while it runs: a table that changes in a terminal, lines elsewhere."""

    def __init__(self, definition: Definition, *, live: bool = True, stream: TextIO | None = None) -> None:
        """Show the progress.

        Args:
            definition: The experiment.
            live: Draw a changing table where that is possible; lines if not.
            stream: Where to; standard error by default.
        """
        self._definition = definition
        self._stream = stream or sys.stderr
        self._seen: dict[str, tuple[JobState, str]] = {}
        self._progress: dict[str, JobProgress] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._wants_live = live and in_terminal(self._stream)

    def __enter__(self) -> ProgressView:
        if self._wants_live:
            from rich.console import Console
            from rich.live import Live

            from nemo_run.run.records import TaskProgress

            for job in self._definition.jobs:
                self._progress[job.id] = JobProgress([TaskProgress() for _ in job.tasks])
            console = Console(file=self._stream)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_drawing()

    def stop_drawing(self) -> None:
        """Leave the terminal alone; what follows is told in lines."""
        if self._live:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        with self._lock:
            rows = _rows(self._definition, self._progress)
        room = max(shutil.get_terminal_size().lines - 7, 5)
        if len(rows) > room:  # those that run first, then those that wait, then the ended ones
            order = {"RUNNING": 0, "PENDING": 1, "SUBMITTED": 1, "FAILED": 2, "UNSUBMITTED": 3}
            rows.sort(key=lambda row: order.get(row[2], 4))
        return _rich_table(self._definition.id, rows, room)

    def update_all(self, progress: Mapping[str, JobProgress]) -> None:
        """Take notice of the progress of several jobs."""
        for job in self._definition.jobs:
            if job.id in progress:
                self.update(job, progress[job.id])

    def update(self, job: JobDefinition, progress: JobProgress) -> None:
        """Take notice of a job's progress."""
        if self._live:
            with self._lock:
                self._progress[job.id] = progress
            return
        state, reason = progress.state, progress.reason
        if self._seen.get(job.id) == (state, reason) or state in (JobState.UNSUBMITTED, JobState.SUBMITTED):
            return
        self._seen[job.id] = (state, reason)
        code = f" with exit code {progress.exit_code}" if progress.exit_code else ""
        why = f": {reason}" if reason else ""
        say(f"{time.strftime('%H:%M:%S')} {job.id} {state}{code}{why}", self._stream)
