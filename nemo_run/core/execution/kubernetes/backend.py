"""Attempts as Jobs (batch/v1): one for each node of a task.

The cluster supervises the pods, so that no process of ours needs to stay: any process finds an attempt by its name. The
process that first observes its end writes it into the folder of the attempt, with the log and the artifacts, and then
deletes its objects.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import PREEMPTION, JobState, Plan, TaskStatus
from nemo_run.core.execution.kubernetes import queue as queues
from nemo_run.core.execution.kubernetes.look import Snapshot, by_attempt
from nemo_run.core.execution.kubernetes.options import KubernetesOptions
from nemo_run.core.execution.kubernetes.spec import (
    check_size,
    job_object,
    manifest,
    owner_of,
    service_object,
    with_inbox,
)
from nemo_run.core.execution.pods import attempt as attempts, shipping
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.backend import PodBackend, PodInputs, refusals_naming
from nemo_run.core.execution.pods.client import (
    MANAGED_BY,
    MANAGER,
    Object,
    context_namespace,
)
from nemo_run.core.execution.pods.objects import ATTEMPT_LABEL, NODE_LABEL, RANK, fill, placeholders_of
from nemo_run.core.execution.pods.shipping import VolumeClaim
from nemo_run.core.execution.pods.spec import (
    KEEPER,
    TASK,
    attempt_name,
    command_inside,
    environment,
    job_folder,
    net_name,
)
from nemo_run.core.execution.pods.status import Pod, container_status, is_gone, pod_status, still, why_deleted, why_left
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.shipping import needs_runner
from nemo_run.core.files import write_text
from nemo_run.core.masking import holds_secret
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import Tunnel

_JOB = ("batch/v1", "Job")
_KEEPER_TIME = 60.0  # seconds in which the artifacts of a task that has ended are packed
_SETTLE = 0.5  # seconds for which nothing comes after the end of a log that ends with artifacts
_MANY = 50  # attempts up to which a query lists them by name
_NEWS = 5.0  # seconds between two questions for the events of an object


@door("Kubernetes")
class KubernetesBackend(PodBackend[PodHandle]):
    """Runs attempts as Jobs."""

    name: ClassVar[str] = "kubernetes"
    kind_of_attempt = PodHandle
    what_makes_pods: ClassVar[str] = "Job"

    def __init__(self, **connection: str) -> None:
        """Keep how to connect; nothing is asked for yet."""
        super().__init__(**connection)
        self._warnings: dict[str, tuple[float, str]] = {}  # by name: when they were asked for, and what they were

    # describing

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a task: one Job for each node."""
        executor = request.executor
        if not isinstance(executor, KubernetesOptions):
            raise ExecutorError(
                f"job {request.job_id!r}: the kubernetes engine needs a KubernetesExecutor, not {executor!r}"
            )
        connection = executor.connection()
        namespace = executor.namespace or context_namespace(connection)
        env = environment(executor, request, command_inside(executor, request))
        volume = VolumeClaim.of(executor, namespace)
        spec = {
            "name": attempt_name(request),
            "namespace": namespace,
            "nodes": executor.num_nodes,
            "job": job_object(executor, request, namespace),
            "net": net_name(request) if executor.num_nodes > 1 or request.group else "",
            "secrets": {name: value for name, value in env.items() if holds_secret(name, value)},
            "env": dict(request.command.env),
            "folder": job_folder(executor, request),
            "code_archive": request.code_archive,
            "runner": needs_runner(request.command),
            "volume": volume.to_json() if volume else None,
            "queue": executor.queue or "",
        }
        return Plan(self.name, request.job_id, request.directory, spec, connection)

    def with_variables(self, plan: Plan, variables: Mapping[str, str]) -> Plan:
        """Return the plan with further variables for its task."""
        job = deepcopy(plan.spec["job"])
        for container in job["spec"]["template"]["spec"]["containers"]:
            if container["name"] == TASK:
                container["env"] += [{"name": name, "value": value} for name, value in variables.items()]
        return replace(plan, spec={**plan.spec, "job": job})

    def describe(self, plan: Plan) -> str:
        """Return the objects for ``kubectl apply``, without packages and with secrets masked."""
        return manifest(plan)

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """Check that the cluster would accept the Jobs, and put large packages on their volumes."""
        by_volume = shipping.for_volumes(plans)
        for plan in plans:
            with refusals_naming(plan.job_id):
                job = fill(self._queued(plan), placeholders_of(plan, 1, 0))
                check_size(job)
                self._client.create_dry_run(job)
        for volume, files in by_volume.items():
            shipping.send(self._client, volume, files)

    def _queued(self, plan: Plan) -> Object:
        """Return the Job of one node as the owner of its queue wants it."""
        spec = plan.spec
        if not spec.get("queue"):
            return dict(spec["job"])
        system = queues.system_of(self._client, spec["queue"], spec["namespace"])
        if system == queues.KUEUE and spec["nodes"] > 1:
            raise ExecutorError(
                f"queue={spec['queue']!r}: Kueue would admit the Jobs of {spec['nodes']} nodes one by one, which would "
                "then wait for each other; use num_nodes=1, or a queue of Volcano"
            )
        return queues.queued(spec["job"], system, spec["queue"])

    def _start(self, plan: Plan, attempt: int) -> str:
        """Create the objects of an attempt; those that exist stay."""
        this = self._attempt(plan, attempt)
        placeholders, pieces, secrets = PodInputs.of(plan, attempt)
        services = [service_object(plan, placeholders)] if plan.spec["net"] else []
        this.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        this.note_shared([*(secret for _, secret in pieces), *services])
        job = with_inbox(self._queued(plan), shipping.inbox(pieces))
        with self._provided(secrets):
            owner = owner_of(self._client.create(fill(job, {**placeholders, RANK: "0"})))
            try:
                for obj in (*secrets, *services):
                    shipping.adopt(self._client, obj, owner)
                self._provide_group(plan, job, placeholders, owner)
                for rank in range(1, this.nodes):
                    other = fill(job, {**placeholders, RANK: str(rank)})
                    other["metadata"]["ownerReferences"] = [owner]
                    self._client.create(other)
            except EngineUnreachableError:
                raise
            except ExecutorError:
                self._delete(this, range(this.nodes))
                raise
        (this.folder / "submitted").touch(mode=0o600)
        return this.handle

    def _provide_group(self, plan: Plan, job: Object, placeholders: Mapping[str, str], owner: Object) -> None:
        """Create the group that the pods of an attempt wait for, where they do."""
        if queues.is_for_volcano(job):
            self._client.create(queues.pod_group(plan, placeholders, owner))

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if all its Jobs were created; delete them if only some were."""
        this = self._attempt(plan, attempt)
        if this.journal.recorded():
            return this.handle
        jobs = self._client.objects(*_JOB, this.namespace, f"{ATTEMPT_LABEL}={this.name}")
        if len(jobs) == this.nodes:
            first = min(jobs, key=lambda job: int(job["metadata"]["labels"][NODE_LABEL]))
            self._provide_group(plan, first, placeholders_of(plan, attempt), owner_of(first))
            (this.folder / "submitted").touch(mode=0o600)
            return this.handle
        self._delete(this, range(this.nodes))
        if plan.spec["secrets"]:
            self._client.delete("v1", "Secret", this.namespace, this.name)
        return None

    # following

    def _states_in(self, namespace: str, those: Sequence[PodHandle]) -> dict[str, TaskStatus]:
        pods = by_attempt(self._client.pods(namespace, _selector(those)))
        lacking = [this for this in those if len(pods.get(this.name, {})) < this.nodes]
        jobs: dict[str, dict[int, Object]] = {}
        if lacking:
            jobs = by_attempt(self._client.objects(*_JOB, namespace, _selector(lacking)))
        snapshots = (Snapshot(this, pods.get(this.name, {}), jobs.get(this.name, {})) for this in those)
        return {snapshot.attempt.handle: self._status(snapshot) for snapshot in snapshots}

    def _status(self, snapshot: Snapshot) -> TaskStatus:
        this = snapshot.attempt
        if not snapshot.pods and not snapshot.jobs:
            return this.journal.recorded() or self._missing(this)  # another process may have recorded its end meanwhile
        over = {rank: self._is_over(snapshot, pod) for rank, pod in snapshot.pods.items()}
        status = snapshot.status
        if snapshot.deleted and not snapshot.cancelled:
            return self._note_deletion(snapshot, over)
        if snapshot.has_ended(status, over):
            return self._record(snapshot, status)
        if snapshot.cancelled:
            self._end(snapshot)
            return replace(still(status), reason="it is being cancelled")
        return self._status_before_end(snapshot, status, over)

    def _status_before_end(self, snapshot: Snapshot, status: TaskStatus, over: Mapping[int, bool]) -> TaskStatus:
        """Return the status of an attempt that goes on; end it if it cannot start, or one of its nodes has failed."""
        if waiting := self._waits_in_queue(snapshot):
            return TaskStatus(JobState.PENDING, reason=waiting)
        reason, is_late = self._hindrance(snapshot)
        if is_late:
            return self._record(snapshot, TaskStatus(JobState.FAILED, None, reason))
        if any(over.values()) and status.state is JobState.FAILED:  # the others wait for the one that failed
            self._end(snapshot)
            return replace(still(status), reason=f"{status.reason}; the other nodes are being ended")
        if len(snapshot.pods) < snapshot.attempt.nodes:
            return replace(still(status), state=JobState.SUBMITTED, reason=reason)
        return replace(still(status), reason=status.reason or reason)

    def _waits_in_queue(self, snapshot: Snapshot) -> str:
        """Return why no pod of an attempt is given to a node yet, where that is for its queue to decide; else empty."""
        if snapshot.started:
            return ""
        for job in snapshot.suspended.values():
            return queues.why_waiting(self._client, job)
        for pod in snapshot.pods.values():
            if queue := queues.queue_of(pod):
                return queues.why_group_waits(self._client, snapshot.attempt.namespace, snapshot.attempt.name, queue)
        return ""

    def _note_deletion(self, snapshot: Snapshot, over: Mapping[int, bool]) -> TaskStatus:
        """Delete the Jobs of an attempt when one of its pods is deleted; another pod would run the task again."""
        this = snapshot.attempt
        if recorded := this.journal.recorded():  # it is deleted because it has ended
            return recorded
        self._note_taken(snapshot)
        if snapshot.pods and all(over.values()):
            return self._record(snapshot, _deletion(this))
        self._delete(this, range(this.nodes))
        self._keep_logs(snapshot)
        return TaskStatus(JobState.RUNNING, reason="its pod is being deleted")

    def _note_taken(self, snapshot: Snapshot) -> None:
        """Write down that a pod is being deleted, and what the cluster says of that."""
        file = snapshot.attempt.folder / "taken"
        if file.exists():
            return
        write_text(file, next(filter(None, self._causes(snapshot)), ""))

    def _causes(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield what the cluster says of why pods of an attempt are deleted, the surest first."""
        namespace = snapshot.attempt.namespace
        gone = [pod for pod in snapshot.pods.values() if is_gone(pod)]
        left = [words for name in (pod["spec"].get("nodeName") for pod in gone) if (words := self._why_left(name))]
        yield from (words for words in left if words.endswith("was lost"))  # which has a taint for that
        for pod in gone:
            with contextlib.suppress(ExecutorError):
                yield why_deleted(pod, self._client.events(namespace, pod["metadata"]["name"]))
        with contextlib.suppress(ExecutorError):
            jobs = self._client.objects(*_JOB, namespace, f"{ATTEMPT_LABEL}={snapshot.attempt.name}")
            yield queues.why_suspended(self._client, jobs)
        yield from left

    def _why_left(self, name: str | None) -> str:
        with contextlib.suppress(ExecutorError):
            return why_left(name, self._client.get("v1", "Node", "", name)) if name else ""
        return ""

    def _is_over(self, snapshot: Snapshot, pod: Pod) -> bool:
        """Return whether the task in a pod has ended, and its log and artifacts are complete."""
        status = pod_status(pod, TASK)
        if not status.state.is_final:
            return False
        if "running" in (container_status(pod, TASK).get("state") or {}):  # this is about the pod, not the container
            words = self._keeper_output(pod)
            return words[-1:] == [b"end"]
        keeper = (container_status(pod, KEEPER).get("state") or {}).get("running")
        return not keeper or time.time() - (status.ended or 0) > _KEEPER_TIME

    def _keeper_output(self, pod: Pod) -> list[bytes]:
        try:
            return attempts.keeper_output(self._client, pod)
        except ExecutorError:
            return []

    def _hindrance(self, snapshot: Snapshot) -> tuple[str, bool]:
        """Return why pods of an attempt cannot start, and whether their time to start is over."""

        def warning_of(name: str) -> str:
            told, words = self._warnings.get(name, (0.0, ""))
            if time.monotonic() - told > _NEWS:
                with contextlib.suppress(ExecutorError):
                    words = self._client.last_warning(snapshot.attempt.namespace, name)
                self._warnings[name] = (time.monotonic(), words)
            return words

        return snapshot.hindrance(warning_of)

    def _exists(self, this: PodHandle) -> bool:
        return bool(self._client.objects(*_JOB, this.namespace, f"{ATTEMPT_LABEL}={this.name}"))

    def _lost(self, this: PodHandle) -> TaskStatus:
        return _deletion(this) if (this.folder / "taken").exists() else super()._lost(this)

    def _record(self, snapshot: Snapshot, status: TaskStatus) -> TaskStatus:
        """Keep logs and artifacts of an attempt, write down how it ended, then delete its objects."""
        this = snapshot.attempt
        with this.journal.locked():
            if recorded := this.journal.recorded():
                return recorded
            if not self._keep_logs(snapshot) and not status.lost and time.time() - (status.ended or 0) < _KEEPER_TIME:
                return replace(still(status), reason="it has ended; its node does not answer for its log")
            for rank, pod in snapshot.pods.items():
                attempts.keep_artifacts(this, rank, self._keeper_output(pod))
            recorded = attempts.record(this, status)
        if not snapshot.kept:
            with contextlib.suppress(ExecutorError):  # the cluster deletes them in the end
                self._delete(this)
        return recorded

    def _keep_logs(self, snapshot: Snapshot) -> bool:
        complete = True
        for rank, pod in snapshot.pods.items():
            try:
                settle = 0.0 if attempts.has_keeper(pod) else _SETTLE
                attempts.keep_log(self._client, snapshot.attempt, rank, pod, settle)
            except EngineUnreachableError:
                complete = False
        return complete

    def cancel(self, handles: Iterable[str]) -> None:
        """Request the tasks to end (SIGTERM); their nodes kill those that do not within the grace period."""
        by_namespace: dict[str, list[PodHandle]] = {}
        for this in map(PodHandle.parse, handles):
            if this.folder.is_dir() and not this.journal.recorded():
                by_namespace.setdefault(this.namespace, []).append(this)
        for namespace, those in by_namespace.items():
            pods = by_attempt(self._client.pods(namespace, _selector(those)))
            for this in those:
                snapshot = Snapshot(this, pods.get(this.name, {}), {})
                if snapshot.pods and all(status.state.is_final for status in snapshot.statuses.values()):
                    continue
                this.journal.request_cancel()
                self._end(snapshot)

    def _end(self, snapshot: Snapshot) -> None:
        """End the pods of an attempt that have not ended."""
        this = snapshot.attempt
        snapshot.note_end_request()
        if not snapshot.started:
            self._delete(this)
        for rank in snapshot.started:
            if not snapshot.statuses[rank].state.is_final:
                attempts.end_pod(self._client, snapshot.pods[rank])

    def _delete(self, this: PodHandle, ranks: Iterable[int] = (0,)) -> None:
        """Delete Jobs of an attempt; the first one owns the others, which the cluster deletes a little later."""
        if first := self._client.get(*_JOB, this.namespace, f"{this.name}-0"):
            shipping.release(self._client, this.namespace, this.shared(), first["metadata"]["uid"])
        for rank in ranks:
            self._client.delete(*_JOB, this.namespace, f"{this.name}-{rank}")

    # files

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """Return the way to the first pod of a task that runs, and the task's folder there."""
        from nemo_run.core.execution.pods.reach import PodTunnel

        name, namespace = plan.spec["name"], plan.spec["namespace"]
        host, folder = "", plan.spec["folder"]
        for pod in self._client.pods(namespace, f"{MANAGED_BY}={MANAGER},{ATTEMPT_LABEL},{NODE_LABEL}=0"):
            base, _, attempt = pod["metadata"]["labels"][ATTEMPT_LABEL].rpartition("-")
            if base == name and pod_status(pod, TASK).state is JobState.RUNNING:
                host, folder = pod["metadata"]["name"], fill(folder, placeholders_of(plan, int(attempt), 0))
        way = PodTunnel(job_dir="", host=host, user="", client=self._client, namespace=namespace, container=TASK)
        return way, folder

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Unpack the artifacts that were kept, or copy them from the volume."""
        this = PodHandle.parse(handle)
        if not plan.spec["volume"]:
            attempts.unpack_kept(this, folder, f"{plan.spec['folder']}/artifacts", patterns)
            return
        volume = VolumeClaim.from_json(plan.spec["volume"])
        placeholders = placeholders_of(plan, int(this.folder.name))
        ranks = [rank for rank in reversed(range(this.nodes)) if patterns or this.artifacts_file(rank).exists()]
        if ranks:
            folders = [fill(plan.spec["folder"], {**placeholders, RANK: str(rank)}) for rank in ranks]
            shipping.collect(self._client, volume, folders, patterns, folder)


def _deletion(this: PodHandle) -> TaskStatus:
    """Return the status of an attempt whose pod was deleted."""
    why = (this.folder / "taken").read_text()
    cause = PREEMPTION if why.startswith(("preempted", "evicted")) or why.endswith("is being drained") else ""
    reason = "; ".join(filter(None, [why, "its pod was deleted"]))
    return TaskStatus(JobState.FAILED, None, reason, lost=True, cause=cause)


# --- names of attempts ---------------------------------------------------------------------------------------------


def _selector(those: Sequence[PodHandle]) -> str:
    if len(those) > _MANY:
        return f"{MANAGED_BY}={MANAGER},{ATTEMPT_LABEL}"
    return f"{ATTEMPT_LABEL} in ({','.join(this.name for this in those)})"
