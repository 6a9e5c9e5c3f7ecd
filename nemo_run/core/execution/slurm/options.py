"""What a user says of a task on Slurm, and the options of Slurm's commands that this comes to. Pure."""

from __future__ import annotations

import logging
import posixpath
import re
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import Executor, ExecutorMacros
from nemo_run.core.execution.shared.checks import check_is_list
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel
from nemo_run.errors import ExecutorError

logger = logging.getLogger(__name__)

_RAY_TEMPLATE = "ray.sub.j2"
_DEPENDENCY_TYPES = ("after", "afterany", "afternotok", "afterok", "aftercorr")
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./~-][A-Za-z0-9_@+=:,./~%-]*\Z")


def _option(default: Any = None) -> Any:
    """Return a field that is an option of sbatch with the same name."""
    return field(default=default, metadata={"sbatch": True})


def get_packaging_job_key(experiment_id: str, job_name: str) -> str:
    """Key of a job in ``Tunnel.packaging_jobs``."""
    return f"{experiment_id}:{job_name}"


@dataclass(kw_only=True)
class SlurmJobDetails:
    """Names of a job and its files on the cluster. Subclass it to have other names.

    Attributes:
        job_name: Slurm's name for the job, which is also in the names of the files; made from the prefix and the
            job's id by default.
        folder: Folder of the files, which is made where it is not there; the job's own by default.
        ray_log_prefix: What the names of logs of Ray begin with.
    """

    job_name: str | None = None
    folder: str | None = None
    ray_log_prefix: str = "ray-"

    @property
    def stdout(self) -> Path:
        """What the batch script and ``srun`` have to say."""
        return Path(str(self.folder), f"sbatch_{self.job_name}_%j.out")

    @property
    def stderr(self) -> Path:
        """The same, of the standard error, where that is apart."""
        return Path(str(self.folder), f"sbatch_{self.job_name}_%j.err")

    @property
    def srun_stdout(self) -> Path:
        """What the tasks write."""
        return Path(str(self.folder), f"log-{self.job_name}_%j_${{SLURM_RESTART_COUNT:-0}}.out")

    @property
    def srun_stderr(self) -> Path:
        """The same, of the standard error, where that is apart."""
        return Path(str(self.folder), f"log-{self.job_name}_%j_${{SLURM_RESTART_COUNT:-0}}.err")

    @property
    def ls_term(self) -> str:
        """Shell pattern of the logs."""
        return posixpath.join(str(self.folder), "log*")


@dataclass(kw_only=True)
class ResourceRequest:
    """What one task of a job group runs on; see ``SlurmExecutor.merge``."""

    packager: Packager
    nodes: int
    ntasks_per_node: int
    container_image: str | None = None
    gpus_per_node: int | None = None
    gpus_per_task: int | None = None
    container_mounts: list[str] | None = field(default_factory=list)
    container_env: list[str] | None = None
    env_vars: dict[str, str] = field(default_factory=dict)
    srun_args: list[str] | None = None
    job_details: SlurmJobDetails = field(default_factory=SlurmJobDetails)
    het_group_index: int | None = None


# Their public names, by which stored experiments know them.
SlurmJobDetails.__module__ = ResourceRequest.__module__ = "nemo_run.core.execution.slurm"
ResourceRequest.__qualname__ = "SlurmExecutor.ResourceRequest"


