"""The Slurm engine: tasks as batch jobs of a cluster, from a node of it or through SSH."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import Backend, Executor, ExecutorMacros, JobRequest, get_backend
from nemo_run.core.execution.jobs import Command, Plan
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Layout
from nemo_run.core.execution.shared.shipping import run_by_bundle
from nemo_run.core.execution.slurm import script
from nemo_run.core.execution.slurm.interactive import InteractiveSlurm
from nemo_run.core.execution.slurm.options import container_options, sbatch_options
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.core.tunnel.client import LocalTunnel, PackagingJob, SSHTunnel
from nemo_run.errors import ExecutorError

RUN_DIR = "/nemo_run"
"""The job's own folder, as a task in a container sees it; elsewhere the same path stands for it in arguments."""
_RUN_DIR_ON_HOST = "/$nemo_run"  # in a mount: the job's own folder on the cluster
_RUN_DIR_IN_WORD = re.compile(rf"(?:^|(?<=[=:,])){RUN_DIR}(?=/|$)")
_DEPENDENCY_TYPES = ("after", "afterany", "afternotok", "afterok", "aftercorr")


def _option(default: Any = None) -> Any:
    """A field that is an option of sbatch with the same name."""
    return field(default=default, metadata={"sbatch": True})


def get_packaging_job_key(experiment_id: str, job_name: str) -> str:
    """Key of a job in ``Tunnel.packaging_jobs``."""
    return f"{experiment_id}:{job_name}"


