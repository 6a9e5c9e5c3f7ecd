"""What people see of an experiment: a table of its jobs, the interesting ones first where there are many."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from nemo_run.config.escaping import escaped
from nemo_run.core.execution.jobs import JobState
from nemo_run.run.mapping import lines_of_maps
from nemo_run.run.records import Definition, JobDefinition, JobProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import (
    TableLine,
    TableRow,
    columns_of,
    cut_middle,
    duration,
    in_terminal,
    printable,
    say,
    table,
    wrapped,
)

if TYPE_CHECKING:
    from rich.text import Text

STATE_STYLES = {
    "SUCCEEDED": "green", "FAILED": "bold red", "CANCELLED": "yellow",
    "RUNNING": "cyan", "UNKNOWN": "magenta", "INTERRUPTED": "bold yellow",
}  # fmt: skip
_COLUMNS = ("state", "#", "try", "took", "exit", "executor", "job")
_RIGHT = ("#", "try", "took", "exit")
_MANY = 40  # jobs; of more, a status shows only those that a person has to know of
_SHOWN = 20  # of those

# Which jobs are shown first where not all can be, and what their states are called in a summary.
_ORDER = (
    JobState.FAILED, JobState.UNKNOWN, JobState.RUNNING, JobState.PENDING, JobState.SUBMITTED, JobState.UNSUBMITTED,
    JobState.CANCELLED, JobState.SUCCEEDED,
)  # fmt: skip
_WORDS = {JobState.PENDING: "waiting", JobState.SUBMITTED: "waiting", JobState.UNSUBMITTED: "waiting"}


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
            "exception": _exception(store, job, state),
            "tries": max(task.tries for task in state.tasks),
            "restarts": max(task.restarts for task in state.tasks),
            "expected": min((task.expected for task in state.tasks if task.expected), default=None),
            "cause": next((task.cause for task in state.tasks if task.cause), ""),
            "started": state.started,
            "ended": state.ended,
            "node": state.tasks[0].node,
            "dependencies": list(job.dependencies),
            "mapped": job.mapped,
        }
    return result


def _exception(store: ExperimentStore, job: JobDefinition, progress: JobProgress) -> dict[str, Any] | None:
    if progress.state is not JobState.FAILED:
        return None
    from nemo_run.run.results import job_exception

    found = job_exception(store, job, progress.tasks)
    return dataclasses.asdict(found) if found else None


def counts(states: Iterable[JobState]) -> str:
    """Return how many jobs are in which state.

    >>> counts([JobState.RUNNING, JobState.UNSUBMITTED, JobState.RUNNING])
    '2 running, 1 waiting'
    """
    found = Counter(_WORDS.get(state, state.name.lower()) for state in states)
    return ", ".join(f"{found[word]} {word}" for word in _words_in_order() if found[word])


def _words_in_order() -> Sequence[str]:
    first = ("running", "waiting")
    return (*first, *(state.name.lower() for state in _ORDER if state not in _WORDS and state is not JobState.RUNNING))


def table_of_jobs(
    definition: Definition, progress: Mapping[str, JobProgress], room: int | None, shown: Sequence[JobDefinition]
) -> list[TableLine]:
    """Return the table of some jobs.

    Args:
        definition: The experiment.
        progress: How far its jobs are.
        room: Columns of the terminal, or ``None``.
        shown: Jobs that have a row.
    """
    now = time.time()
    numbers = {job.id: str(number) for number, job in enumerate(definition.jobs)}
    rows = [_row(numbers[job.id], job, progress[job.id], now) for job in shown]
    return table(_COLUMNS, _without_constants(rows), room, _RIGHT) if rows else []


def _row(number: str, job: JobDefinition, progress: JobProgress, now: float) -> TableRow:
    took = "" if progress.started is None else duration((progress.ended or now) - progress.started)
    tries = max(task.tries for task in progress.tasks)
    code = "" if progress.exit_code is None else str(progress.exit_code)
    reason = "" if progress.reason == f"exit code {code}" else progress.reason
    if progress.state is JobState.UNSUBMITTED:
        reason = reason or _waits_for(job.dependencies)
    return TableRow((str(progress.state), number, str(tries or ""), took, code, job.tasks[0].executor, job.id), reason)


def _waits_for(dependencies: Sequence[str]) -> str:
    if not dependencies:
        return ""
    more = f" and {len(dependencies) - 2} more" if len(dependencies) > 2 else ""
    return f"after {', '.join(cut_middle(name, 30) for name in dependencies[:2])}{more}"


def _without_constants(rows: Sequence[TableRow]) -> list[TableRow]:
    """Return the rows without what says nothing: first tries, exit codes of 0, and an executor that is that of all."""
    usual = {2: {"", "1"}, 4: {"", "0"}, 5: {rows[0].cells[5]}}
    dull = [i for i, values in usual.items() if {row.cells[i] for row in rows} <= values]
    return [TableRow(tuple("" if i in dull else cell for i, cell in enumerate(row.cells)), row.note) for row in rows]


def summary_of_jobs(definition: Definition, progress: Mapping[str, JobProgress], shown: int) -> str:
    """Return how many jobs are in which state, where so many of them have a row."""
    jobs = definition.jobs
    executors = sorted({job.tasks[0].executor for job in jobs})
    where = f" on {printable(', '.join(executors))}" if len(executors) <= 2 else ""
    some = f" ({shown or 'none'} of {len(jobs)} shown)" if shown < len(jobs) else ""
    return f"{counts(progress[job.id].state for job in jobs)}{some}{where}"


def by_interest(
    jobs: Sequence[JobDefinition], progress: Mapping[str, JobProgress], room: int
) -> Sequence[JobDefinition]:
    """Return so many jobs: those that failed, then those that run, that wait and that succeeded."""
    first = sorted(jobs, key=lambda job: _ORDER.index(progress[job.id].state))[:room]
    chosen = {job.id for job in first}
    return [job for job in jobs if job.id in chosen]


def _worth_showing(definition: Definition, progress: Mapping[str, JobProgress]) -> list[JobDefinition]:
    if len(definition.jobs) <= _MANY:
        return list(definition.jobs)
    notable = (JobState.FAILED, JobState.UNKNOWN, JobState.RUNNING)
    return [job for job in by_interest(definition.jobs, progress, _SHOWN) if progress[job.id].state in notable]


def print_status(
    definition: Definition,
    progress: Mapping[str, JobProgress],
    stream: TextIO | None = None,
    *,
    every: bool = False,
    hint: str = "",
) -> None:
    """Print the table of the jobs.

    Args:
        definition: The experiment.
        progress: How far its jobs are.
        stream: Where to; standard output by default.
        every: Show every job, however many there are.
        hint: What else there is to say of the experiment.
    """
    stream = stream or sys.stdout
    print_lines(status_lines(definition, progress, columns_of(stream), every=every, hint=hint), stream)


def status_lines(
    definition: Definition,
    progress: Mapping[str, JobProgress],
    room: int | None,
    *,
    every: bool = False,
    hint: str = "",
) -> list[TableLine]:
    """Return what :func:`print_status` prints, for so many columns."""
    shown = list(definition.jobs) if every else _worth_showing(definition, progress)
    lines = [TableLine(f"experiment {printable(definition.id)}")]
    lines += table_of_jobs(definition, progress, room, shown)
    summary = summary_of_jobs(definition, progress, len(shown))
    for text in (*map(printable, lines_of_maps(definition, progress)), summary):
        lines += wrapped(text, room)
    if len(shown) < len(definition.jobs):
        lines.append(TableLine(f"see all of them: nemorun experiment status {printable(definition.id)} --all"))
    if hint:
        lines.append(TableLine(f"INTERRUPTED: {hint}", "INTERRUPTED"))
    return lines


def print_lines(lines: Sequence[TableLine], stream: TextIO) -> None:
    """Print lines, their states in colours where there are any."""
    if not in_terminal(stream):
        say("\n".join(line.text for line in lines), stream)
        return
    from rich.console import Console

    Console(file=stream, highlight=False, soft_wrap=True).print(in_colours(lines))


def in_colours(lines: Sequence[TableLine]) -> Text:
    """Return lines for Rich."""
    from rich.text import Text

    text = Text(overflow="crop", no_wrap=True)
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        text.append(escaped(line.text[: len(line.state)]), STATE_STYLES.get(line.state))
        text.append(escaped(line.text[len(line.state) :]))
    return text
