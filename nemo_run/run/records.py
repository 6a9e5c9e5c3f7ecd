"""What is stored of an experiment, as data: what it is, and how far its tasks have come."""

from __future__ import annotations

import math
import reprlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.errors import JobNotFoundError

_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "bool": (bool,), "int": (int,), "float": _NUMBER, "JobState": (JobState,),
    "int | None": (int, NoneType), "float | None": (*_NUMBER, NoneType),
}  # fmt: skip
_TIMES = ("created", "submitted", "started", "ended", "retry_at", "expected")
_DURATIONS = ("retry_delay", "timeout", "restart_within", "restart_delay")
_LATEST = 1e11  # seconds since the epoch that the system can still show as a date
_MOST_GPUS = 1e9  # that anybody has
_LONGEST = 1e20  # seconds of all of them


def check_types(record: Any) -> None:
    """Check that what was read from a file is what the record's annotations say, so that nobody has to later.

    Raises:
        TypeError: A value is of another type; the message names its field.
    """
    for part in fields(record):
        value = getattr(record, part.name)
        if (allowed := _TYPES.get(str(part.type))) and not isinstance(value, allowed):
            raise TypeError(f"{part.name} is {reprlib.repr(value)}, not {part.type}")
        if part.type == "tuple[str, ...]" and not all(isinstance(item, str) for item in value):
            raise TypeError(f"{part.name} is {reprlib.repr(value)}, not a list of texts")
        if part.name in _DURATIONS and not 0 <= value < math.inf:
            raise TypeError(f"{part.name} is {value!r}, not a number of seconds")
        if part.name in _TIMES:
            _check_time(part.name, value)
        if part.name == "gpus" and not 0 <= value < _MOST_GPUS:
            raise TypeError(f"{part.name} is {reprlib.repr(value)}, not a number of GPUs")


def _check_time(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, _NUMBER) and 0 <= value < _LATEST):
        raise TypeError(f"{name} is {reprlib.repr(value)}, not a time")


FORMAT = 1
"""Of what this version writes."""


@dataclass(frozen=True)
class TaskDefinition:
    """One task of a job: where its files are, and where it runs.

    Attributes:
        name: Name of the task as it is shown.
        directory: Its folder, relative to that of the experiment.
        executor: Kind of the executor.
        retries: How often it is tried again after a failure.
        retry_delay: Seconds before the first retry.
        artifacts: Patterns of files below its working directory to collect when it has ended.
        timeout: Seconds that one try may run; 0 for any time.
        restart_on: Causes of an end after which it is restarted.
        restart_max: How often it is restarted at most.
        restart_within: For how many seconds after its first begin; 0 for any time.
        restart_delay: Seconds before a restart.
        gpus: GPUs that it has, on all of its nodes together.
        artifacts_to: Where copies of its artifacts go; empty for nowhere.
    """

    name: str
    directory: str
    executor: str
    retries: int = 0
    retry_delay: float = 1.0
    artifacts: tuple[str, ...] = ()
    timeout: float = 0.0
    artifacts_to: str = ""
    restart_on: tuple[str, ...] = ()
    restart_max: int = 0
    restart_within: float = 0.0
    restart_delay: float = 0.0
    gpus: int = 0


@dataclass(frozen=True)
class JobDefinition:
    """One job of an experiment: a task, or a group of tasks that run at once.

    Attributes:
        waits_for: What it waits for in its dependencies: ``"success"``, ``"failure"``, ``"end"`` or ``"start"``.
        inputs: Ids of the jobs that it takes the outputs of.
        mapped: Name of the map or sweep that it is one of; empty where it is none.
    """

    id: str
    name: str
    directory: str
    tasks: tuple[TaskDefinition, ...]
    dependencies: tuple[str, ...] = ()
    group: bool = False
    end_group_on: str = "failure"
    tail_logs: bool = False
    waits_for: str = "success"
    inputs: tuple[str, ...] = ()
    mapped: str = ""

    def may_start(self, dependency: JobState) -> bool | None:
        """Check whether the state of a dependency lets this job start; ``None`` where that is not decided yet."""
        if self.waits_for == "start" and dependency is JobState.RUNNING:
            return True
        if not dependency.is_final:
            return None
        succeeded = dependency is JobState.SUCCEEDED
        return {"success": succeeded, "failure": not succeeded}.get(self.waits_for, True)