@dataclass(kw_only=True)
class SlurmJobDetails:
    """Names of a job's files on the cluster. Subclass it to have other names.

    Attributes:
        job_name: Name in the names of the files.
        folder: Their folder.
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
class SlurmExecutor(InteractiveSlurm, Executor):
    """Runs tasks on a Slurm cluster: from a machine of the cluster, or from elsewhere through an SSH tunnel.

    Every option of ``sbatch`` that is a field has the name that it has there; any other goes into
    ``additional_parameters``.

    Example:
        >>> import nemo_run as run
        >>> executor = run.SlurmExecutor(
        ...     account="research", partition="gpu", nodes=2, gpus_per_node=8, time="04:00:00",
        ...     tunnel=run.SSHTunnel(host="login.example.com", user="me", job_dir="/scratch/me/runs"),
        ... )
        >>> executor.nproc_per_node()
        8

    Attributes:
        account: Account; the cluster's default for the user where it is empty.
        job_name_prefix: What the job's name in Slurm begins with; made from the account by default.
        time: Time limit.
        nodes: Number of nodes.
        ntasks_per_node: Processes on each node; a launcher such as torchrun starts them itself.
        signal: Signal to send before the time limit, such as ``"B:USR1@60"``.
        array: Indices of an array of jobs, such as ``"0-49%8"``.
        container_image: Image to run in, by Pyxis; no container where it is ``None``.
        container_mounts: Mounts, as ``source:target``; the job's folder is ``/nemo_run`` in every container.
        container_env: Names of variables whose value in the image does not count, beside those of ``env_vars``.
        additional_parameters: Further options of ``sbatch``; ``True`` for one without a value.
        srun_args: Further options of ``srun``.
        heterogeneous: The tasks of a job group are components of a heterogeneous job, each with nodes of its own.
        memory_measure: Log the state of the GPUs before the task.
        job_details: Names of the job's files.
        tunnel: How to reach the cluster.
        dependencies: Ids or handles of Slurm jobs to wait for.
        dependency_type: What is waited for: ``"afterok"``, ``"afterany"``, ``"afternotok"`` or ``"after"``.
        torchrun_nproc_per_node: Processes that a launcher starts on each node, where it cannot be told otherwise.
        wait_time_for_group_job: Seconds between the starts of two tasks of a job group.
        monitor_group_job: The end of a task of a job group may end the others: see ``exp.add(end_group_on=...)``.
        monitor_group_job_wait_time: Accepted for compatibility; the end of a task is noticed at once.
        setup_lines: Lines of shell to run first, on the first node.
        het_group_indices: Component of every task of a heterogeneous job group.
        ray_template: Accepted for compatibility.
        poll_estimated_start_time: Accepted for compatibility; the status always has it.
    """

    engine: ClassVar[str] = "slurm"

    HEAD_NODE_IP_VAR: ClassVar[str] = "head_node_ip"
    NPROC_PER_NODE_VAR: ClassVar[str] = "SLURM_NTASKS_PER_NODE"
    NUM_NODES_VAR: ClassVar[str] = "SLURM_NNODES"
    NODE_RANK_VAR: ClassVar[str] = "SLURM_NODEID"
    HET_GROUP_HOST_VAR: ClassVar[str] = "het_group_host"

    @dataclass(kw_only=True)
    class ResourceRequest:
        """What one task of a job group runs on; see :meth:`SlurmExecutor.merge`."""

        packager: Packager
        nodes: int
        ntasks_per_node: int
        container_image: str | None = None
        gpus_per_node: int | None = None
        gpus_per_task: int | None = None
        container_mounts: list[str] = field(default_factory=list)
        container_env: list[str] | None = None
        env_vars: dict[str, str] = field(default_factory=dict)
        srun_args: list[str] | None = None
        job_details: SlurmJobDetails = field(default_factory=SlurmJobDetails)
        het_group_index: int | None = None

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
    container_mounts: list[str] = field(default_factory=list)
    container_env: list[str] | None = None
    additional_parameters: dict[str, Any] | None = None
    srun_args: list[str] | None = None
    heterogeneous: bool = False
    memory_measure: bool = False
    job_details: SlurmJobDetails = field(default_factory=SlurmJobDetails)
    tunnel: SSHTunnel | LocalTunnel = field(default_factory=lambda: LocalTunnel(job_dir=""))
    dependencies: list[str] = field(default_factory=list)
    dependency_type: str = "afterok"
    torchrun_nproc_per_node: int | None = None
    wait_time_for_group_job: int = 30
    monitor_group_job: bool = True
    monitor_group_job_wait_time: int = 60
    setup_lines: str | None = None
    het_group_indices: list[int] | None = None
    segment: int | None = _option()
    network: str | None = _option()
    ray_template: str = "ray.sub.j2"
    poll_estimated_start_time: bool = True
    job_name: str = field(init=False, default="nemo-job")
    stderr_to_stdout: bool = field(init=False, default=True)
    resource_group: list[ResourceRequest] = field(init=False, default_factory=list)
    run_as_group: bool = field(init=False, default=False)

    def backend(self) -> Backend:
        """The cluster behind the tunnel."""
        return get_backend(self.engine, {"tunnel": self.tunnel.connection()})

    def info(self) -> str:
        """Kind of executor, and where."""
        return f"{type(self).__qualname__} on {self.tunnel.key}"

    @property
    def controlled_retries(self) -> int:
        """None: a failed job goes back into Slurm's queue, where it keeps its id and those that depend on it."""
        return 0

    @property
    def waits_for(self) -> str:
        """The same as :attr:`dependency_type`, where Slurm itself cannot see to it."""
        return {"afterany": "end", "afternotok": "failure", "after": "start"}.get(self.dependency_type, "success")

    def nnodes(self) -> int:
        """Number of nodes."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Processes on each node, whoever starts them."""
        if self.torchrun_nproc_per_node:
            return self.torchrun_nproc_per_node
        if self.ntasks_per_node == 1:
            return self.gpus_per_node or self.gpus_per_task or 1
        return self.ntasks_per_node

    def macro_values(self) -> ExecutorMacros:
        """Variables in which a job is told of its nodes."""
        return ExecutorMacros(
            head_node_ip_var=self.HEAD_NODE_IP_VAR,
            nproc_per_node_var=self.NPROC_PER_NODE_VAR,
            num_nodes_var=self.NUM_NODES_VAR,
            node_rank_var=self.NODE_RANK_VAR,
            het_group_host_var=self.HET_GROUP_HOST_VAR,
        )

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        for name, value in sbatch_options(self).items():
            script.flag(name, value)
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
        for mount in self.container_mounts:
            if not isinstance(mount, str) or not mount or any(c in mount for c in ",\n\0"):
                raise ExecutorError(f"SlurmExecutor.container_mounts: {mount!r} is not of the form 'source:target'")
        self.parse_deps()

    def parse_deps(self) -> list[str]:
        """Ids of the Slurm jobs in :attr:`dependencies`."""
        return [_job_id_of(dependency) for dependency in self.dependencies]

    def package(self, packager: Packager, job_name: str) -> None:
        """Note for a job that its code lies on the cluster already, where its packager says so."""
        source = packager.symlink_from_remote_dir
        key = get_packaging_job_key(str(self.experiment_id), job_name)
        self.tunnel.packaging_jobs[key] = PackagingJob(
            symlink=bool(source), src_path=source, dst_path=f"{self.tunnel.job_dir}/{job_name}/code" if source else None
        )

    @classmethod
    def merge(cls, executors: list[SlurmExecutor], num_tasks: int) -> SlurmExecutor:
        """The first executor, which knows the resources of all tasks of a job group.

        Args:
            executors: One for all tasks, or one for each.
            num_tasks: Number of tasks.

        Raises:
            ExecutorError: Their numbers do not fit.
        """
        if len(executors) not in (1, num_tasks):
            raise ExecutorError(f"{len(executors)} executors for {num_tasks} tasks: give one for all, or one for each")
        first = executors[0]
        first.run_as_group = True
        if len(executors) == 1 and not first.heterogeneous:
            return first
        indices = first.component_indices(num_tasks)
        names = {f.name for f in fields(cls.ResourceRequest)} - {"het_group_index"}
        first.resource_group = [
            cls.ResourceRequest(
                **{name: deepcopy(getattr(one, name)) for name in names},
                het_group_index=index if first.het_group_indices else None,
            )
            for one, index in zip(executors if len(executors) > 1 else executors * num_tasks, indices, strict=True)
        ]
        return first

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
    """The job id in ``"123"``, ``"slurm://123/…"`` or ``"slurm_tunnel://session/123/master/0"``."""
    path = dependency.partition("://")[2] or dependency
    for part in path.split("/"):
        if re.fullmatch(r"\d+(?:[_+]\d+)?", part.partition("#")[0]):
            return part.partition("#")[0]
    raise ExecutorError(
        f"SlurmExecutor.dependencies: {dependency!r} is neither the id of a Slurm job nor a handle of one"
    )


