"""The tasks of an experiment that is driven: the phase of each, and which of them starts next."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from nemo_run.core.execution.jobs import CONTINUE, JobState, TaskStatus
from nemo_run.run.records import JobDefinition, JobProgress, TaskDefinition, TaskProgress

_COLLECTING = 0.05  # seconds between two looks at artifacts that are being collected
CONTINUED = "continued"
"""Cause of a restart that the task itself has asked for."""
_MAX_DELAY = 60.0  # seconds; retries wait no longer


class Phase(enum.Enum):
    """What is to be done next for a task."""

    WAITING = enum.auto()
    """Wait for the jobs that its job depends on."""
    READY = enum.auto()
    """Start it, as soon as there is room and its engine answers."""
    UNSURE = enum.auto()
    """Ask the engine whether it was submitted: the engine did not answer."""
    RUNNING = enum.auto()
    """Ask the engine how far it is."""
    COLLECTING = enum.auto()
    """Wait for its artifacts; the task itself has ended."""
    RETRYING = enum.auto()
    """Start it again when the time of its retry has come."""
    DONE = enum.auto()
    """Nothing."""


BUSY = (Phase.RUNNING, Phase.COLLECTING)


@dataclass(eq=False)
class DrivenJob:
    """A job that a controller drives.

    Attributes:
        definition: What was asked for.
        progress: How far it is.
        tasks: Its tasks.
        is_cancelled: It was told to end.
    """

    definition: JobDefinition
    progress: JobProgress
    tasks: list[DrivenTask] = field(init=False)
    is_cancelled: bool = False

    def __post_init__(self) -> None:
        pairs = zip(self.definition.tasks, self.progress.tasks, strict=True)
        self.tasks = [DrivenTask(self, definition, progress) for definition, progress in pairs]

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.definition.id

    @property
    def has_begun(self) -> bool:
        """Whether any of its tasks was ever to be submitted."""
        return any(task.progress.attempt for task in self.tasks)

    @property
    def runs_alone(self) -> bool:
        """Whether it runs, and nothing is left for a controller to do when it ends."""
        return all(
            task.phase is Phase.RUNNING
            and not (known.retries or known.artifacts or known.artifacts_to or known.timeout or known.restart_max)
            for task in self.tasks
            for known in (task.definition,)
        )


@dataclass(eq=False)
class DrivenTask:
    """A task that a controller drives.

    Attributes:
        job: Its job.
        definition: What was asked for.
        progress: How far it is, as it is stored.
        phase: What is to be done next; only :class:`Schedule` changes it.
    """

    job: DrivenJob
    definition: TaskDefinition
    progress: TaskProgress
    phase: Phase = Phase.WAITING

    @property
    def can_be_tried_again(self) -> bool:
        """Whether it failed and has retries left."""
        return self.progress.state is JobState.FAILED and self.progress.tries <= self.definition.retries

    @property
    def is_to_go_on(self) -> bool:
        """Whether it was ended from outside, or asks to be continued, and its executor restarts what ends so."""
        task, definition = self.progress, self.definition
        if task.state is not JobState.FAILED or not definition.restart_max:
            return False
        return task.cause in definition.restart_on or task.exit_code == CONTINUE

    def restarts_are_over(self, now: float) -> str:
        """Return why it is not restarted any more; empty if it may be."""
        task, definition = self.progress, self.definition
        if task.restarts >= definition.restart_max:
            return f"it was restarted {task.restarts} times, as often as Restarts.max allows"
        began = min((entry["started"] for entry in task.history if entry["started"]), default=task.started or now)
        if definition.restart_within and now - began > definition.restart_within:
            return f"it began over {definition.restart_within:g} s ago, which is all that Restarts.within allows"
        return ""

    @property
    def restart_variables(self) -> dict[str, str]:
        """The variables that tell a task of its restarts; none for one that is never restarted."""
        if not self.definition.restart_max:
            return {}
        causes = [entry["cause"] for entry in self.progress.history if entry.get("cause")]
        return {"NEMO_RUN_RESTART": str(len(causes)), "NEMO_RUN_RESTART_CAUSE": causes[-1] if causes else ""}

    @property
    def ends_group(self) -> bool:
        """Whether its end is that of all members of its job group."""
        if not self.job.definition.group:
            return False
        state = self.progress.state
        return {"failure": state is JobState.FAILED, "any": state.is_final}.get(self.job.definition.end_group_on, False)

    def is_over_limit(self, now: float) -> bool:
        """Whether this try has run for longer than it may."""
        limit, started = self.definition.timeout, self.progress.started
        return bool(limit and started and now - started >= limit)

    def begin(self, now: float) -> None:
        """Begin the next attempt."""
        task = self.progress
        task.attempt += 1
        task.tries = len(task.history) + 1 - task.restarts
        task.state, task.reason, task.exit_code, task.retry_at = JobState.SUBMITTED, "", None, None
        task.submitted, task.started, task.ended = now, None, None
        task.handle = ""

    def forget_attempt(self) -> None:
        """Go back before the attempt's begin: it was never submitted."""
        task = self.progress
        task.state, task.handle, task.reason = JobState.UNSUBMITTED, "", ""

    def put_back(self) -> None:
        """Go back before the attempt's begin: the engine did not take it, and the same attempt is submitted later."""
        self.forget_attempt()
        self.progress.attempt -= 1

    def end(self, status: TaskStatus, now: float) -> None:
        """Take in how the attempt ended."""
        self.progress.update(status)
        self.progress.ended = status.ended or now

    def give_up(self, why: str) -> None:
        """Say in the reason why it is not restarted any more."""
        task = self.progress
        task.reason = "; ".join(filter(None, (task.reason, why)))

    def end_unrun(self, reason: str, now: float) -> None:
        """End the task as cancelled."""
        task = self.progress
        task.state, task.reason, task.ended, task.retry_at = JobState.CANCELLED, reason, now, None

    def plan_retry(self, now: float) -> float:
        """Keep the attempt that failed in the history, and set when the next one is due; return in how many seconds."""
        task, definition = self.progress, self.definition
        delay: float = min(definition.retry_delay * 2 ** (task.tries - 1), _MAX_DELAY)
        what = task.reason or f"exit code {task.exit_code}"
        self._plan_attempt(f"try {task.tries} of {definition.retries + 1} failed ({what})", now, delay)
        return delay

    def plan_restart(self, now: float) -> float:
        """Keep the attempt that was ended in the history, and set when it is restarted; return in how many seconds."""
        task, delay = self.progress, self.definition.restart_delay
        cause = task.cause or CONTINUED
        self._plan_attempt(f"restart {task.restarts + 1}, {cause}", now, delay)
        task.history[-1]["cause"] = cause
        task.restarts += 1
        return delay

    def _plan_attempt(self, why: str, now: float, delay: float) -> None:
        task = self.progress
        task.history.append(
            {"attempt": task.attempt, "handle": task.handle, "exit_code": task.exit_code, "reason": task.reason,
             "started": task.started, "ended": task.ended}
        )  # fmt: skip
        task.reason = f"{why}; next in {delay:g} s"
        task.state, task.ended, task.retry_at = JobState.PENDING, None, now + delay

    def seconds_to_retry(self, now: float) -> float:
        """Return the seconds until the stored time of its retry; a clock that was set meanwhile makes them no more."""
        longest = max(_MAX_DELAY, self.definition.restart_delay)
        return min(max((self.progress.retry_at or now) - now, 0.0), longest)