@dataclass(frozen=True)
class Definition:
    """What was asked for when the experiment was launched."""

    id: str
    title: str
    created: float
    jobs: tuple[JobDefinition, ...] = ()
    max_parallel: int | None = None
    format: int = FORMAT

    @property
    def directories(self) -> list[str]:
        """The folders of all tasks, relative to that of the experiment."""
        return [task.directory for job in self.jobs for task in job.tasks]

    def job(self, job_id: str) -> JobDefinition:
        """Return the job with this id."""
        for job in self.jobs:
            if job.id == job_id:
                return job
        raise JobNotFoundError(
            f"experiment {self.id!r} has no job {job_id!r}; it has: {', '.join(job.id for job in self.jobs) or 'none'}"
        )


@dataclass
class TaskProgress:
    """How far one task is. ``attempt`` counts from 1; 0 means that it was never submitted.

    ``tries`` counts attempts but for restarts, ``restarts`` those; ``cause`` says what ended the last attempt, if
    that was not its program. ``expected`` says when it begins, where the engine of a waiting task tells.
    """

    state: JobState = JobState.UNSUBMITTED
    attempt: int = 0
    handle: str = ""
    exit_code: int | None = None
    reason: str = ""
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    node: str = ""
    retry_at: float | None = None
    tries: int = 0
    restarts: int = 0
    cause: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    expected: float | None = None

    def update(self, status: TaskStatus) -> bool:
        """Take over what the engine says; whether that changed anything."""
        before = (self.state, self.exit_code, self.reason, self.started, self.node)
        self.state, self.exit_code, self.reason = status.state, status.exit_code, status.reason
        self.cause = status.known_cause if status.state is JobState.FAILED else ""
        self.expected = status.expected
        self.started = status.started or self.started
        self.ended = status.ended
        self.node = status.node or self.node
        return before != (self.state, self.exit_code, self.reason, self.started, self.node)

    def ran(self) -> Iterator[tuple[str, float]]:
        """Yield the handle of every attempt that has started, and the seconds for which it ran, until now."""
        for entry in self.history:
            ended = entry.get("ended") or 0.0
            yield entry["handle"], max(ended - (entry.get("started") or ended), 0.0)
        if self.started:
            yield self.handle, max((self.ended or time.time()) - self.started, 0.0)


# The state of a job is the first of these that one of its tasks is in.
_PRECEDENCE = (
    JobState.UNKNOWN, JobState.RUNNING, JobState.PENDING, JobState.SUBMITTED, JobState.UNSUBMITTED, JobState.FAILED,
    JobState.CANCELLED,
)  # fmt: skip