# --- from a request to a plan -----------------------------------------------------------------------------------------


def render(requests: list[JobRequest]) -> list[Plan]:
    """Plans of the tasks of one Slurm job: a single task, or those of a job group, of which the first leads. Pure."""
    executors = [_executor_of(request) for request in requests]
    first, leader = executors[0], requests[0]
    steps = [_step(request, executor, len(requests)) for request, executor in zip(requests, executors, strict=True)]
    base = _base(leader, first)
    if len(requests) > 1 and first.heterogeneous:
        components = first.component_indices(len(requests))
        steps = [
            replace(step, options=[f"--het-group={index}", *step.options])
            for step, index in zip(steps, components, strict=True)
        ]
        sets = [_options(leader, executors[components.index(i)], steps[0]) for i in range(components[-1] + 1)]
    else:
        sets = [_options(leader, first, steps[0])]
    batch = script.Batch(
        title=f"Job {leader.group or leader.job_id!r} of experiment {leader.experiment_id!r}, made by NeMo-Run",
        components=sets,
        steps=steps,
        packages=f"{base}/.packages",
        setup=first.setup_lines or "",
        retries=first.retries,
        end_on=leader.end_group_on if first.monitor_group_job else "never",
        pause=max(first.wait_time_for_group_job, 0),
        measure_memory=first.memory_measure,
    )
    plans = []
    for index, (request, executor, step) in enumerate(zip(requests, executors, steps, strict=True)):
        spec: dict[str, Any] = {
            "base": base,
            "folder": step.folder,
            "leader": steps[0].folder,
            "member": index,
            "members": len(requests),
            "env": dict(executor.env_vars),
            "code_archive": request.code_archive,
            "dependency_type": first.dependency_type,
            "dependencies": first.parse_deps(),
            "cwd": _on_cluster(step.cwd, step),
        }
        if index == 0:
            spec["batch"] = {**vars(batch), "steps": [vars(step) for step in steps]}  # asdict() is slow
        plans.append(Plan("slurm", request.job_id, request.directory, spec, {"tunnel": executor.tunnel.connection()}))
    return plans


