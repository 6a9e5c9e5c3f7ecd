"""The seam between experiments and engines.

An :class:`Executor` is data: all that a user says about *where* a task runs.  A :class:`Backend` is behaviour: it
turns a :class:`TaskRequest` into a :class:`Plan`, submits the plan, and answers for what it submitted.  Plans and
handles are plain JSON values, so that any later process can go on from what is stored.
"""

from __future__ import annotations

import importlib.util
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.config.masking import unveiled
from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.execution import registry
from nemo_run.core.execution.jobs import (
    Command as Command,
    JobState as JobState,
    Plan as Plan,
    TaskStatus as TaskStatus,
    Used as Used,
)
from nemo_run.core.execution.launcher import Launcher, make_launcher
from nemo_run.core.execution.macros import ExecutorMacros as ExecutorMacros
from nemo_run.core.execution.restarts import Restarts
from nemo_run.core.execution.shared.checks import check_variables
from nemo_run.core.execution.shared.findings import Examined
from nemo_run.core.execution.shared.log_reader import LogReader
from nemo_run.core.execution.shared.units import parse_duration
from nemo_run.core.execution.shared.values import check_values
from nemo_run.core.execution.submission import Submission as Submission, one_by_one as one_by_one
from nemo_run.core.images import Image
from nemo_run.core.packaging.archive import extract
from nemo_run.core.packaging.base import Packager
from nemo_run.core.storage import check_storage
from nemo_run.errors import ExecutorError, ExecutorNotFoundError, UnknownExecutorError

if TYPE_CHECKING:
    from typing_extensions import Self

    from nemo_run.core.tunnel.client import Tunnel


@dataclass(frozen=True)
class Capabilities:
    """What an engine does by itself; the controller does the rest.

    Attributes:
        holds_dependencies: It holds a submitted attempt back until others have ended.
        runs_groups: It runs the tasks of a job group as one job of its own.
        shares_files: Tasks see the files of this machine under the same paths.
        retries_itself: It starts a failed task again.
        starts_ray: It starts a Ray cluster around a command ``with_ray``.
        keeps_folders: What a task leaves in its folder is there for its next attempt, on every node of it.
        limits_time: It ends a try that runs for longer than its ``timeout``.
        makes_environments: It runs tasks in an ``environment``.
    """

    holds_dependencies: bool = False
    runs_groups: bool = False
    shares_files: bool = False
    retries_itself: bool = False
    starts_ray: bool = False
    limits_time: bool = False
    makes_environments: bool = False
    keeps_folders: bool = False


