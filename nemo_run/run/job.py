"""The jobs of an experiment, as a user holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import JobFailedError, TaskException
from nemo_run.run.records import JobProgress, TaskProgress, overall

if TYPE_CHECKING:
    from nemo_run.config import Partial, Script
    from nemo_run.run.plugin import ExperimentPlugin

AppState = JobState  # its name in existing code


@dataclass(frozen=True)
class JobResult:
    """How a job ended, or how far it is.

    Attributes:
        experiment_id: Id of the experiment; empty where the task ran in this process.
        job_id: The job.
        state: Its state.
        exit_code: Exit code, once there is one.
        reason: Why; may be empty.
        log_tail: The last lines of its log, where it failed.
        exception: What its function raised, as data, where it failed.
    """

    experiment_id: str
    job_id: str
    state: JobState
    exit_code: int | None = None
    reason: str = ""
    log_tail: tuple[str, ...] = ()
    exception: TaskException | None = None
    _read_value: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def value(self) -> Any:
        """What the function returned; a list for a group, ``None`` for a script.

        Raises:
            JobFailedError: The job has not succeeded.
            ResultError: It was too large, or is no plain data: see :meth:`Experiment.result`.
        """
        if not self.ok:
            raise self.failure()
        return self._read_value() if self._read_value else None

    def failure(self) -> JobFailedError:
        """Return the error that says how the job ended."""
        error = JobFailedError(
            self.job_id, self.experiment_id, self.state.name, self.exit_code, self.reason, self.log_tail
        )
        error.exception = self.exception
        return error

    def _repr_html_(self) -> str:
        from nemo_run.run.notebook import end_as_html

        return end_as_html(self.job_id, str(self.state), self.exit_code, self.reason, self.log_tail)

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.state is JobState.SUCCEEDED


class JobOwner(Protocol):
    """What a job asks its experiment."""

    def progress(self, jobs: Sequence[str] | None = None) -> Mapping[str, JobProgress]:
        """Return how far jobs are, by their ids."""
        ...

    def wait(self, jobs: Sequence[str] | None = None) -> Mapping[str, JobProgress]:
        """Wait until jobs have ended."""
        ...

    def logs(self, job_id: str, regex: str | None = None) -> None:
        """Print the log of a job."""
        ...

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        ...

    def result(self, job_id: str, *, unpickle: bool = False, timeout: float | None = None) -> Any:
        """Wait for a job, and return what its function returned."""
        ...


class _Common(ConfigurableMixin):
    """What a job and a job group have in common: all of it asks the experiment."""

    id: str
    name: str
    dependencies: list[str]
    experiment: JobOwner
    _TASKS: ClassVar[str]

    def _repr_html_(self) -> str:
        from nemo_run.run.notebook import end_as_html

        progress = self.experiment.progress([self.id])[self.id]
        return end_as_html(self.id, str(progress.state), progress.exit_code, progress.reason)

    def serialize(self) -> tuple[str, str]:
        """Return the job without its tasks, and the tasks, both as text of ``ZlibJSONSerializer``."""
        from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer

        config = self.to_config()
        tasks = getattr(config, self._TASKS)
        setattr(config, self._TASKS, [None] * len(tasks) if isinstance(tasks, list) else None)
        serializer = ZlibJSONSerializer()
        return serializer.serialize(config), serializer.serialize(tasks)

    def cleanup(self) -> None:
        """Let the executors tidy up, where the job was launched and has ended."""
        handles = getattr(self, "handles", None) or [getattr(self, "handle", "")]
        if all(handles) and getattr(self, "state", JobState.UNSUBMITTED).is_final:
            for (_, executor), handle in zip(self.members, handles, strict=False):
                executor.cleanup(handle)

    @property
    def members(self) -> list[tuple[Partial[Any] | Script, Executor]]:
        """Every task with its executor."""
        raise NotImplementedError

    def status(self, runner: Any = None) -> JobState:
        """Return the state of the job now. ``runner`` is accepted for compatibility and not used."""
        return self.experiment.progress([self.id])[self.id].state

    def logs(self, runner: Any = None, regex: str | None = None) -> None:
        """Print the job's log."""
        self.experiment.logs(self.id, regex=regex)

    def cancel(self, runner: Any = None) -> None:
        """Cancel the job."""
        self.experiment.cancel(self.id)

    def wait(self, runner: Any = None) -> JobState:
        """Wait until the job has ended; its final state."""
        return self.experiment.wait([self.id])[self.id].state

    def result(self, timeout: float | None = None, *, unpickle: bool = False) -> Any:
        """Wait for the job, and return what its function returned: see :meth:`Experiment.result`."""
        return self.experiment.result(self.id, unpickle=unpickle, timeout=timeout)