def batch_of(spec: Mapping[str, Any]) -> script.Batch:
    """The batch job in the spec of a plan."""
    doc = spec["batch"]
    return script.Batch(**{**doc, "steps": [script.Step(**step) for step in doc["steps"]]})


def _executor_of(request: JobRequest) -> SlurmExecutor:
    if not isinstance(request.executor, SlurmExecutor):
        raise ExecutorError(f"job {request.job_id!r}: the slurm engine needs a SlurmExecutor, not {request.executor!r}")
    return request.executor


def _base(request: JobRequest, executor: SlurmExecutor) -> str:
    """Folder on the cluster below which the folders of all jobs are."""
    return executor.tunnel.job_dir.rstrip("/") or str(Path(executor.experiment_dir or request.directory).parents[1])


def _folder(request: JobRequest, executor: SlurmExecutor) -> str:
    """The job's own folder on the cluster."""
    root = Path(executor.experiment_dir or request.directory).parents[1]
    directory = Path(request.directory)
    inside = directory.relative_to(root) if directory.is_relative_to(root) else Path(directory.name)
    return f"{_base(request, executor)}/{inside}"


def _on_cluster(path: str, step: script.Step) -> str:
    return f"{step.folder}{path.removeprefix(step.inside)}" if path.startswith(f"{step.inside}/") else path


def _step(request: JobRequest, executor: SlurmExecutor, members: int) -> script.Step:
    folder = _folder(request, executor)
    inside = RUN_DIR if executor.container_image else folder
    here = isinstance(executor.tunnel, LocalTunnel) and not executor.container_image
    link = executor.packager.symlink_from_remote_dir or ""
    code = f"{inside}/code"
    base = request.cwd if here and not request.code_archive and not link else code
    bundled = run_by_bundle(request.command, f"{inside}/runner.zip")
    launcher = executor.get_launcher()
    command = _Names(request.directory, inside, "" if here else "python3").apply(bundled, executor)
    command = launcher.wrap(command, _layout(executor, inside, sys.executable if here else "python3"))
    env = {**executor.env_vars, **command.env}
    if request.code_archive or link:
        env["PYTHONPATH"] = ":".join(filter(None, [code, env.get("PYTHONPATH", "")]))
    tasks = 1 if launcher.one_per_node else executor.ntasks_per_node
    details = _details(request, executor, folder)
    return script.Step(
        folder=folder,
        inside=inside,
        options=_srun_options(executor, folder, env, tasks, members),
        argv=[
            _with_alias(arg.replace(ATTEMPT_FOLDER, f"{inside}/attempts/{script.ATTEMPT}"), inside)
            for arg in command.argv
        ],
        env={name: _with_alias(value, inside) for name, value in env.items()},
        cwd=posixpath.join(base, command.cwd) if command.cwd else base,
        log=str(details.srun_stdout),
        ranks=executor.nodes * tasks,
        error_log="" if executor.stderr_to_stdout else str(details.srun_stderr),
        code=bool(request.code_archive),
        code_link=link,
        runner=bundled is not request.command,
    )


