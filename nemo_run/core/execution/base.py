"""The seam between experiments and engines.

An :class:`Executor` is data: all that a user says about *where* a task runs.  A :class:`Backend` is behaviour: it
turns a :class:`TaskRequest` into a :class:`Plan`, submits the plan, and answers for what it submitted.  Plans and
handles are plain JSON values, so that any later process can go on from what is stored.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.execution.jobs import (
    Command as Command,
    JobState as JobState,
    Plan as Plan,
    TaskStatus as TaskStatus,
)
from nemo_run.core.execution.launcher import Launcher, make_launcher
from nemo_run.core.execution.shared.log_reader import LogReader
from nemo_run.core.packaging.archive import extract
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import ExecutorError, ExecutorNotFoundError

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import Tunnel

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Backend(Protocol):
    """Behaviour of one engine. Implementations hold no state that a new process would miss."""

    name: ClassVar[str]
    supports_dependencies: ClassVar[bool]
    """The engine itself can hold a job back until others have ended."""
    supports_groups: ClassVar[bool]
    """The engine itself can run several tasks as one job."""
    shares_files: ClassVar[bool]
    """Tasks see the files of this machine under the same paths."""
    poll_interval: ClassVar[float]
    """Seconds between two queries where :meth:`wait` has no event to wait for."""

    def render(self, request: TaskRequest) -> Plan:
        """Describe a job to the engine. Pure: reads and writes nothing."""
        ...

    def describe(self, plan: Plan) -> str:
        """What would be launched, in a form that can be read and copied; secrets masked."""
        ...

    def handle(self, plan: Plan, attempt: int) -> str:
        """Handle that an attempt will have, where the engine leaves that to us; else empty."""
        ...

    def preflight(self, plans: Sequence[Plan]) -> None:
        """See to it that these plans can be run, before any of them is.

        Raises:
            ExecutorError: They cannot; nothing was started.
        """
        ...

    def submit(self, plan: Plan, attempt: int) -> str:
        """Start attempt number ``attempt`` (from 1) and return its handle."""
        ...

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Handle of an attempt that may have been submitted by a process that is gone.

        ``None`` means: it was not, and from now on never will be.
        """
        ...

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Status of all these submitted attempts, in one query."""
        ...

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the engine to end these attempts. Ended ones are left as they are."""
        ...

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait until some of these attempts may have changed, ``timeout`` seconds at most; which."""
        ...

    def ranks(self, handle: str) -> list[int]:
        """Ranks that have a log of their own, beside the log of the attempt as a whole."""
        ...

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """The log of an attempt, or of one rank of it; from its last ``tail`` lines on."""
        ...

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Bring into ``folder`` what an ended attempt left in ``$NEMO_RUN_ARTIFACTS``, if it is not there already,
        and the files below its working directory that match one of the patterns.
        """  # noqa: D205
        ...

    def why_not_usable(self) -> str:
        """Return why the engine cannot be used from this machine as it is; empty if it can. Needs no instance."""
        ...

    def close(self) -> None:
        """Let go of connections and helper processes; submitted attempts go on."""
        ...


class BatchBackend(Backend, Protocol):
    """What a backend offers beside where it starts many attempts faster than one after the other."""

    def submit_many(self, attempts: Sequence[tuple[Plan, int, Sequence[str]]]) -> list[str | ExecutorError]:
        """Start several attempts at once: plans, numbers of attempts, and handles of those that each has to wait for.

        Only a backend that ``supports_dependencies`` is ever given something to wait for.

        Returns:
            For every attempt its handle, or the error that :meth:`submit` would raise.
        """
        ...