class Schedule:
    """The tasks by their phases. What was added first starts first."""

    def __init__(self, jobs: Iterable[DrivenJob], max_parallel: int | None = None) -> None:
        """Begin with every task in the phase that it has.

        Args:
            jobs: The jobs, in the order in which they start.
            max_parallel: How many tasks may be busy at once; the members of a group count, but start together.
        """
        tasks = [task for job in jobs for task in job.tasks]
        self._limit = max_parallel
        self._position = {task: position for position, task in enumerate(tasks)}
        self._tasks: dict[Phase, dict[DrivenTask, None]] = {phase: {} for phase in Phase}  # sets that keep an order
        self._heap: list[tuple[int, DrivenTask]] = []
        self._due: dict[
            DrivenTask, float
        ] = {}  # when those that are to be tried again are, by a clock that is never set
        for task in tasks:
            self._tasks[task.phase][task] = None

    def move(self, task: DrivenTask, phase: Phase) -> None:
        """Give a task another phase, or put a ready one back that :meth:`pop` has returned."""
        del self._tasks[task.phase][task]
        task.phase = phase
        self._tasks[phase][task] = None
        if phase is Phase.READY:
            heapq.heappush(self._heap, (self._position[task], task))

    def retry(self, task: DrivenTask, due: float) -> None:
        """Let a task wait until it is tried again.

        Args:
            task: The task.
            due: When that is, as :func:`time.monotonic` tells it.
        """
        self.move(task, Phase.RETRYING)
        self._due[task] = due

    def having(self, *phases: Phase) -> list[DrivenTask]:
        """Return the tasks that are in one of these phases."""
        return [task for phase in phases for task in self._tasks[phase]]

    def pop(self) -> DrivenTask | None:
        """Return the next ready task, if there is room for it. The caller moves it."""
        while self._heap and self._heap[0][1].phase is not Phase.READY:
            heapq.heappop(self._heap)
        if self._heap and self._has_room(self._heap[0][1].job):
            return heapq.heappop(self._heap)[1]
        return None

    def _has_room(self, job: DrivenJob) -> bool:
        busy = sum(len(self._tasks[phase]) for phase in BUSY)
        if self._limit is None or not busy:
            return True
        if not job.definition.group:
            return busy < self._limit
        return busy + len(job.tasks) <= self._limit or any(task.phase in BUSY for task in job.tasks)

    def make_due_ready(self, now: float) -> None:
        """Make those ready whose time to be tried again has come."""
        for task in self.having(Phase.RETRYING):
            if self._due[task] <= now:
                self.move(task, Phase.READY)

    def pause(self, now: float, longest: float) -> float:
        """Return the seconds until the tasks are to be looked at again."""
        times = [self._due[task] for task in self._tasks[Phase.RETRYING]]
        to_retry = max(0.0, min(times, default=float("inf")) - now)
        return min(longest, to_retry, _COLLECTING if self._tasks[Phase.COLLECTING] else longest)