class Backend(ABC):
    """Behaviour of one engine. An instance has no state that a new process would miss.

    It is made with the ``connection`` of a plan as keyword arguments, and closed by who made it.
    """

    name: ClassVar[str]
    can: ClassVar[Capabilities] = Capabilities()
    poll_interval: ClassVar[float] = 1.0
    """Seconds between two queries where :meth:`wait` has no event to wait for."""
    at_once: ClassVar[int] = 1
    """How many submissions it takes at a time; more than one where that is faster than one after the other."""

    # to be written for every engine

    @abstractmethod
    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Return the plan of one task, or those of the members of a job group. Pure: reads and writes nothing.

        The variables of a task are those of its command; ``executor.env_vars`` are among them.

        Raises:
            ExecutorError: An executor is another engine's, or its options make no sense for this task.
        """

    @abstractmethod
    def describe(self, plan: Plan) -> str:
        """Return what would be launched, in a form that can be read and copied; secrets masked."""

    @abstractmethod
    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts.

        Returns:
            For each its handle, or why there is none. After an ``EngineUnreachableError`` it may have started;
            after an ``EngineFullError`` it did not, and is to be submitted later.
        """

    @abstractmethod
    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the handle of an attempt that may have been submitted by a process that is gone.

        ``None`` means: it was not, and from now on never will be.
        """

    @abstractmethod
    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Return the status of all these submitted attempts, from one query."""

    @abstractmethod
    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the engine to end these attempts. Ended ones are left as they are."""

    @abstractmethod
    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """Return a reader of the log of an attempt, or of one rank of it; from its last ``tail`` lines on."""

    # to be written where the default does not fit

    @staticmethod
    def why_not_usable() -> str:
        """Return why the engine cannot be used from this machine as it is; empty if it can."""
        return ""

    def preflight(self, plans: Sequence[Plan]) -> None:  # noqa: B027
        """Check that these plans can run, and send ahead what they share, before any of them starts.

        Raises:
            ExecutorError: They cannot; nothing was started.
        """

    def abandon(self, plan: Plan, attempt: int) -> bool:
        """Make sure that an attempt that the engine lost before it began never begins; return whether that is so."""
        return False

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the handle that an attempt will have; empty where only the engine can tell."""
        return ""

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait until some of these attempts may have changed, ``timeout`` seconds at most, and return those."""
        time.sleep(max(0.0, min(timeout, self.poll_interval) if handles else timeout))
        return list(handles)

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own, beside the log of the attempt as a whole."""
        return []

    def rank_that_failed(self, handle: str) -> int | None:
        """Return the rank whose log tells why an attempt failed; ``None`` where that is the log as a whole."""
        return None

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Bring into ``folder`` what an ended attempt left in ``$NEMO_RUN_ARTIFACTS``, if it is not there already.

        Also bring the files below the working directory of the task that match one of the patterns.
        """
        if patterns:
            raise ExecutorError(f"the {self.name} engine does not collect files; write them to $NEMO_RUN_ARTIFACTS")

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """Return the way to where a task runs, and the task's folder there.

        Raises:
            ExecutorError: There is none from this machine.
        """
        raise ExecutorError(
            f"job {plan.job_id!r}: the {self.name} engine has no way to the services of its tasks; "
            "tasks on this machine, on Docker, Slurm and Kubernetes have one"
        )

    def run_beside(self, plan: Plan, handle: str, argv: Sequence[str], rank: int = 0) -> int:
        """Run a program where an attempt runs, with this terminal where there is one, and return its exit code.

        Args:
            plan: What the attempt runs.
            handle: The attempt, which has not ended.
            argv: The program; a shell where it is empty.
            rank: Of a task with several processes, the one that it runs beside.

        Raises:
            ExecutorError: It cannot be started there.
        """
        raise ExecutorError(
            f"job {plan.job_id!r}: the {self.name} engine starts nothing where its tasks run; "
            "tasks on this machine, on Docker, Slurm and Kubernetes have shells"
        )

    def used(self, handles: Sequence[str]) -> dict[str, Used]:
        """Return what the engine accounts for attempts; only those that it has accounts of."""
        return {}

    def environment(self, plan: Plan) -> dict[str, str]:
        """Return the variables that a task is given, secrets among them; by default ``env`` of the spec."""
        return dict(plan.spec.get("env", {}))

    def with_variables(self, plan: Plan, variables: Mapping[str, str]) -> Plan:
        """Return the plan with further variables for its task; by default in ``env`` of the spec. Pure."""
        return replace(plan, spec={**plan.spec, "env": {**plan.spec.get("env", {}), **variables}})

    def relocated(self, plan: Plan, roots: Mapping[str, str]) -> Plan:
        """Return the plan with folders of code on this machine replaced by others; itself where it uses none. Pure."""
        return plan

    def provide_image(self, image: Image) -> None:
        """Build an image, unless there is one with this content, and push it where it asks for that."""
        raise ExecutorError(f"the {self.name} engine builds no images")

    def close(self) -> None:  # noqa: B027
        """Close connections and end helper processes; submitted attempts go on."""

    def start(self, plan: Plan, attempt: int = 1) -> str:
        """Start one attempt and return its handle.

        Raises:
            ExecutorError: It was not started.
        """
        (answer,) = self.submit([Submission(plan, attempt)])
        if isinstance(answer, ExecutorError):
            raise answer
        return answer


@dataclass(kw_only=True)
class Executor(ConfigurableMixin, Examined):
    """Where a task runs. Data only; :meth:`backend` gives the behaviour.

    Attributes:
        packager: How the code that the task needs is packed.
        launcher: How the processes of a task are started: ``None``, ``"torchrun"``, ``"ft"``, or a launcher.
        env_vars: Environment variables of the task; names keep their case, values arrive byte for byte.
        retries: How often a failed task is tried again.
        retry_delay: Seconds before the first retry; it doubles with every further one, up to a minute.
        timeout: How long one try may run, in seconds or as ``"90m"``, ``"02:00:00"``; then it is ended as a
            cancelled one is, and has failed for its time limit.
        artifacts_to: Where its artifacts are copied, too: a folder, or ``"s3://bucket/path"``, ``"gs://…"``.
        environment: What the task depends on: a ``uv.lock``, ``pyproject.toml`` or ``requirements.txt``, or ``"auto"``
            for that of the packaged code. It becomes a virtual environment where the task runs, made once for all that
            need the same.
        wheels: Folder, where the task runs, of wheels from which alone the environment is made.
        restarts: When a task is restarted that preemption, a time limit or a lost node has ended.
        experiment_id: Set by the experiment.
        job_dir: Set by the experiment.
        experiment_dir: Set by the experiment.
    """

    engine: ClassVar[str] = ""

    packager: Packager = field(default_factory=Packager)
    launcher: Launcher | str | None = None
    env_vars: dict[str, str] = field(default_factory=dict)
    retries: int = 0
    experiment_id: str | None = None
    job_dir: str = ""
    experiment_dir: str = field(init=False, default="")
    retry_delay: float = 1.0
    timeout: float | str | None = None
    artifacts_to: str | None = None
    environment: str | None = None
    wheels: str = ""
    restarts: Restarts | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):  # that of a dataclass shows all
            cls.__repr__ = Executor.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        values = {part.name: getattr(self, part.name) for part in fields(self) if part.repr}
        return unveiled(f"{type(self).__qualname__}({', '.join(f'{k}={v!r}' for k, v in values.items())})", values)

    def connection(self) -> dict[str, Any]:
        """Return how the engine is reached, as JSON values without secrets: executors with the same share a backend."""
        return {}

    def backend(self) -> Backend:
        """Return a new backend for this executor, which is to be closed."""
        return get_backend(self.engine, self.connection())

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense, before anything starts."""
        check_values(self)
        check_variables(f"{type(self).__name__}.env_vars", self.env_vars)
        make_launcher(self.launcher)
        parse_duration(f"{type(self).__name__}.timeout", self.timeout)
        check_storage(f"{type(self).__name__}.artifacts_to", self.artifacts_to or "")
        if self.restarts:
            self.restarts.check()

    def chosen(self) -> Executor:
        """Return the executor that takes a job: this one, unless it stands for others."""
        return self

    def info(self) -> str:
        """Return the name of the kind of executor, as it is shown in a status."""
        return type(self).__qualname__

    @property
    def waits_for(self) -> str:
        """What a job waits for in those that it depends on: ``"success"``, ``"failure"``, ``"end"`` or ``"start"``."""
        return "success"

    def wait_for(self, what: str) -> None:
        """Have the engine itself wait for this in other jobs, where it can hold one back; see :attr:`waits_for`."""

    def clone(self) -> Self:
        """Return a copy whose lists, dictionaries and parts are its own."""
        from copy import deepcopy

        return deepcopy(self)

    def get_launcher(self) -> Launcher:
        """Return the launcher that is used, and may be changed; a name is looked up, none gives the plain one."""
        self.launcher = launcher = make_launcher(self.launcher)
        return launcher

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for. The experiment calls it."""
        self.experiment_id = exp_id
        self.experiment_dir = exp_dir
        self.job_dir = str(Path(exp_dir, task_dir))

    def package(self, packager: Packager, job_name: str) -> None:
        """Package the code of the current folder into ``code`` in the job's folder."""
        archive = packager.package(Path.cwd(), self.job_dir, job_name)
        if archive:
            extract(archive, Path(self.job_dir, "code"))

    def note_package(self, archive: str, job_name: str) -> None:
        """Called when a job's code is packaged; an executor that others ask for the place of code overrides it.

        Args:
            archive: The archive; empty where no code is sent.
            job_name: Id of the job.
        """

    def nnodes(self) -> int:
        """Return the number of nodes."""
        raise NotImplementedError(f"{type(self).__name__} does not say its number of nodes")

    def nproc_per_node(self) -> int:
        """Return the number of processes on each node."""
        raise NotImplementedError(f"{type(self).__name__} does not say its number of processes per node")

    @property
    def gpus_in_all(self) -> int:
        """GPUs of a task on all of its nodes together; 0 where the executor does not say."""
        counts = (getattr(self, name, None) for name in ("gpus_per_node", "num_gpus", "gpus"))
        return max(next((count for count in counts if isinstance(count, int)), 0), 0) * self._nodes_in_all

    @property
    def _nodes_in_all(self) -> int:
        try:
            return self.nnodes()
        except NotImplementedError:
            return 1

    def macro_values(self) -> ExecutorMacros | None:
        """Return the variables in which the engine tells of its nodes; ``None`` where it has none."""
        return None

    def get_launcher_prefix(self) -> list[str] | None:
        """Return the profiler arguments that the launcher wants before the command."""
        return self.get_launcher().get_nsys_prefix(profile_dir=self.job_dir)

    def get_nsys_entrypoint(self) -> tuple[str, str]:
        """Return the profiler program, and what follows its arguments."""
        return ("nsys", "")

    def supports_launcher_transform(self) -> bool:
        """Check whether a launcher may replace the whole command by a script of its own."""
        return False

    def package_configs(self, *cfgs: tuple[str, str]) -> list[str]:
        """Write (name, text) pairs into the job's ``configs`` folder and return their paths."""
        base = Path(self.job_dir, "configs")
        paths = []
        for name, text in cfgs:
            path = base / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            path.write_text(text)
            paths.append(str(path))
        return paths

    def create_job_dir(self) -> None:
        """Create the job's folder, readable by its owner only."""
        Path(self.job_dir).mkdir(parents=True, exist_ok=True, mode=0o700)

    def cleanup(self, handle: str) -> None:
        """Called when the job has ended; an executor with something to tidy overrides it."""


