"""DGX Cloud Lepton: every attempt of a task is one job there, with one replica for every node.

Nothing of ours has to stay: any process finds a job again by its name, which is made from where the attempt lies in the
store. What became of it, its logs and its exit code, is written into the folder of the attempt by whoever sees the end
first, as the service forgets.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Executor, JobRequest
from nemo_run.core.execution.jobs import Command, JobState, JobStatus, Plan
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.execution.lepton.client import Workspace, default_connection, node_of
from nemo_run.core.execution.lepton.log import End, ReplicaLog, save
from nemo_run.core.execution.lepton.shipping import Mount
from nemo_run.core.execution.lepton.spec import LeptonJobState
from nemo_run.core.execution.shared.attempt_files import attempt_folder, final_status
from nemo_run.core.execution.shared.log_reader import LogReader, merged
from nemo_run.core.execution.shared.service_names import mark_in
from nemo_run.core.execution.shared.shipping import job_archive, packages
from nemo_run.core.files import read_json, write_json
from nemo_run.errors import EngineUnreachableError, ExecutorError

_SCHEME = "lepton://"
_NEW = 60.0  # seconds in which a job that was created may not be known to all parts of the service
_SHARE, _LONGEST = 0.1, 10.0  # how long an answer will do: of the time without changes, and in seconds at most
_LOOK_FOR_REASONS = 30.0  # seconds between two looks at why a job does not start


@dataclass(kw_only=True)
class LeptonExecutor(Executor):
    """Runs each task as a job on DGX Cloud Lepton.

    The image needs ``sh``, ``tar`` and ``base64``, and for functions Python 3.10 or newer. The workspace is the one of
    ``LEPTON_WORKSPACE_ID`` and ``LEPTON_WORKSPACE_TOKEN``, or of ``lep login``.

    Example:
        >>> import nemo_run as run
        >>> executor = run.LeptonExecutor(
        ...     container_image="nvcr.io/nvidia/nemo:25.07", nemo_run_dir="/mnt/nemo", nodes=2, gpus_per_node=8,
        ...     resource_shape="gpu.8xh100-sxm", node_group="my-group", launcher="torchrun",
        ...     mounts=[{"path": "/", "mount_path": "/mnt", "from": "node-nfs:shared"}],
        ... )
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)

    Attributes:
        container_image: The image.
        nemo_run_dir: Folder in the container, on one of the ``mounts``, below which the folders of all jobs are.
        launched_from_cluster: This machine has the mount at ``nemo_run_dir``, too: files are copied there.
        nodes: Number of replicas, one on each node.
        gpus_per_node: Processes that a launcher such as torchrun starts in each replica; the shape decides on GPUs.
        nprocs_per_node: The same where there are no GPUs.
        shared_memory_size: Size of ``/dev/shm``, in MiB.
        resource_shape: What a replica gets, e.g. ``"gpu.8xh100-sxm"``.
        node_group: Name or id of a node group.
        node_reservation: Id of a reservation of nodes.
        secret_vars: Environment variables, and the names of the Lepton secrets that they get their values from.
        mounts: Storage: ``{"path": on it, "mount_path": in the container, "from": "node-nfs:its-name"}``.
        lepton_job_dir: Set by the experiment: the job's folder in the container.
        image_pull_secrets: Names of the Lepton secrets for the registry of the image.
        custom_spec: Further fields of the job's ``spec``, which go before those made here; ``None`` takes one away.
        pre_launch_commands: Lines of shell that every replica runs before the task; it sees what they export.
        head_resource_shape: The shape of the head of a Ray cluster.
        ray_version: The version of Ray of a Ray cluster.
        can_be_preempted: The job gives up its nodes to one of higher priority.
        can_preempt: The job may take the nodes of one of lower priority.
        queue_priority: Priority in the queue, e.g. ``"mid-4000"``.
        mover_image: Image of the short jobs that move files to and from the mount; needs ``sh``, ``tar``, ``base64``.
        mover_resource_shape: What those jobs get.
    """

    engine: ClassVar[str] = "lepton"

    container_image: str
    nemo_run_dir: str
    launched_from_cluster: bool = False
    nodes: int = 1
    gpus_per_node: int = 0
    nprocs_per_node: int = 1
    shared_memory_size: int = 65536
    resource_shape: str = ""
    node_group: str = ""
    node_reservation: str = ""
    secret_vars: dict[str, str] = field(default_factory=dict)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    lepton_job_dir: str = field(init=False, default="")
    image_pull_secrets: list[str] = field(default_factory=list)
    custom_spec: dict[str, Any] = field(default_factory=dict)
    pre_launch_commands: list[str] = field(default_factory=list)
    head_resource_shape: str | None = ""
    ray_version: str | None = None
    can_be_preempted: bool = False
    can_preempt: bool = False
    queue_priority: str | None = None
    mover_image: str = "busybox:1.37.0"
    mover_resource_shape: str = "cpu.small"

    def nnodes(self) -> int:
        """Number of replicas."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Processes in each replica: one for each GPU, where there are any."""
        return self.gpus_per_node or self.nprocs_per_node or 1

    def is_on_mount(self) -> bool:
        """Whether ``nemo_run_dir`` is on one of the mounts, so that what is written there stays."""
        folders = [str(mount.get("mount_path", "")).rstrip("/") for mount in self.mounts]
        return any(f"{self.nemo_run_dir}/".startswith(f"{folder}/") for folder in folders if folder)

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id
        self.lepton_job_dir = bodies.job_folder(self.nemo_run_dir, get_nemorun_home(), self.job_dir)

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        if not re.fullmatch(r"[A-Za-z0-9]\S*", self.container_image):
            raise ExecutorError(f"LeptonExecutor.container_image: {self.container_image!r} is not the name of an image")
        if not self.nemo_run_dir.startswith("/"):
            raise ExecutorError(f"LeptonExecutor.nemo_run_dir={self.nemo_run_dir!r} must be an absolute path")
        for name in ("nodes", "nprocs_per_node"):
            if getattr(self, name) < 1:
                raise ExecutorError(f"LeptonExecutor.{name} must be at least 1, but is {getattr(self, name)}")
        for mount in self.mounts:
            if not isinstance(mount, Mapping) or not {"path", "mount_path"} <= mount.keys():
                raise ExecutorError(
                    f"LeptonExecutor.mounts: {mount!r} must have 'path' and 'mount_path', and 'from', "
                    "e.g. {'path': '/', 'mount_path': '/mnt', 'from': 'node-nfs:shared'}"
                )
        try:
            json.dumps([self.mounts, self.custom_spec])
        except (TypeError, ValueError) as e:
            raise ExecutorError(f"LeptonExecutor.mounts and custom_spec must be values that JSON can hold: {e}") from e
        for name in [*self.env_vars, *self.secret_vars]:
            if name in bodies.RESERVED:
                raise ExecutorError(f"LeptonExecutor.env_vars: {name!r} is set by Lepton itself; use another name")
        _check_secrets(self)

    # For code that drives jobs by itself.

    def launch(self, name: str, cmd: list[str]) -> tuple[str, LeptonJobState]:
        """Start a command as a job, in the folder that :meth:`assign` has set; the job's id and its state."""
        if not self.job_dir:
            raise ExecutorError("LeptonExecutor.launch: there is no folder for the job yet; call assign() first")
        self.check()
        request = JobRequest(self.experiment_id or "", name, self.job_dir, self, Command(tuple(cmd)))
        backend = LeptonBackend()
        try:
            plan = backend.render(request)
            backend.make_ready([plan])
            job_id = _name_in(backend.submit(plan, 1))
            return job_id, self.status(job_id)
        finally:
            backend.close()

    def status(self, job_id: str) -> LeptonJobState:
        """State of a job as Lepton names it; ``Running`` only where all its replicas run."""
        with _workspace() as workspace:
            job = workspace.job(job_id) or {}
        said = LeptonJobState((job.get("status") or {}).get("state") or "UNK")
        waits = said is LeptonJobState.Running and bodies.job_state(job)[0] is JobState.PENDING
        return LeptonJobState.Starting if waits else said

    def stop_job(self, job_id: str) -> None:
        """Ask a job to end."""
        with _workspace() as workspace:
            workspace.stop(job_id)

    def cancel(self, job_id: str) -> None:
        """Delete a job, which ends it."""
        with _workspace() as workspace:
            workspace.delete(job_id)

    @classmethod
    def logs(cls, app_id: str, fallback_path: str | None) -> None:  # noqa: ARG003
        """Print the log of a job's first replica until it ends."""
        from nemo_run.core.execution.lepton.log import print_log

        with _workspace() as workspace:
            print_log(workspace, re.sub(r"^(?:.*?___){2}", "", app_id))

    def create_lepton_job(self, name: str) -> dict[str, Any]:
        """Create a job that runs ``launch_script.sh`` of the job's folder on the mount; the job."""
        command = ["/bin/bash", "-c", f"bash {self.lepton_job_dir}/launch_script.sh"]
        envs = bodies.variables(self.env_vars, self.secret_vars)
        with _workspace() as workspace:
            group = workspace.node_group_id(self.node_group) if self.node_group else ""
            workspace.create(bodies.creation(name, bodies.lepton_spec(self), command, envs, group))
            return workspace.job(name) or {}

    def move_data(
        self,
        sleep: float = 10,
        timeout: int = 600,
        poll_interval: int = 5,
        unknowns_grace_period: int = 60,
    ) -> None:
        """Copy the job's folder to ``lepton_job_dir`` on the mount."""
        with _workspace() as workspace:
            mount = Mount.of_executor(workspace, self)
            mount.send_folder(Path(self.job_dir), self.lepton_job_dir, timeout)

    def copy_directory_data_command(self, local_dir_path: str, dest_path: str) -> list[str]:
        """The command that unpacks a small folder of this machine somewhere else."""
        from nemo_run.core.execution.lepton.shipping import archive_of

        return bodies.unpack_command(dest_path, archive_of(Path(local_dir_path)))