@dataclass
class JobProgress:
    """How far one job is.

    Attributes:
        tasks: Its tasks.
        mark: That the handles were written by the user who launched it, where it was read from a file.
    """

    tasks: list[TaskProgress]
    mark: str = ""

    @property
    def state(self) -> JobState:
        """State of the job as a whole."""
        states = {task.state for task in self.tasks}
        first = next((state for state in _PRECEDENCE if state in states), JobState.SUCCEEDED)
        if first is JobState.UNSUBMITTED and any(task.tries for task in self.tasks):
            return JobState.PENDING
        return first

    @property
    def exit_code(self) -> int | None:
        """Exit code of the task that decided the job's end."""
        return self._deciding.exit_code

    @property
    def reason(self) -> str:
        """Why the job is in its state."""
        return self._deciding.reason

    @property
    def _deciding(self) -> TaskProgress:
        same = [task for task in self.tasks if task.state == self.state] or self.tasks
        return min(same, key=lambda task: task.ended or float("inf"))

    @property
    def started(self) -> float | None:
        """When the first task began to run."""
        return min((task.started for task in self.tasks if task.started), default=None)

    @property
    def ended(self) -> float | None:
        """When the last task ended; ``None`` before that."""
        ends = [task.ended for task in self.tasks]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def handles(self) -> list[list[str]]:
        """The handles of all attempts of every task, the earliest first."""
        return [[*(entry["handle"] for entry in task.history), task.handle] for task in self.tasks]

    def to_json(self) -> dict[str, Any]:
        """Return the progress as a JSON object, states by their names."""
        return {"tasks": [{**asdict(task), "state": task.state.name} for task in self.tasks]}

    @classmethod
    def from_json(cls, doc: dict[str, Any]) -> JobProgress:
        """Return the progress that :meth:`to_json` described."""
        tasks = [TaskProgress(**{**task, "state": JobState[task["state"]]}) for task in doc["tasks"]]
        for task in tasks:
            check_types(task)
            for entry in task.history:
                if not isinstance(entry["handle"], str):
                    raise TypeError("history has a handle that is no text")
                for name in ("started", "ended"):
                    _check_time(name, entry.get(name))
                if not isinstance(entry.get("attempt", 0), int):
                    raise TypeError("history has an attempt that is no number")
        return cls(tasks, str(doc.get("mark", "")))


def not_run_reason(dependency: str, progress: JobProgress) -> str:
    """Return why a job does not run whose dependency did not succeed."""
    code = "" if progress.exit_code is None else f" with exit code {progress.exit_code}"
    return f"not run: its dependency {dependency!r} ended as {progress.state}{code}"


def summary(definition: Definition, progress: dict[str, JobProgress]) -> dict[str, Any]:
    """Return an experiment in a few words: its state as a whole, and how many jobs are in which state."""
    states = [job.state for job in progress.values()]
    counts: dict[str, int] = {}
    for state in states:
        counts[state.name] = counts.get(state.name, 0) + 1
    ends = [job.ended for job in progress.values() if job.ended]
    ran = [
        (sum(seconds for _, seconds in its.ran()), task.gpus)
        for job in definition.jobs
        for task, its in zip(job.tasks, progress[job.id].tasks, strict=False)
    ]
    return {
        "state": overall(states).name,
        "counts": counts,
        "ended": max(ends, default=definition.created),
        "seconds": sum(seconds for seconds, _ in ran),
        "gpu_seconds": sum(seconds * gpus for seconds, gpus in ran),
    }


def is_summary(document: dict[str, Any]) -> bool:
    """Check whether a document is what :func:`summary` returns, each value of its type."""
    state, counts, ended = document.get("state"), document.get("counts"), document.get("ended")
    return (
        isinstance(state, str)
        and state in JobState.__members__
        and isinstance(counts, dict)
        and all(name in JobState.__members__ and type(count) is int for name, count in counts.items())
        and isinstance(ended, _NUMBER)
        and 0 <= ended < _LATEST
        and all(_is_long(document.get(name, 0.0)) for name in ("seconds", "gpu_seconds"))
    )


def _is_long(value: Any) -> bool:
    return isinstance(value, _NUMBER) and 0 <= value < _LONGEST


def overall(states: Iterable[JobState]) -> JobState:
    """Return the state of an experiment whose jobs have these states."""
    found = set(states)
    order = (JobState.UNKNOWN, JobState.RUNNING, JobState.PENDING, JobState.SUBMITTED)
    for state in (*order, JobState.UNSUBMITTED, JobState.FAILED, JobState.CANCELLED):
        if state in found:
            return state
    return JobState.SUCCEEDED if found else JobState.UNSUBMITTED