def get_backend(engine: str, connection: Mapping[str, Any] | None = None) -> Backend:
    """Return the backend of an engine by its name.

    Args:
        engine: ``"local"``, …, or the name of an entry point in the group ``nemo_run.executors``.
        connection: What a plan says about reaching the engine.

    Raises:
        ExecutorError: There is no such engine here.
    """
    return backend_class(engine)(**(connection or {}))


def backend_class(engine: str) -> type[Backend]:
    """Return the class of an engine's backend.

    Raises:
        ExecutorError: There is no such engine here.
    """
    where, found = registry.find(engine)
    if isinstance(found, type) and issubclass(found, Backend):
        return found
    raise ExecutorError(f"the entry point {where} of the engine {engine!r} must be a subclass of Backend")


def import_executor(name: str, file_path: str | None = None, call: bool = True, **kwargs: Any) -> Executor:
    """Return an executor by name from a Python file that defines executors, or functions that return them.

    Args:
        name: Name of the executor or function in the file.
        file_path: The file; ``executors.py`` in the NeMo-Run home by default.
        call: Call what is found when it can be called; otherwise it is returned as it is.
        **kwargs: Arguments of that call.

    Raises:
        ExecutorNotFoundError: The file is not there.
        UnknownExecutorError: The name is not in it.
    """
    from nemo_run.config.home import get_nemorun_home

    path = Path(file_path) if file_path else Path(get_nemorun_home(), "executors.py")
    spec = importlib.util.spec_from_file_location("executors", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ExecutorNotFoundError(f"{path}: no such Python file; write it, or name another one with file_path=")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        found = getattr(module, name)
    except AttributeError:
        names = sorted(key for key in vars(module) if not key.startswith("_"))
        raise UnknownExecutorError(f"{path} defines no {name!r}; it has: {', '.join(names) or 'nothing'}") from None
    executor: Executor = found(**kwargs) if call and callable(found) else found
    return executor


@dataclass(frozen=True)
class TaskRequest:
    """One job to describe to an engine: what to run, and how the experiment knows it.

    Attributes:
        experiment_id: The experiment.
        job_id: The job, unique in the experiment.
        directory: The job's own folder in the store, absolute.
        executor: Where to run.
        command: What to run.
        cwd: Working directory of the launching process.
        environment_file: File with the environment of the launching process, for engines that pass it on.
        lease_dir: Folder of the locks on devices of this machine.
        code_archive: Archive with the code that the task runs in; empty where none was packaged.
        group: The job group that it is a member of; empty where it is none.
        member: Which member it is.
        members: How many members the group has.
        end_group_on: What ends the other members: ``"failure"`` of one, ``"any"`` end, or ``"never"``.
        mapped: What it is one of many of, which differ in their configuration only; empty where it is none.
        in_environment: It runs in a virtual environment; what makes that is in ``directory``.
        launch: A random text for an experiment whose id a user has given, and another machine may give, too.
    """

    experiment_id: str
    job_id: str
    directory: str
    executor: Executor
    command: Command
    cwd: str = ""
    environment_file: str = ""
    lease_dir: str = ""
    code_archive: str = ""
    group: str = ""
    member: int = 0
    members: int = 1
    end_group_on: str = "failure"
    mapped: str = ""
    in_environment: bool = False
    launch: str = ""
