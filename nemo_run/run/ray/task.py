"""Ray jobs as tasks of an experiment.

A small process of the local engine stands for the job: it has the cluster started, submits the job, hands its log on,
and ends with its exit code. So retries, dependencies, logs and cancellation are those of any other task.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.local import LocalExecutor
from nemo_run.core.ray.engine import ClusterSpec, get_engine
from nemo_run.errors import ConfigError, ExecutorError, JobNotFoundError
from nemo_run.run.ray import records, sharing
from nemo_run.run.ray.cluster import RayCluster
from nemo_run.run.ray.job import RayJob
from nemo_run.run.ray.watching import WatchedJob
from nemo_run.run.tasks import TaskElsewhere

if TYPE_CHECKING:
    from nemo_run.config import Partial

_VARIABLE = "NEMO_RUN_RAY_"
"""Before the names of the job's variables, which are not for the process that stands for it."""

_GRACE = 120.0  # seconds in which a job and its cluster end
_FORGOTTEN = 900.0  # seconds after which a shared cluster ends by itself, where everybody who used it was killed
_ENDS_IDLE = ("local", "slurm")  # engines on which a cluster can


@dataclass(frozen=True, kw_only=True)
class RayTask(TaskElsewhere):
    """A Ray job as a task of an experiment; the executor that it is added with says where its cluster runs.

    Example:
        >>> RayTask(command="python train.py", share="both").get_name()  # for exp.add(…, executor=run.LocalExecutor())
        'ray'

    Attributes:
        command: Shell command that Ray runs on the cluster.
        workdir: Folder of this machine that is sent along when the task starts; empty for none.
        runtime_env_yaml: File with a runtime environment.
        share: Name of a cluster that the tasks of this experiment with the same name share: the first starts it, the
            last ends it. Without, and without ``cluster_name``, the task has a cluster of its own.
        cluster_name: A cluster that runs already, and goes on.
        pre_ray_start_commands: Shell commands that each node of the cluster runs before it starts Ray.
        entrypoint_num_cpus: CPU cores that Ray keeps for the command itself.
        entrypoint_num_gpus: GPUs that it keeps for it.
        entrypoint_memory: Bytes of memory that it keeps for it.
        entrypoint_resources: Custom resources that it keeps for it.
    """

    command: str
    workdir: str = ""
    runtime_env_yaml: str | None = None
    share: str = ""
    cluster_name: str = ""
    pre_ray_start_commands: list[str] = field(default_factory=list)
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = None
    entrypoint_resources: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.share and self.cluster_name:
            raise ConfigError(
                f"RayTask: share={self.share!r} is a cluster of this experiment, cluster_name={self.cluster_name!r} "
                "one that runs already; give one of them"
            )

    def get_name(self) -> str:
        """Return the name of a task that was given none."""
        return "ray"

    def at(self, executor: Executor) -> tuple[Partial[Any], Executor]:
        """Return the task of the local engine that stands for the job, and where that runs.

        Args:
            executor: Where the cluster runs.

        Raises:
            ExecutorError: There are no Ray clusters on its engine.
        """
        from nemo_run.config import Partial  # it imports fiddle

        get_engine(executor.engine)
        executor.check()
        config = executor.to_config()
        config.env_vars = {}  # secrets may be among them
        workdir = str(Path(self.workdir).absolute()) if os.path.isdir(self.workdir) else self.workdir  # noqa: PTH112
        config_file = self.runtime_env_yaml and str(Path(self.runtime_env_yaml).absolute())
        values = {**vars(self), "workdir": workdir, "runtime_env_yaml": config_file}
        stand_in = RayTaskExecutor(
            of=executor.info(),
            retries=executor.retries,
            retry_delay=executor.retry_delay,
            env_vars={f"{_VARIABLE}{name}": value for name, value in executor.env_vars.items()},
            grace=_GRACE,
        )
        return Partial(run_on_ray, executor=config, **values), stand_in