def _with_alias(text: str, inside: str) -> str:
    return text if inside == RUN_DIR else _RUN_DIR_IN_WORD.sub(lambda _: inside, text)


def _layout(executor: SlurmExecutor, inside: str, python: str) -> Layout:
    processes = executor.nproc_per_node()
    return Layout(
        nodes=executor.nodes,
        processes_per_node=processes,
        head_node=script.HEAD_NODE,
        node_rank=script.NODE_RANK,
        log_dir=f"{ATTEMPT_FOLDER}/node.{script.NODE_RANK}.{processes}",
        profile_dir=inside,
        python=python,
    )


@dataclass(frozen=True)
class _Names:
    """What a command of this machine is called on the cluster."""

    directory: str
    inside: str
    python: str

    def apply(self, command: Command, executor: SlurmExecutor) -> Command:
        """The command, with the job's folder, the Python and the macros of the cluster."""
        argv = [self._word(arg, executor) for arg in command.argv]
        if self.python and argv[0] == sys.executable:
            argv[0] = self.python
        env = {name: self._word(value, executor) for name, value in command.env.items()}
        return replace(command, argv=tuple(argv), env=env)

    def _word(self, text: str, executor: SlurmExecutor) -> str:
        macros = executor.macro_values()
        expanded = macros.substitute(text) if "_var}" in text else text
        if expanded != text:
            names = rf"{macros.head_node_ip_var}|SLURM_[A-Z_]+|{macros.het_group_host_var}_\d+"
            expanded = re.sub(rf"\$\{{?({names})\}}?", "\0\\1\0", expanded)
        first, *rest = expanded.split(self.directory)
        there = (self.inside if part[:1] in ("", "/") else self.directory for part in rest)
        return first + "".join(folder + part for folder, part in zip(there, rest, strict=True))


def _srun_options(executor: SlurmExecutor, folder: str, env: Mapping[str, str], tasks: int, members: int) -> list[str]:
    options = ["--kill-on-bad-exit=1", "--wait=60"]
    if executor.cpus_per_task:
        options.append(f"--cpus-per-task={executor.cpus_per_task}")  # srun does not take it over from sbatch
    if members > 1:
        options += ["--overlap", f"--nodes={executor.nodes}", f"--ntasks={executor.nodes * tasks}"]
        options.append(f"--ntasks-per-node={tasks}")
    mounts = [mount.replace(_RUN_DIR_ON_HOST, folder, 1) for mount in executor.container_mounts]
    options += container_options(executor, list(env), [*mounts, f"{folder}:{RUN_DIR}"])
    return [*options, *(executor.srun_args or [])]


def _details(request: JobRequest, executor: SlurmExecutor, folder: str) -> SlurmJobDetails:
    details = deepcopy(executor.job_details)
    details.job_name = details.job_name or re.sub(r"[^A-Za-z0-9._-]+", "-", request.job_id)
    details.folder = details.folder or folder
    return details


def _options(request: JobRequest, executor: SlurmExecutor, step: script.Step) -> dict[str, Any]:
    """Options of sbatch for a job, or for one component of a heterogeneous one."""
    options = sbatch_options(executor)
    details = _details(request, executor, step.folder)
    number = "%A_%a" if executor.array else "%j"
    prefix = executor.job_name_prefix
    if prefix is None:
        prefix = f"{executor.account}-{executor.account.split('_')[-1]}." if executor.account else ""
    defaults = {
        "job_name": f"{prefix}{request.group or request.job_id}",
        "output": str(details.stdout).replace("%j", number),
        "chdir": step.folder,
    }
    if not executor.stderr_to_stdout:
        defaults["error"] = str(details.stderr).replace("%j", number)
    if executor.retries:
        options.setdefault("requeue", True)
    if executor.get_launcher().one_per_node:
        options["ntasks_per_node"] = 1
    return {**defaults, **options}