@dataclass(kw_only=True)
class SlurmOptions(Executor):
    """The options of :class:`~nemo_run.core.execution.slurm.SlurmExecutor`.

    Attributes:
        account: Account; the cluster's default for the user where it is empty.
        partition: Partition; of several, separated by commas, the one that starts the job first.
        job_name_prefix: What the job's name in Slurm begins with; made from the account by default.
        time: Time limit.
        nodes: Number of nodes.
        ntasks_per_node: Processes on each node; a launcher such as torchrun starts them itself.
        cpus_per_task: CPUs for each process.
        cpus_per_gpu: CPUs for each GPU.
        gpus_per_node: GPUs on each node.
        gpus_per_task: GPUs for each process.
        qos: Quality of service.
        mem: Memory on each node, such as ``"64G"``; ``"0"`` for all of it.
        mem_per_gpu: Memory for each GPU.
        mem_per_cpu: Memory for each CPU.
        comment: Comment on the job.
        constraint: Features that the nodes must have.
        exclude: Nodes that are not to be used.
        gres: Generic resources of each node, such as ``"gpu:a100:2"``.
        exclusive: Have whole nodes.
        open_mode: ``"append"`` or ``"truncate"`` for the files of the job's output.
        segment: Nodes that must be close to each other in a topology of blocks.
        network: Network to use, where the cluster has several.
        signal: Signal to send before the time limit, such as ``"B:USR1@60"``.
        array: Indices of an array of jobs, such as ``"0-49%8"``.
        container_image: Image to run in, by Pyxis; no container where it is ``None``.
        container_mounts: Mounts, as ``source:target``; the job's folder is ``/nemo_run`` in every container.
        container_env: Names of variables whose value in the image does not count, beside those of ``env_vars``.
        additional_parameters: Further options of ``sbatch``; ``True`` for one without a value.
        srun_args: Further options of ``srun``.
        heterogeneous: The tasks of a job group are components of a heterogeneous job, each with nodes of its own.
        memory_measure: Log the state of the GPUs before the task.
        job_details: Names of the job and its files.
        tunnel: How to reach the cluster.
        dependencies: Ids or handles of Slurm jobs to wait for.
        dependency_type: What is waited for: ``"afterok"``, ``"afterany"``, ``"afternotok"`` or ``"after"``.
        torchrun_nproc_per_node: Processes that a launcher starts on each node, where it cannot be told otherwise.
        wait_time_for_group_job: Seconds between the starts of two tasks of a job group; a negative number is 0.
        monitor_group_job: The end of a task of a job group may end the others: see ``exp.add(end_group_on=...)``.
        monitor_group_job_wait_time: Accepted for compatibility; the end of a task is noticed at once.
        setup_lines: Lines of shell to run first, on the first node.
        het_group_indices: Component of every task of a heterogeneous job group.
        ray_template: Accepted for compatibility; another one than the default is warned about, and not used.
        poll_estimated_start_time: Accepted for compatibility; the status always has it.
        python: Python of function tasks, and of scripts that ask for ``python``, on the nodes or in the container, such
            as ``"python3.11"`` or ``"/opt/python/bin/python3"``; by default the one that launches where this machine
            is the cluster, else ``python3``.
    """

    engine: ClassVar[str] = "slurm"

    HEAD_NODE_IP_VAR: ClassVar[str] = "head_node_ip"
    NPROC_PER_NODE_VAR: ClassVar[str] = "SLURM_NTASKS_PER_NODE"
    NUM_NODES_VAR: ClassVar[str] = "SLURM_NNODES"
    NODE_RANK_VAR: ClassVar[str] = "SLURM_NODEID"
    HET_GROUP_HOST_VAR: ClassVar[str] = "het_group_host"

    packager: Packager = field(default_factory=GitArchivePackager)
    account: str = _option("")
    partition: str | None = _option()
    job_name_prefix: str | None = None
    time: str = _option("00:10:00")
    nodes: int = _option(1)
    ntasks_per_node: int = _option(1)
    cpus_per_task: int | None = _option()
    cpus_per_gpu: int | None = _option()
    gpus_per_node: int | None = _option()
    gpus_per_task: int | None = _option()
    qos: str | None = _option()
    mem: str | None = _option()
    mem_per_gpu: str | None = _option()
    mem_per_cpu: str | None = _option()
    comment: str | None = _option()
    constraint: str | None = _option()
    exclude: str | None = _option()
    gres: str | None = _option()
    signal: str | None = _option()
    exclusive: bool | str | None = _option()
    array: str | None = _option()
    open_mode: str = _option("append")
    container_image: str | None = None
    container_mounts: list[str] | None = field(default_factory=list)
    container_env: list[str] | None = None
    additional_parameters: dict[str, Any] | None = None
    srun_args: list[str] | None = None
    heterogeneous: bool = False
    memory_measure: bool = False
    job_details: SlurmJobDetails = field(default_factory=SlurmJobDetails)
    tunnel: SSHTunnel | LocalTunnel = field(default_factory=lambda: LocalTunnel(job_dir=""))
    dependencies: list[str] | None = field(default_factory=list)
    dependency_type: str = "afterok"
    torchrun_nproc_per_node: int | None = None
    wait_time_for_group_job: float = 30
    monitor_group_job: bool = True
    monitor_group_job_wait_time: int = 60
    setup_lines: str | None = None
    het_group_indices: list[int] | None = None
    segment: int | None = _option()
    network: str | None = _option()
    ray_template: str = _RAY_TEMPLATE
    poll_estimated_start_time: bool = True
    python: str | None = None
    job_name: str = field(init=False, default="nemo-job")
    stderr_to_stdout: bool = field(init=False, default=True)
    resource_group: list[ResourceRequest] = field(init=False, default_factory=list)
    run_as_group: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if isinstance(self.wait_time_for_group_job, (int, float)) and self.wait_time_for_group_job < 0:
            self.wait_time_for_group_job = 0

    def info(self) -> str:
        """Kind of executor, and where."""
        return f"{type(self).__qualname__} on {self.tunnel.key}"

    def connection(self) -> dict[str, Any]:
        """Return how the cluster is reached."""
        return {"tunnel": self.tunnel.connection()}

    def wait_for(self, what: str) -> None:
        """Set :attr:`dependency_type`."""
        self.dependency_type = {"end": "afterany", "failure": "afternotok"}.get(what, "afterok")

    @property
    def waits_for(self) -> str:
        """The same as :attr:`dependency_type`, for what Slurm itself does not hold back."""
        return {"afterany": "end", "afternotok": "failure", "after": "start"}.get(self.dependency_type, "success")

    def nnodes(self) -> int:
        """Return the number of nodes."""
        return self.nodes

    @property
    def gpus_in_all(self) -> int:
        """GPUs of a task on all of its nodes together, as far as the options say."""
        if self.gpus_per_node is None and self.gpus_per_task is not None:
            return self.gpus_per_task * self.ntasks_per_node * self.nodes
        return super().gpus_in_all

    def nproc_per_node(self) -> int:
        """Return the processes on each node, as a script that starts them itself wants to know it."""
        if self.torchrun_nproc_per_node:
            return self.torchrun_nproc_per_node
        if self.gpus_per_node and self.ntasks_per_node == 1:
            return self.gpus_per_node
        return self.gpus_per_task or self.ntasks_per_node

    def processes_of_launcher(self) -> int:
        """Return the processes that a launcher starts on each node, in place of the tasks that Slurm would start."""
        if self.ntasks_per_node > 1:
            return self.torchrun_nproc_per_node or self.ntasks_per_node
        return self.nproc_per_node()

    def macro_values(self) -> ExecutorMacros:
        """Return the variables in which a job is told of its nodes."""
        return ExecutorMacros.of(self)

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        for name, value in sbatch_options(self).items():
            flag(name, value)
        folder = self.tunnel.job_dir
        if isinstance(self.tunnel, SSHTunnel) and not folder.startswith("/"):
            raise ExecutorError(
                f"SSHTunnel.job_dir={folder!r} must be an absolute path on the cluster, such as '/scratch/me/runs'"
            )
        if any(ord(c) < 32 or ord(c) == 127 for c in folder):
            raise ExecutorError(f"{type(self.tunnel).__name__}.job_dir={folder!r} has control characters")
        if self.dependency_type not in _DEPENDENCY_TYPES:
            raise ExecutorError(
                f"SlurmExecutor.dependency_type={self.dependency_type!r}; it is one of {', '.join(_DEPENDENCY_TYPES)}"
            )
        self._check_lists()
        if self.python is not None and (not self.python or any(ord(c) < 32 for c in self.python)):
            raise ExecutorError(f"SlurmExecutor.python={self.python!r}; name a program, such as 'python3.11'")
        self.parse_deps()
        if self.ray_template != _RAY_TEMPLATE:
            logger.warning(
                "SlurmExecutor.ray_template=%r is not used: Ray clusters start in one way; for a script of your own "
                "around the task, give launcher=run.SlurmTemplate(template_path=...)",
                self.ray_template,
            )

    def _check_lists(self) -> None:
        for name in ("container_mounts", "container_env", "srun_args", "dependencies"):
            check_is_list(f"SlurmExecutor.{name}", getattr(self, name))
        for mount in self.container_mounts or []:
            if not isinstance(mount, str) or not mount or any(c in mount for c in ",\n\0"):
                raise ExecutorError(f"SlurmExecutor.container_mounts: {mount!r} is not of the form 'source:target'")

    def parse_deps(self) -> list[str]:
        """Ids of the Slurm jobs in :attr:`dependencies`."""
        return [_job_id_of(dependency) for dependency in self.dependencies or []]

    def component_indices(self, num_tasks: int) -> list[int]:
        """Component of every task of a heterogeneous job group.

        Raises:
            ExecutorError: ``het_group_indices`` cannot be right.
        """
        indices = self.het_group_indices
        if indices is None:
            return list(range(num_tasks))
        if not self.heterogeneous:
            raise ExecutorError("SlurmExecutor.het_group_indices is for heterogeneous=True")
        if len(indices) != num_tasks or indices[0] != 0 or any(b - a not in (0, 1) for a, b in pairwise(indices)):
            raise ExecutorError(
                f"SlurmExecutor.het_group_indices={indices}: give every one of the {num_tasks} tasks its component, "
                "counted from 0, such as [0, 0, 1]"
            )
        return indices