@dataclass(kw_only=True)
class RayTaskExecutor(LocalExecutor):
    """Runs the process that stands for a Ray job.

    Attributes:
        of: Kind of the executor on which the cluster runs.
    """

    of: str = ""

    def info(self) -> str:
        """Return the kind of executor, as it is shown in a status."""
        return f"Ray on {self.of}"


def run_on_ray(executor: Executor, **values: Any) -> None:
    """Run a Ray job to its end; called in the process that stands for it.

    Args:
        executor: Where its cluster runs.
        **values: The :class:`RayTask`.
    """
    task = RayTask(**values)
    executor.env_vars = {
        **_identity(executor.engine),
        **{name.removeprefix(_VARIABLE): value for name, value in os.environ.items() if name.startswith(_VARIABLE)},
    }
    for name in [name for name in os.environ if name.startswith(_VARIABLE)]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    experiment = os.environ["NEMO_RUN_EXPERIMENT_ID"]
    with _cluster(task, executor, experiment) as cluster:
        name = _name(experiment, os.environ["NEMO_RUN_TASK"])
        job = RayJob(name, executor, task.pre_ray_start_commands, cluster_name=cluster)
        sys.exit(_run(job, task))


def _identity(engine: str) -> dict[str, str]:
    """Return the variables that every task finds set, so far as they mean something where the cluster is."""
    names = ["NEMO_RUN_EXPERIMENT_ID", "NEMO_RUN_TASK", "NEMO_RUN_ATTEMPT"]
    if engine == "local":
        names += ["NEMO_RUN_ARTIFACTS", "NEMO_RUN_METRICS", "NEMO_RUN_SERVICES"]
    return {name: os.environ[name] for name in names if name in os.environ}


def _name(experiment: str, what: str) -> str:
    """Return the name of a job or a cluster of an experiment, which every engine takes.

    >>> _name("example_1", "Train/0")
    'train-0-14154c94'
    """
    unique = hashlib.sha256(f"{experiment}/{what}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:16].rstrip("-") or "task"
    return f"{readable}-{unique}"


@contextlib.contextmanager
def _cluster(task: RayTask, executor: Executor, experiment: str) -> Iterator[str | None]:
    """Have a cluster for the time of a task; yield its name, ``None`` for one that the job has for itself."""
    if not task.share:
        yield task.cluster_name or None
        return
    cluster = RayCluster(_name(experiment, task.share), executor)
    code: object = 1
    try:
        idle = _FORGOTTEN if executor.engine in _ENDS_IDLE else 0.0
        commands = tuple(task.pre_ray_start_commands)
        stored = cluster.launch(ClusterSpec(cluster.name, executor, commands, idle_timeout=idle))
        cluster.wait_until_ready(stored, float("inf"))
        yield cluster.name
    except SystemExit as e:
        code = e.code
        raise
    finally:
        place = get_engine(executor.engine).place(executor)
        with records.starting(executor.engine, place, cluster.name):  # nobody starts it meanwhile
            if sharing.is_last(task.share, succeeded=not code):
                cluster.stop()


def _run(job: RayJob, task: RayTask) -> int:
    """Run a job; the exit code. A job that is left by an earlier process is ended first."""
    needs = {name: value for name, value in vars(task).items() if name.startswith("entrypoint_")}
    with contextlib.suppress(JobNotFoundError):
        job.stop(wait=True)
    try:
        job.start(task.command, task.workdir, task.runtime_env_yaml, **needs)
        with WatchedJob(job.known()) as watched:
            for text in watched.follow(sys.maxsize, patience=float("inf")):
                sys.stdout.write(text)
                sys.stdout.flush()
            status = watched.status()
            watched.wait_for_own_cluster()
    except SystemExit:
        with contextlib.suppress(ExecutorError):
            job.stop(wait=True)
        raise
    if status["state"] != "SUCCEEDED":
        sys.stderr.write(f"Ray job {status['state']}: {status['reason']}\n")
    return 0 if status["state"] == "SUCCEEDED" else status["exit_code"] or 1