class QueueBackend(BatchBackend, Protocol):
    """What a backend with a queue of its own offers beside: ``supports_dependencies``, ``supports_groups``."""

    def render_group(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe the tasks of a job group, to be run as one job. Pure."""
        ...


class ReachableBackend(Backend, Protocol):
    """What a backend offers beside where the services of its tasks can be reached from this machine."""

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """The way to where a job runs, and the job's folder there."""
        ...


@dataclass(kw_only=True)
class ExecutorMacros(ConfigurableMixin):
    """Names of the shell variables in which an engine tells a task about its nodes.

    In a command, ``${head_node_ip_var}`` and the like stand for them.
    """

    HEAD_NODE_IP_VAR: ClassVar[str] = "${head_node_ip_var}"
    NPROC_PER_NODE_VAR: ClassVar[str] = "${nproc_per_node_var}"
    NUM_NODES_VAR: ClassVar[str] = "${num_nodes_var}"
    NODE_RANK_VAR: ClassVar[str] = "${node_rank_var}"
    FT_LAUNCHER_CFG_PATH_VAR: ClassVar[str] = "${ft_launcher_cfg_path_var}"

    head_node_ip_var: str
    nproc_per_node_var: str
    num_nodes_var: str
    node_rank_var: str
    het_group_host_var: str
    ft_launcher_cfg_path_var: str = "FAULT_TOL_CFG_PATH"

    @staticmethod
    def group_host(index: int) -> str:
        """Macro for the head node of the ``index``-th member of a job group."""
        return f"$${{het_group_host_var}}_{index}"

    def apply(self, command: Command) -> Command:
        """The command with every macro replaced in its arguments and environment."""
        return replace(
            command,
            argv=tuple(self.substitute(arg) for arg in command.argv),
            env={key: self.substitute(value) for key, value in command.env.items()},
        )

    def substitute(self, arg: str) -> str:
        """``arg`` with every macro replaced; anything else that looks like one stays."""
        return Template(arg).safe_substitute(**asdict(self))


@dataclass(kw_only=True)
class Executor(ConfigurableMixin):
    """Where a task runs. Data only; :meth:`backend` gives the behaviour.

    Attributes:
        packager: How the code that the task needs is packed.
        launcher: How the processes of a task are started: ``None``, ``"torchrun"``, ``"ft"``, or a launcher.
        env_vars: Environment variables of the task; names keep their case, values arrive byte for byte.
        retries: How often a failed task is tried again.
        retry_delay: Seconds before the first retry; it doubles with every further one, up to a minute.
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

    def backend(self) -> Backend:
        """The engine behind this executor."""
        return get_backend(self.engine)

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense, before anything starts."""
        where = type(self).__name__
        for name, value in self.env_vars.items():
            if not isinstance(name, str) or not _ENV_NAME.match(name):
                raise ExecutorError(
                    f"{where}.env_vars: {name!r} is not a name for an environment variable; "
                    "use letters, digits and underscores, not beginning with a digit"
                )
            if not isinstance(value, str) or "\0" in value:
                raise ExecutorError(f"{where}.env_vars[{name!r}] must be a string without a null byte")
        self.get_launcher()
        if self.retries < 0:
            raise ExecutorError(f"{where}.retries must not be negative, but is {self.retries}")

    def info(self) -> str:
        """Name of the kind of executor, as it is shown in a status."""
        return type(self).__qualname__

    @property
    def controlled_retries(self) -> int:
        """The retries that are left to the controller; an engine with a queue of its own sees to them itself."""
        return self.retries

    @property
    def waits_for(self) -> str:
        """What a job waits for in those that it depends on: ``"success"``, ``"failure"``, ``"end"`` or ``"start"``."""
        return "success"

    def clone(self) -> Executor:
        """A copy whose lists, dictionaries and parts are its own."""
        from copy import deepcopy

        return deepcopy(self)

    def get_launcher(self) -> Launcher:
        """The launcher; a name is looked up, none gives the plain one."""
        return make_launcher(self.launcher)

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
        """Number of nodes."""
        raise NotImplementedError(f"{type(self).__name__} does not say its number of nodes")

    def nproc_per_node(self) -> int:
        """Processes on each node."""
        raise NotImplementedError(f"{type(self).__name__} does not say its number of processes per node")

    def macro_values(self) -> ExecutorMacros | None:
        """Variables in which the engine tells of its nodes; ``None`` where it has none."""
        return None

    def get_launcher_prefix(self) -> list[str] | None:
        """Profiler arguments that the launcher wants before the command."""
        return self.get_launcher().get_nsys_prefix(profile_dir=self.job_dir)

    def get_nsys_entrypoint(self) -> tuple[str, str]:
        """Profiler program, and what follows its arguments."""
        return ("nsys", "")

    def supports_launcher_transform(self) -> bool:
        """Whether a launcher may replace the whole command by a script of its own."""
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


# --- which backends there are ------------------------------------------------------------------------------------

_BUILT_IN = {
    "dgxcloud": "nemo_run.core.execution.dgxcloud.backend:DGXCloudBackend",
    "docker": "nemo_run.core.execution.docker.backend:DockerBackend",
    "kubeflow": "nemo_run.core.execution.kubeflow.backend:KubeflowBackend",
    "kubernetes": "nemo_run.core.execution.kubernetes.backend:KubernetesBackend",
    "lepton": "nemo_run.core.execution.lepton.backend:LeptonBackend",
    "local": "nemo_run.core.execution.local.backend:LocalBackend",
    "skypilot": "nemo_run.core.execution.skypilot.backend:SkypilotClusterBackend",
    "skypilot_jobs": "nemo_run.core.execution.skypilot_jobs.backend:SkypilotJobsBackend",
    "slurm": "nemo_run.core.execution.slurm.backend:SlurmBackend",
}
_ENTRY_POINTS = "nemo_run.executors"


def get_backend(engine: str, connection: Mapping[str, Any] | None = None) -> Backend:
    """The backend of an engine by its name.

    Args:
        engine: ``"local"``, …, or the name of an entry point in the group ``nemo_run.executors``.
        connection: What a plan says about reaching the engine.

    Raises:
        ExecutorError: There is no such engine here.
    """
    return cast("Backend", backend_class(engine)(**(connection or {})))


def backend_class(engine: str) -> Any:
    """Return what makes the backend of an engine, without making one.

    Raises:
        ExecutorError: There is no such engine here.
    """
    if engine not in _BUILT_IN:
        return _third_party(engine)
    module, _, name = _BUILT_IN[engine].partition(":")
    return getattr(importlib.import_module(module), name)


def _third_party(engine: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=_ENTRY_POINTS):
        if point.name == engine:
            return point.load()
    known = sorted(_BUILT_IN) + sorted(point.name for point in entry_points(group=_ENTRY_POINTS))
    raise ExecutorError(
        f"no engine is called {engine!r}; there are: {', '.join(known)}. "
        f"A package that brings one registers it under the entry-point group {_ENTRY_POINTS!r}"
    )


def import_executor(name: str, file_path: str | None = None, call: bool = True, **kwargs: Any) -> Executor:
    """An executor by name from a Python file that defines executors, or functions that return them.

    Args:
        name: Name of the executor or function in the file.
        file_path: The file; ``executors.py`` in the NeMo-Run home by default.
        call: Call what is found when it can be called; otherwise it is returned as it is.
        **kwargs: Arguments of that call.

    Raises:
        ExecutorNotFoundError: The file or the name is not there.
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
        raise ExecutorNotFoundError(f"{path} defines no {name!r}; it has: {', '.join(names) or 'nothing'}") from None
    return cast("Executor", found(**kwargs) if call and callable(found) else found)


@dataclass(frozen=True)
class TaskRequest:
    """One job to describe to an engine: what to run, and how the experiment knows it.

    Attributes:
        experiment_id: The experiment.
        job_id: The job, unique in the experiment.
        directory: The job's own folder in the store, absolute.
        executor: Where to run.
        command: What to run.
        cwd: Working directory of whoever launches.
        environment_file: File with the environment of whoever launches, for engines that pass it on.
        lease_dir: Folder of the locks on devices of this machine.
        code_archive: Archive with the code that the task runs in; empty where none was packaged.
        group: The job group that it is a member of; empty where it is none.
        member: Which member it is.
        members: How many members the group has.
        end_group_on: What ends the other members: ``"failure"`` of one, ``"any"`` end, or ``"never"``.
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