def _job_id_of(dependency: str) -> str:
    """Return the job id in ``"123"``, ``"slurm://123/…"`` or ``"slurm_tunnel://session/123/master/0"``."""
    path = dependency.partition("://")[2] or dependency
    for part in path.split("/"):
        if re.fullmatch(r"\d+(?:[_+]\d+)?", part.partition("#")[0]):
            return part.partition("#")[0]
    raise ExecutorError(
        f"SlurmExecutor.dependencies: {dependency!r} is neither the id of a Slurm job nor a handle of one"
    )


def sbatch_options(executor: SlurmOptions) -> dict[str, Any]:
    """Return the executor's options of sbatch."""
    options = {f.name: getattr(executor, f.name) for f in fields(executor) if f.metadata.get("sbatch")}
    options.update({name.replace("-", "_"): value for name, value in (executor.additional_parameters or {}).items()})
    return {name: value for name, value in options.items() if value not in (None, "") and value is not False}


def container_options(executor: SlurmOptions, env: list[str], mounts: list[str]) -> list[str]:
    """Return the options of srun that run its tasks in the executor's image; none where it has none."""
    if not executor.container_image:
        return []
    names = dict.fromkeys([*(executor.container_env or []), *env])
    options = [f"--container-image={executor.container_image}"]
    options += [f"--container-mounts={','.join(mounts)}"] if mounts else []
    return options + ([f"--container-env={','.join(names)}"] if names else [])


def flag(name: str, value: Any) -> str:
    """Return an option of ``sbatch``, as it stands in a script.

    >>> flag("comment", "two words"), flag("exclusive", True)
    ('#SBATCH --comment="two words"', '#SBATCH --exclusive')
    """
    option = f"--{name.replace('_', '-')}"
    if not re.match(r"--[A-Za-z][A-Za-z0-9-]*\Z", option):
        raise ExecutorError(f"{name!r} is not the name of an option of sbatch")
    if value is True:
        return f"#SBATCH {option}"
    text = str(value)
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ExecutorError(f"the sbatch option {option} cannot contain line ends or control characters: {text!r}")
    if _PLAIN.match(text):
        return f"#SBATCH {option}={text}"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'#SBATCH {option}="{escaped}"'