def _check_secrets(executor: LeptonExecutor) -> None:
    for name, secret in executor.secret_vars.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)) or not isinstance(secret, str) or not secret:
            raise ExecutorError(
                f"LeptonExecutor.secret_vars: {name!r}: {secret!r} must be a variable and the name of a Lepton secret"
            )
        if name in executor.env_vars:
            raise ExecutorError(f"LeptonExecutor.secret_vars: {name!r} is in env_vars, too; give it once")


class _workspace(Workspace):  # noqa: N801
    """The workspace of this process, for a ``with``."""

    def __init__(self) -> None:
        super().__init__(default_connection())

    def __enter__(self) -> _workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Answer:
    """What the service said of the jobs of one experiment.

    Attributes:
        asked: When it was asked.
        changed: Since when it says the same.
        jobs: The jobs by their names.
    """

    asked: float
    changed: float
    jobs: dict[str, dict[str, Any]]


class LeptonBackend:
    """Runs attempts as jobs of a Lepton workspace. What ended is in the attempts' folders, what has not is there."""

    name: ClassVar[str] = "lepton"
    supports_dependencies: ClassVar[bool] = False
    supports_groups: ClassVar[bool] = False
    shares_files: ClassVar[bool] = False
    poll_interval: ClassVar[float] = 2.0

    def __init__(self, **connection: str) -> None:
        self._workspace = Workspace(connection or default_connection())
        self._groups: dict[str, str] = {}
        self._sent: dict[str, tuple[str, str]] = {}
        self._reasons: dict[str, tuple[float, str]] = {}
        self._answers: dict[str, _Answer] = {}

    # describing

    def render(self, request: JobRequest) -> Plan:
        """Describe a job: the body of the request that creates it, and what its replicas run."""
        executor = request.executor
        if not isinstance(executor, LeptonExecutor):
            raise ExecutorError(f"job {request.job_id!r}: the lepton engine needs a LeptonExecutor, not {executor!r}")
        folder = bodies.job_folder(executor.nemo_run_dir, get_nemorun_home(), request.directory)
        spec = bodies.job_spec(executor, request, folder)
        return Plan(self.name, request.job_id, request.directory, spec, default_connection())

    def describe(self, plan: Plan) -> str:
        """The request that creates the job, and the script; values of secrets masked."""
        return bodies.shown(_name(plan, 1), plan.spec)

    def handle(self, plan: Plan, attempt: int) -> str:
        """Name of the attempt's job, and its folder here."""
        return f"{_SCHEME}{_name(plan, attempt)}{attempt_folder(plan, attempt)}"

    # submitting

    def make_ready(self, plans: Sequence[Plan]) -> None:
        """See to it that the workspace answers, has the node groups, and has large files on the mount."""
        if plans:
            self._workspace.check()
        for plan in plans:
            try:
                self._group(plan)
                self._send(plan)
            except ExecutorError as e:
                raise type(e)(f"job {plan.job_id!r}: {e}") from e

    def submit(self, plan: Plan, attempt: int) -> str:
        """Create the job of an attempt."""
        name, handle = _name(plan, attempt), self.handle(plan, attempt)
        inline, sent = self._send(plan)
        script = bodies.run_script(plan.spec, name, attempt, inline, sent)
        command = bodies.run_command({"run.sh": script.encode("utf-8", "surrogateescape"), **inline})
        envs = bodies.variables(plan.spec["env"], plan.spec["secrets"])
        body = bodies.creation(name, plan.spec["job"], command, envs, self._group(plan))
        attempt_folder(plan, attempt).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._workspace.create(body)
        self._answers.pop(mark_in(name), None)
        _note_submission(handle, plan)
        return handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """The attempt's handle if its job was created."""
        handle = self.handle(plan, attempt)
        if _exit_file(handle).exists():
            return handle
        with _as_outage():
            if self._workspace.job(_name(plan, attempt)) is None:
                return None
        attempt_folder(plan, attempt).mkdir(parents=True, exist_ok=True, mode=0o700)
        _note_submission(handle, plan)
        return handle

    def _group(self, plan: Plan) -> str:
        """Id of the node group of a plan; empty where it has none."""
        name = plan.spec["node_group"]
        if name and name not in self._groups:
            self._groups[name] = self._workspace.node_group_id(name)
        return self._groups.get(name, "")

    def _send(self, plan: Plan) -> tuple[dict[str, bytes], dict[str, tuple[str, str]]]:
        """The files of a job that are small, and those that are on the mount, by what they are."""
        spec = plan.spec
        files = {"job": job_archive(plan.directory)}
        shared = packages(spec["code_archive"], runner=spec["runner"])
        files |= {what: package.path.read_bytes() for what, package in shared.items()}
        inline: dict[str, bytes] = {}
        sent: dict[str, tuple[str, str]] = {}
        room = bodies.INLINE
        for what, content in sorted(files.items(), key=lambda item: len(item[1])):
            if len(content) <= room:
                inline[what] = content
                room -= len(content)
                continue
            sha256 = hashlib.sha256(content).hexdigest()
            package = shared[what].name if what in shared else f"{what}-{sha256[:32]}.tar.gz"
            mount = Mount(self._workspace, spec, self._group(plan))
            if mount.key(package) not in self._sent:
                mount.send(package, content)
                self._sent[mount.key(package)] = (package, sha256)
            sent[what] = (package, sha256)
        return inline, sent

    # following

    def states(self, handles: Sequence[str]) -> dict[str, JobStatus]:
        """Status of all these attempts: of those that have ended from their folders, of the others in one query."""
        found = {handle: _recorded(handle) for handle in handles}
        unknown = {handle: _name_in(handle) for handle, status in found.items() if status is None}
        there: dict[str, dict[str, Any]] = {}
        with _as_outage():
            for mark in sorted({mark_in(name) for name in unknown.values()}):  # one experiment, one query
                there |= self._jobs(mark)
            for handle, name in unknown.items():
                found[handle] = self._status(handle, there.get(name) or self._workspace.job(name))
        return {handle: status for handle, status in found.items() if status is not None}

    def _jobs(self, mark: str) -> dict[str, dict[str, Any]]:
        """The jobs of an experiment; the last answer will do the longer, the longer nothing has changed."""
        now = time.monotonic()
        last = self._answers.get(mark) or _Answer(float("-inf"), now, {})
        if now - last.asked < min(_LONGEST, _SHARE * (now - last.changed)):
            return last.jobs
        jobs = self._workspace.jobs(mark)
        same = {name: job.get("status") for name, job in jobs.items()} == {
            name: job.get("status") for name, job in last.jobs.items()
        }
        self._answers[mark] = _Answer(now, last.changed if same else now, jobs)
        return jobs

    def _status(self, handle: str, job: Mapping[str, Any] | None) -> JobStatus:
        if job is None:
            return _recorded(handle) or self._missing(handle)
        state, reason = bodies.job_state(job)
        if state.is_final:
            return self._record_end(handle, state, reason)
        if (_folder(handle) / "cancel").exists() and not (job.get("spec") or {}).get("stopped"):
            self._workspace.stop(_name_in(handle))  # it was not known yet when it was cancelled
        if state is JobState.RUNNING:
            seen = self._seen_running(handle)
            return JobStatus(state, reason=reason, started=seen["started"], node=seen["node"])
        if state is JobState.PENDING:
            reason = ": ".join(filter(None, [reason, self._why_pending(_name_in(handle))]))
        return JobStatus(state, reason=reason)

    def _seen_running(self, handle: str) -> dict[str, Any]:
        """When an attempt was first seen running, and where; written down, as the service does not tell."""
        path = _folder(handle) / "running.json"
        if not path.exists():
            first = self._workspace.replicas(_name_in(handle)).get(0)
            write_json(path, {"started": time.time(), "node": node_of(first) if first else ""})
        return dict(read_json(path))

    def _why_pending(self, name: str) -> str:
        asked, reason = self._reasons.get(name, (float("-inf"), ""))
        if time.monotonic() - asked > _LOOK_FOR_REASONS:
            reason = self._workspace.warnings(name)
            self._reasons[name] = (time.monotonic(), reason)
        return reason

    def _missing(self, handle: str) -> JobStatus:
        submitted = _submission(handle)
        if not submitted:
            return JobStatus(JobState.UNKNOWN, reason="Lepton has not heard of it")
        if (_folder(handle) / "cancel").exists():
            return self._record(handle, JobState.CANCELLED, "cancelled, and deleted on Lepton", [])
        if time.time() - submitted["at"] < _NEW:
            return JobStatus(JobState.SUBMITTED)
        reason = "it is not on Lepton any more, and how it ended is not known"
        return JobStatus(JobState.FAILED, reason=reason, ended=time.time(), lost=True)

    def _record_end(self, handle: str, state: JobState, reason: str) -> JobStatus:
        """Save the logs of an attempt that has ended, and write down how."""
        name = _name_in(handle)
        ends = [save(self._workspace, name, rank, path) for rank, path in _logs(handle).items()]
        cancelled = (_folder(handle) / "cancel").exists()
        if cancelled and state is not JobState.SUCCEEDED:
            state, reason = JobState.CANCELLED, "cancelled"
        elif state is JobState.FAILED:
            reason = "; ".join(filter(None, [reason, self._workspace.warnings(name)]))
        return self._record(handle, state, reason, [end for end in ends if end])

    def _record(self, handle: str, state: JobState, reason: str, ends: Sequence[End]) -> JobStatus:
        codes = [end.exit_code for end in ends]
        code = next(filter(None, codes), 0 if state is JobState.SUCCEEDED else None)
        if state is JobState.FAILED and code is None and not reason:
            reason = "Lepton says that it failed, and its log does not say why"
        end = {
            "exit_code": code,
            "reason": reason,
            "cancelled": state is JobState.CANCELLED,
            "started": min((end.started for end in ends), default=None),
            "ended": max((end.ended for end in ends), default=None) or time.time(),
            "node": "",
            "artifacts": not ends or any(end.left_artifacts for end in ends),
        }
        if (running := _folder(handle) / "running.json").exists():
            end |= {key: value for key, value in read_json(running).items() if not end[key]}
        write_json(_exit_file(handle), end)
        return final_status(end)

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the jobs that have not ended to end."""
        self._answers.clear()
        for handle, status in self.states(list(handles)).items():
            if status.state.is_final or status.state is JobState.UNKNOWN:
                continue
            write_json(_folder(handle) / "cancel", {"at": time.time()})
            with _as_outage():
                self._workspace.stop(_name_in(handle))
        self._answers.clear()

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait until it is time to ask again."""
        time.sleep(max(0.0, min(timeout, self.poll_interval) if handles else timeout))
        return list(handles)

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Ranks that have a log of their own: the replicas, where there are several."""
        ranks = list(_logs(handle))
        return ranks if len(ranks) > 1 else []

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """The log of an attempt, or of one replica of it."""
        paths = _logs(handle)
        if rank is not None and rank not in paths:
            raise ExecutorError(f"rank {rank} has no log; ranks with one: {', '.join(map(str, paths))}")
        wanted = paths if rank is None else {rank: paths[rank]}
        return merged({number: self._log(handle, number, path, tail) for number, path in wanted.items()})

    def _log(self, handle: str, rank: int, path: Path, tail: int | None) -> LogReader:
        def saved() -> Path | None:
            return path if _exit_file(handle).exists() else None

        return ReplicaLog(self._workspace, _name_in(handle), rank, saved, tail)

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Fetch what the task left in its folder of artifacts, and what matches below its working directory."""
        left = _exit_file(handle).exists() and read_json(_exit_file(handle))["artifacts"]
        if not left and not patterns:
            return
        if not plan.spec["is_on_mount"] and not plan.spec["is_here"]:
            raise ExecutorError(
                f"nemo_run_dir={plan.spec['base']!r} is on none of the mounts, so its files went with its container"
            )
        mount = Mount(self._workspace, plan.spec, self._group(plan))
        if left:
            mount.fetch(f"{plan.spec['folder']}/artifacts", ["**/*"], folder)
        if patterns:
            mount.fetch(plan.spec["cwd"], patterns, folder)

    def close(self) -> None:
        """Close the connections."""
        self._workspace.close()


