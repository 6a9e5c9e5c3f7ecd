"""Talking to DGX Cloud for experiments: creating workloads, asking for their states, reading what they leave.

The name of a workload is made from the attempt, and the service accepts it once: so an attempt is launched once, and
any later process finds it again. What a task writes, and the exit codes of its nodes, are in the attempt's folder on a
volume that is mounted here (``launched_from_cluster``) or reached through short helper workloads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core import extras
from nemo_run.core.execution.base import Backend, Submission, TaskRequest, one_by_one
from nemo_run.core.execution.dgxcloud import spec as bodies
from nemo_run.core.execution.dgxcloud.client import (
    DGXCloudClient,
    find_secret,
    keep_secret,
    namespace_of,
)
from nemo_run.core.execution.dgxcloud.log import LogToCome, PodLog, open_files, which_nodes
from nemo_run.core.execution.dgxcloud.options import PLAIN_PATH, DGXCloudOptions
from nemo_run.core.execution.dgxcloud.shipping import HelperTransfer, MountedTransfer, VolumeTransfer
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.attempt_files import attempt_folder, rank_logs
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.log_reader import LogReader, merged
from nemo_run.core.execution.shared.service_names import folder_there, mark_in, service_name
from nemo_run.core.execution.shared.shipping import Package, job_packages, shared_packages
from nemo_run.core.execution.shared.units import seconds
from nemo_run.core.masking import MASK
from nemo_run.core.packaging.globs import Patterns
from nemo_run.core.rest import Pieces
from nemo_run.errors import ExecutorError

_SCHEME = "dgxcloud://"


@door("DGX Cloud")
class DGXCloudBackend(Backend):
    """Runs attempts as workloads. What ended is in the attempts' folders, what has not the service knows."""

    name: ClassVar[str] = "dgxcloud"

    def __init__(
        self,
        base_url: str = "",
        kube_apiserver_url: str = "",
        client_id: str = "",
        project_name: str = "",
        pvcs: Sequence[Mapping[str, Any]] = (),
        mounted: bool = False,
        longest_command: int = 9500,
    ) -> None:
        self._base_url, self._client_id = base_url, client_id
        self.client = DGXCloudClient(base_url, kube_apiserver_url, client_id, project_name)
        self._mounted = mounted
        self.volume: VolumeTransfer = (
            MountedTransfer() if mounted else HelperTransfer(self.client, pvcs, longest_command)
        )
        self._running: dict[str, tuple[float | None, str]] = {}  # by handle: since when, and where; asked for once

    @staticmethod
    def why_not_usable() -> str:
        """Return why the service cannot be asked: httpx is not installed; empty if it can."""
        return extras.lacking(("httpx",), "dgxcloud", "DGXCloudExecutor")

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a job: one workload."""
        executor = request.executor
        if not isinstance(executor, DGXCloudOptions):
            raise ExecutorError(
                f"job {request.job_id!r}: the dgxcloud engine needs a DGXCloudExecutor, not {executor!r}"
            )
        folder = folder_there(executor.pvc_nemo_run_dir, get_nemorun_home(), request.directory)
        if not PLAIN_PATH.match(folder):
            raise ExecutorError(f"job {request.job_id!r}: its folder {folder!r} must be a path of plain characters")
        spec = bodies.job_spec(executor, request, folder)
        return Plan(self.name, request.job_id, request.directory, spec, executor.connection())

    def describe(self, plan: Plan) -> str:
        """Return the request that creates the workload, and the script that it runs; values of secrets masked."""
        return bodies.describe(plan.connection["base_url"], _name(plan, 1), plan.spec)

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return kind and name of the attempt's workload, and the attempt's folder here."""
        return f"{_SCHEME}{plan.spec['kind']}/{_name(plan, attempt)}{attempt_folder(plan, attempt)}"

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """Check that the service knows the client and the project, and bring code to the volume."""
        extras.require(("httpx",), "dgxcloud", "DGXCloudExecutor")
        find_secret(self._base_url, self._client_id, self.client.secret)
        self.client.project()
        self.keep_secret()
        for plan in plans:
            self.volume.provide(plan.spec["base"], list(shared_packages(plan).values()))

    def keep_secret(self) -> None:
        """Keep the secret of the client for processes that have no executor."""
        keep_secret(self._base_url, self._client_id, self.client.secret)

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, one after the other."""
        return one_by_one(submissions, self._start)

    def _start(self, plan: Plan, attempt: int) -> str:
        """Create the workload of an attempt."""
        spec, handle = plan.spec, self.expected_handle(plan, attempt)
        script, own = _own(plan)
        self.volume.provide(spec["base"], list(shared_packages(plan).values()))
        first = self.volume.inline(spec["base"], own)
        if not first:
            self.volume.provide(spec["base"], own)
        path = f"{bodies.packages_folder(spec['base'])}/{script.name}"
        command, args = bodies.run_command(path, attempt, first)
        project = self.client.project()
        body = bodies.creation(_name(plan, attempt), project, spec["workload"], command, args, spec["env"])
        _note_submission(plan, attempt, self.client.create(spec["kind"], body))
        return handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if the service has its workload."""
        handle = self.expected_handle(plan, attempt)
        if AttemptFolder.of(plan, attempt).has_ended:
            return handle
        workload = self.client.find(_name_in(handle))
        if workload is None:
            return None
        _note_submission(plan, attempt, workload)
        return handle

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Return the status of all these attempts; the engine is asked, once, for those that have not ended."""
        found = {handle: _folder(handle).recorded() for handle in handles}
        marks = {mark_in(_name_in(handle)) for handle, status in found.items() if status is None}
        there = {name: workload for mark in marks for name, workload in self.client.listed(mark).items()}
        for handle in [handle for handle, status in found.items() if status is None]:
            found[handle] = self._status(handle, there.get(_name_in(handle)))
        return {handle: status for handle, status in found.items() if status is not None}

    def _status(self, handle: str, workload: Mapping[str, Any] | None) -> TaskStatus:
        if workload is None:
            return self._missing(handle)
        state, reason = bodies.phase_state(workload)
        if state.is_final:
            return self._record_end(handle, workload, state, reason)
        if state is not JobState.RUNNING:
            return TaskStatus(state, reason=reason)
        started, node = self._where(handle, workload)
        return TaskStatus(state, reason=reason, started=started, node=node)

    def _where(self, handle: str, workload: Mapping[str, Any]) -> tuple[float | None, str]:
        """Return since when an attempt runs, and on which node its first pod."""
        if handle not in self._running:
            started, node = _start(self.client.pods(workload["id"]))
            if started is None:
                return seconds(workload.get("phaseUpdatedAt")), node
            self._running[handle] = started, node
        return self._running[handle]

    def _record_end(self, handle: str, workload: Mapping[str, Any], state: JobState, reason: str) -> TaskStatus:
        """Write down how an attempt ended, so that the service need not be asked later."""
        folder = _folder(handle)
        started, node = self._where(handle, workload)
        ended = seconds(workload.get("completedAt") or workload.get("phaseUpdatedAt")) or time.time()
        code, why = (0, "") if state is JobState.SUCCEEDED else self._exit_code(handle, workload)
        if state is JobState.CANCELLED or (folder.is_cancelled and state is JobState.FAILED):
            said = "; ".join(filter(None, ["stopped by somebody else", reason]))
            state, reason = JobState.CANCELLED, "cancelled" if folder.is_cancelled else said
        else:
            reason = why or ("" if code else reason)
        begun = ended if started is None else started
        return folder.write_end(TaskStatus(state, code, reason, begun, max(ended, begun), node))

    def _exit_code(self, handle: str, workload: Mapping[str, Any]) -> tuple[int | None, str]:
        """Return the exit code of the node that failed first, and why, where that is known."""
        known = _folder(handle).submission()
        if self._mounted and known:
            ends = [_end_of_node(self._files(handle, known), node) for node in range(known["nodes"])]
        else:
            namespace = namespace_of(workload, self.client.project())
            pods = self.client.pods(workload["id"])
            ends = [_end_of_pod(self.client.pod(namespace, pod["name"])) for pod in pods]
        failed = [end for end in ends if end and end.code]
        if not failed:
            return None, ""
        first = min(failed, key=lambda end: (end.when, end.code > 128))
        return first.code, first.why

    def _missing(self, handle: str) -> TaskStatus:
        folder = _folder(handle)
        if recorded := folder.recorded():  # somebody else has recorded its end meanwhile
            return recorded
        known = _folder(handle).submission()
        if not known:
            return TaskStatus(JobState.UNKNOWN, reason="DGX Cloud has not heard of it")
        if workload := self.client.get(_kind_in(handle), known["id"]):  # which the list has not got yet
            return self._status(handle, {"id": known["id"], **workload})
        asked = folder.is_cancelled
        reason = "cancelled, and its workload was deleted" if asked else "its workload was deleted by somebody else"
        state = JobState.CANCELLED if asked else JobState.FAILED
        return TaskStatus(state, reason=reason, ended=time.time(), lost=not asked)

    def cancel(self, handles: Iterable[str]) -> None:
        """Suspend the workloads that have not ended, which asks their tasks to end."""
        for handle, folder in ((handle, _folder(handle)) for handle in handles):
            if folder.has_ended or not folder.path.is_dir():
                continue
            workload = self.client.find(_name_in(handle))
            if workload is None or bodies.phase_state(workload)[0].is_final:
                continue
            folder.request_cancel()
            self.client.suspend(_kind_in(handle), workload["id"])

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait; the service has to be asked for news, which :meth:`states` does not do too often."""
        time.sleep(max(timeout, 0))
        return []

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks, or nodes where there are several, that have a log of their own."""
        known = _folder(handle).submission()
        if not known:
            return []
        if known["nodes"] > 1:
            return list(range(known["nodes"]))
        return sorted(rank_logs(self._files(handle, known)))

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """Return the log of an attempt, or of one rank or node of it."""
        folder = _folder(handle)
        if folder.submission():
            return self._open_log(handle, rank, tail)
        return LogToCome(lambda: self._open_log(handle, rank, tail) if folder.submission() else None)

    def _open_log(self, handle: str, rank: int | None, tail: int | None) -> LogReader:
        known = _folder(handle).submission()
        nodes, files = known["nodes"], self._files(handle, known)
        if self._mounted or (files / "fetched").exists():
            return open_files(files, nodes, rank, tail)
        source = _Source(self, handle)
        return merged({node: PodLog(source, node, tail) for node in which_nodes(nodes, rank)})

    def _files(self, handle: str, known: Mapping[str, Any]) -> Path:
        """Return where the files of an attempt are on this machine, or will be."""
        folder = _folder(handle).path
        return Path(known["folder"], "attempts", folder.name) if self._mounted else folder

    def fetch_files(self, handle: str, *others: str) -> Path:
        """Bring what an ended attempt left in its folder on the volume here, and ``others`` of its job's folder."""
        folder, known = _folder(handle).path, _folder(handle).submission()
        if known and (others or not (folder / "fetched").exists()):
            self.volume.fetch(known["folder"], [f"attempts/{folder.name}", *others], folder.parent.parent)
            (folder / "fetched").touch(mode=0o600)
        return folder

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Bring what the task left in its folder of artifacts, and what matches below its working directory."""
        if not (self._mounted or self.client.has_cluster_api):
            if patterns:
                raise ExecutorError("files are fetched through kube_apiserver_url of the executor, which is not given")
            return
        self.fetch_files(handle)
        known = _folder(handle).submission()
        with leftovers.gathered() as left:
            if known:
                left.update(self.volume.fetch_left(f"{known['folder']}/artifacts", folder))
            if patterns:
                cwd, wanted = plan.spec["cwd"], Patterns(patterns, descend=True)
                names = [name for name in self.volume.names(cwd) if wanted.match(name)]
                if names:
                    self.volume.fetch(cwd, names, folder)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def backend_of(options: DGXCloudOptions) -> DGXCloudBackend:
    """Return a backend for the service that the options name, which knows the secret given there."""
    backend = DGXCloudBackend(**options.connection())
    backend.client.secret = "" if options.client_secret == MASK else options.client_secret
    return backend


class _Source:
    """An attempt whose log is read from its pods."""

    def __init__(self, backend: DGXCloudBackend, handle: str) -> None:
        self._backend, self._handle = backend, handle
        self._namespace = ""

    def pod(self, node: int) -> str | None:
        """Return the name of the pod of a node; nodes are in the order of their pods."""
        client = self._backend.client
        workload = client.find(_name_in(self._handle))
        if workload is None:
            return None
        self._namespace = namespace_of(workload, client.project())
        pods = client.pods(workload["id"])
        return str(pods[node]["name"]) if node < len(pods) else None

    def so_far(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod has written."""
        return self._backend.client.pod_log(self._namespace, pod)

    def follow(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod writes, until it ends."""
        return self._backend.client.follow_pod_log(self._namespace, pod)

    def has_ended(self) -> bool:
        """Return whether the attempt has ended."""
        return self._backend.states([self._handle])[self._handle].state.is_final

    def files(self) -> Path:
        """Return the files of the attempt, which has ended."""
        return self._backend.fetch_files(self._handle)


# --- names, folders and records ----------------------------------------------------------------------------------


def _own(plan: Plan) -> tuple[Package, list[Package]]:
    """Return the script of a job, and all that has to be on the volume for this job alone."""
    spec, found = plan.spec, job_packages(plan)
    if spec["folder"] == plan.directory:  # its files are there
        del found["job"]
    files = {what: f"{bodies.packages_folder(spec['base'])}/{package.name}" for what, package in found.items()}
    script = Package.of("run", bodies.run_script(spec, files).encode("utf-8", "surrogateescape"), ".sh")
    return script, [*(package for what, package in found.items() if what == "job"), script]


def _name(plan: Plan, attempt: int) -> str:
    return plan.spec.get("name") or service_name(plan.job_id, plan.directory, attempt, bodies.LONGEST_NAME)


def _kind_in(handle: str) -> str:
    return handle.removeprefix(_SCHEME).split("/", 2)[0]


def _name_in(handle: str) -> str:
    return handle.removeprefix(_SCHEME).split("/", 2)[1]


def _folder(handle: str) -> AttemptFolder:
    return AttemptFolder(Path("/" + handle.removeprefix(_SCHEME).split("/", 2)[2]))


def _note_submission(plan: Plan, attempt: int, workload: Mapping[str, Any]) -> None:
    workload_id = workload.get("workloadId") or workload.get("id")
    folder = AttemptFolder.of(plan, attempt)
    folder.note_submission(folder=plan.spec["folder"], nodes=plan.spec["nodes"], id=workload_id)


def _start(pods: Iterable[Mapping[str, Any]]) -> tuple[float | None, str]:
    times, node = [], ""
    for pod in pods:
        node = node or str(pod.get("nodeName") or "")
        times += [seconds(container.get("startedAt")) for container in pod.get("containers", [])]
    return min((when for when in times if when), default=None), node


@dataclass(frozen=True)
class _End:
    """How one node ended."""

    code: int
    when: float
    why: str = ""


def _end_of_node(attempt: Path, node: int) -> _End | None:
    """Return how a node ended, from the file that it left."""
    try:
        code, _, when = (attempt / (f"end.{node}" if node else "end")).read_text().split()
    except (OSError, ValueError):
        return None
    return _End(int(code), float(when))


def _end_of_pod(pod: Mapping[str, Any] | None) -> _End | None:
    """Return how a node ended, from what the cluster says of its pod."""
    for status in ((pod or {}).get("status") or {}).get("containerStatuses", []):
        if ended := (status.get("state") or {}).get("terminated"):
            why = str(ended.get("message") or "").strip()
            if ended.get("reason") == "OOMKilled":
                why = "out of memory: it needed more than its pod may use"
            return _End(int(ended.get("exitCode") or 0), seconds(ended.get("finishedAt")) or 0.0, why)
    return None