@dataclass
class Job(_Common):
    """A single task with its executor.

    Attributes:
        id: Unique in the experiment.
        task: What runs.
        executor: Where it runs.
        handle: The engine's handle of the last attempt.
        launched: Whether it was ever submitted.
        state: Its state when it was last looked at.
        plugins: Plugins that changed it when it was added.
        tail_logs: Show its log while the experiment runs.
        dependencies: Ids of the jobs that must have succeeded before.
        name: The name it was given.
        artifacts: Patterns of files to collect from its working directory when it has ended.
        mapped: Name of the map or sweep that it is one of.
        when: What it waits for in its dependencies; empty for what its executor says.
    """

    _TASKS: ClassVar[str] = "task"

    id: str
    task: Partial[Any] | Script
    executor: Executor
    handle: str = ""
    launched: bool = False
    state: JobState = JobState.UNSUBMITTED
    plugins: list[ExperimentPlugin] | None = None
    tail_logs: bool = False
    dependencies: list[str] = field(default_factory=list)
    name: str = ""
    artifacts: list[str] = field(default_factory=list)
    mapped: str = ""
    when: str = ""

    def take_in(self, tasks: Sequence[TaskProgress]) -> None:
        """Take in how far the job is."""
        self.launched = any(task.attempt or task.tries for task in tasks)
        self.handle, self.state = tasks[0].handle, tasks[0].state

    @property
    def members(self) -> list[tuple[Partial[Any] | Script, Executor]]:
        """The task with its executor, as the only member."""
        return [(self.task, self.executor)]


@dataclass
class JobGroup(_Common):
    """Several tasks that run at once.

    Attributes:
        id: Unique in the experiment.
        tasks: What runs.
        executors: Where: one executor for all, or one for each.
        handles: The engine's handles of the last attempts.
        launched: Whether it was ever submitted.
        states: States of the members when they were last looked at.
        plugins: Plugins that changed them when they were added.
        tail_logs: Show their logs while the experiment runs.
        dependencies: Ids of the jobs that must have succeeded before.
        name: The name it was given.
        artifacts: Patterns of files to collect from the working directory of every member when it has ended.
        end_group_on: Whose end ends the other members: ``"failure"`` of one, ``"any"`` end, or ``"never"``.
        when: What it waits for in its dependencies; empty for what its executors say.
    """

    _TASKS: ClassVar[str] = "tasks"

    id: str
    tasks: list[Partial[Any] | Script]
    executors: Executor | list[Executor]
    handles: list[str] = field(default_factory=list)
    launched: bool = False
    states: list[JobState] = field(default_factory=list)
    plugins: list[ExperimentPlugin] | None = None
    tail_logs: bool = False
    dependencies: list[str] = field(default_factory=list)
    name: str = ""
    end_group_on: str = "failure"
    artifacts: list[str] = field(default_factory=list)
    when: str = ""

    def take_in(self, tasks: Sequence[TaskProgress]) -> None:
        """Take in how far the tasks are."""
        self.launched = any(task.attempt or task.tries for task in tasks)
        self.handles, self.states = [task.handle for task in tasks], [task.state for task in tasks]

    @property
    def members(self) -> list[tuple[Partial[Any] | Script, Executor]]:
        """Every task with its executor."""
        executors = self.executors if isinstance(self.executors, list) else [self.executors] * len(self.tasks)
        return list(zip(self.tasks, executors, strict=True))

    @property
    def state(self) -> JobState:
        """State of the group as a whole when it was last looked at."""
        return overall(self.states)

    @property
    def handle(self) -> str:
        """Handle of the first member."""
        return self.handles[0] if self.handles else ""

    @property
    def executor(self) -> Executor:
        """Executor of the first member."""
        return self.members[0][1]