@contextlib.contextmanager
def _as_outage() -> Iterator[None]:
    """A refusal to answer, for want of a token or a right, says as little of jobs as an outage does."""
    try:
        yield
    except EngineUnreachableError:
        raise
    except ExecutorError as e:
        raise EngineUnreachableError(str(e)) from e


# --- folders and records -----------------------------------------------------------------------------------------


def _name(plan: Plan, attempt: int) -> str:
    return bodies.attempt_name(plan.job_id, plan.directory, attempt)


def _name_in(handle: str) -> str:
    return handle.removeprefix(_SCHEME).partition("/")[0]


def _folder(handle: str) -> Path:
    return Path("/" + handle.removeprefix(_SCHEME).partition("/")[2])


def _exit_file(handle: str) -> Path:
    return _folder(handle) / "exit.json"


def _note_submission(handle: str, plan: Plan) -> None:
    write_json(_folder(handle) / "submitted.json", {"at": time.time(), "nodes": plan.spec["nodes"]})


def _submission(handle: str) -> dict[str, Any]:
    path = _folder(handle) / "submitted.json"
    return read_json(path) if path.exists() else {}


def _logs(handle: str) -> dict[int, Path]:
    """Where the logs of all replicas are saved, by their ranks."""
    nodes = _submission(handle).get("nodes", 1)
    names = ["log"] if nodes == 1 else [f"log.{rank}" for rank in range(nodes)]
    return {rank: _folder(handle) / name for rank, name in enumerate(names)}


def _recorded(handle: str) -> JobStatus | None:
    return final_status(read_json(_exit_file(handle))) if _exit_file(handle).exists() else None
