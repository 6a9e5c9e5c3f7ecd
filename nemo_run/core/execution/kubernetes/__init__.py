"""Plain Kubernetes: every attempt of a task is a Job (batch/v1), or one Job for each of its nodes.

The cluster watches over the pods, so nothing of ours has to stay: any process finds an attempt again by its name. What
its end was is written into the folder of the attempt by whoever sees it first, with the log and the artifacts; then its
objects are deleted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from nemo_run.core.execution.base import JobRequest
from nemo_run.core.execution.jobs import JobState, JobStatus, Plan
from nemo_run.core.execution.kubernetes.look import Look, by_attempt, still
from nemo_run.core.execution.kubernetes.spec import (
    job_object,
    manifest,
    owner_of,
    places_of,
    service_object,
    with_inbox,
)
from nemo_run.core.execution.pods import attempt as attempts, shipping
from nemo_run.core.execution.pods.attempt import Attempt
from nemo_run.core.execution.pods.backend import Belongings, PodBackend
from nemo_run.core.execution.pods.client import (
    MANAGED_BY,
    MANAGER,
    Cluster,
    Object,
    context_namespace,
    default_connection,
)
from nemo_run.core.execution.pods.shipping import Volume
from nemo_run.core.execution.pods.spec import (
    ATTEMPT_LABEL,
    KEEPER,
    RANK,
    TASK,
    PodExecutor,
    attempt_name,
    command_inside,
    environment,
    filled,
    job_folder,
    net_name,
)
from nemo_run.core.execution.pods.status import Pod, combined, container_status, pod_status, seconds
from nemo_run.core.execution.shared.shipping import needs_runner
from nemo_run.core.masking import is_secret
from nemo_run.errors import EngineUnreachableError, ExecutorError

_JOB = ("batch/v1", "Job")
_KEEPER_TIME = 60.0  # seconds in which the artifacts of a task that has ended are packed
_MANY = 50  # attempts that are asked for by their names
_DELETED = JobStatus(JobState.FAILED, None, "its pod was deleted by somebody", lost=True)
_QUIET = 5.0  # seconds in which a cluster makes the pod of a Job


@dataclass(kw_only=True)
class KubernetesExecutor(PodExecutor):
    """Runs each task as a Job of Kubernetes; nothing has to be installed on the cluster.

    The job's folder is ``/nemo_run`` in the pod; the packaged code is in ``/nemo_run/code``, where the task runs.

    Example:
        >>> import nemo_run as run
        >>> executor = run.KubernetesExecutor(image="pytorch/pytorch", num_nodes=2, gpus_per_node=8)
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)

    Attributes:
        namespace: Namespace; by default that of the context.
        gpu_resource_name: Resource that stands for a GPU.
        node_selector: Labels of nodes on which pods may run.
        service_account: Account of the pods.
        priority_class: Priority class of the pods.
        shm_size: Size of ``/dev/shm``, e.g. ``"16Gi"``.
        working_dir: Working directory in the pod; a relative one starts at the packaged code.
        grace: Seconds between the request to end (SIGTERM) and the kill (SIGKILL).
        start_timeout: Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, has
            failed. A pod that waits for a node goes on waiting.
        ttl_seconds_after_finished: Seconds after which the cluster deletes a Job that ended and that nobody looked at.
        keep_job: Leave the Job on the cluster when it has ended, until that time.
    """

    engine: ClassVar[str] = "kubernetes"

    start_timeout: float = 300.0
    ttl_seconds_after_finished: int = 7 * 24 * 3600
    keep_job: bool = False

    def connection(self) -> dict[str, str]:
        """How to reach the cluster."""
        return default_connection(self.context, self.kubeconfig)

    def copy_to_workspace(self, local_path: str, remote_path: str) -> None:
        """Copy a file or folder of this machine to a path on ``workdir_pvc``."""
        cluster, volume = self._workspace()
        with contextlib.closing(cluster):
            shipping.copy_to_volume(cluster, volume, Path(local_path), self._on_volume(remote_path))

    def copy_from_workspace(self, remote_path: str, local_path: str) -> None:
        """Copy a file or folder on ``workdir_pvc`` to a path of this machine."""
        cluster, volume = self._workspace()
        with contextlib.closing(cluster):
            shipping.copy_from_volume(cluster, volume, self._on_volume(remote_path), Path(local_path))

    def _workspace(self) -> tuple[Cluster, Volume]:
        connection = self.connection()
        volume = Volume.of(self, self.namespace or context_namespace(connection))
        if volume is None:
            raise ExecutorError(f"{type(self).__name__} has no volume to copy to; name its claim with workdir_pvc=")
        return Cluster(connection), volume

    def _on_volume(self, path: str) -> str:
        return str(Path(self.workdir_pvc_path, path))


class KubernetesBackend(PodBackend[Attempt]):
    """Runs attempts as Jobs."""

    name: ClassVar[str] = "kubernetes"
    kind_of_attempt = Attempt
    what_makes_pods: ClassVar[str] = "Job"

    # describing

    def render(self, request: JobRequest) -> Plan:
        """Describe a job: one Job for each node."""
        executor = request.executor
        if not isinstance(executor, KubernetesExecutor):
            raise ExecutorError(
                f"job {request.job_id!r}: the kubernetes engine needs a KubernetesExecutor, not {executor!r}"
            )
        connection = executor.connection()
        namespace = executor.namespace or context_namespace(connection)
        env = environment(executor, request, command_inside(executor, request))
        volume = Volume.of(executor, namespace)
        spec = {
            "name": attempt_name(request),
            "namespace": namespace,
            "nodes": executor.num_nodes,
            "job": job_object(executor, request, namespace),
            "net": net_name(request) if executor.num_nodes > 1 or request.group else "",
            "secrets": {name: value for name, value in env.items() if is_secret(name)},
            "folder": job_folder(executor, request),
            "code_archive": request.code_archive,
            "runner": needs_runner(request.command),
            "volume": volume.to_json() if volume else None,
        }
        return Plan(self.name, request.job_id, request.directory, spec, connection)

    def describe(self, plan: Plan) -> str:
        """What ``kubectl apply`` would take, less the Secrets with the packages; values of secrets masked."""
        return manifest(plan)

    # submitting

    def make_ready(self, plans: Sequence[Plan]) -> None:
        """See to it that the cluster would take the Jobs, and that large packages are on their volumes."""
        by_volume = shipping.for_volumes(plans)
        for plan in plans:
            job = filled(plan.spec["job"], places_of(plan, 1, 0))
            try:
                self._cluster.create_dry_run(job)
            except EngineUnreachableError:
                raise
            except ExecutorError as e:
                raise ExecutorError(f"job {plan.job_id!r}: {e}") from e
        for volume, files in by_volume.items():
            shipping.send(self._cluster, volume, files)

    def submit(self, plan: Plan, attempt: int) -> str:
        """Create the objects of an attempt; those that are there already stay."""
        this = self._attempt(plan, attempt)
        places, pieces, secrets = Belongings.of(plan, attempt)
        services = [service_object(plan, places)] if plan.spec["net"] else []
        this.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        this.note_shared([*(secret for _, secret in pieces), *services])
        for secret in secrets:
            self._provide(secret)
        job = with_inbox(plan.spec["job"], shipping.inbox(pieces))
        first = self._cluster.create(filled(job, {**places, RANK: "0"}))
        owner = owner_of(first)
        for obj in (*secrets, *services):
            shipping.adopt(self._cluster, obj, owner)
        for rank in range(1, this.nodes):
            other = filled(job, {**places, RANK: str(rank)})
            other["metadata"]["ownerReferences"] = [owner]
            self._cluster.create(other)
        (this.folder / "submitted").touch(mode=0o600)
        return this.handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """The attempt's handle if all its Jobs were created; if only some were, they are deleted."""
        this = self._attempt(plan, attempt)
        if this.recorded():
            return this.handle
        jobs = self._cluster.objects(*_JOB, this.namespace, f"{ATTEMPT_LABEL}={this.name}")
        if len(jobs) == this.nodes:
            (this.folder / "submitted").touch(mode=0o600)
            return this.handle
        self._delete(this, range(this.nodes))
        if plan.spec["secrets"]:
            self._cluster.delete("v1", "Secret", this.namespace, this.name)
        return None

    # following

    def _states_in(self, namespace: str, those: Sequence[Attempt]) -> dict[str, JobStatus]:
        pods = by_attempt(self._cluster.pods(namespace, _selector(those)))
        lacking = [this for this in those if len(pods.get(this.name, {})) < this.nodes]
        jobs: dict[str, dict[int, Object]] = {}
        if lacking:
            jobs = by_attempt(self._cluster.objects(*_JOB, namespace, _selector(lacking)))
        looks = (Look(this, pods.get(this.name, {}), jobs.get(this.name, {})) for this in those)
        return {look.attempt.handle: self._status(look) for look in looks}

    def _status(self, look: Look) -> JobStatus:
        this = look.attempt
        if not look.pods and not look.jobs:
            return this.recorded() or self._missing(this)  # somebody else may have recorded its end meanwhile
        over = {rank: self._is_over(look, pod) for rank, pod in look.pods.items()}
        status = combined([look.statuses.get(rank) for rank in range(this.nodes)])
        if look.taken and not look.cancelled:
            return self._taken(look, over)
        settled = bool(look.started) and all(over[rank] or look.is_hopeless(rank) for rank in look.started)
        if settled and (len(look.started) == this.nodes or look.cancelled or status.state is JobState.FAILED):
            return self._record(look, status)
        if look.cancelled:
            self._end(look)
            return replace(still(status), reason="it is being cancelled")
        if reason := look.broken:
            return self._record(look, JobStatus(JobState.FAILED, None, reason))
        if any(over.values()) and status.state is JobState.FAILED:  # the others wait for the one that failed
            self._end(look)
            return replace(still(status), reason=f"{status.reason}; the other nodes are being ended")
        if len(look.pods) < this.nodes:
            return replace(still(status), state=JobState.SUBMITTED, reason=self._why_no_pod(look))
        return still(status)

    def _taken(self, look: Look, over: Mapping[int, bool]) -> JobStatus:
        """Somebody deletes a pod of an attempt. Its Job must not make another one, which would run the task again."""
        this = look.attempt
        if recorded := this.recorded():  # it is deleted as it has ended
            return recorded
        (this.folder / "taken").touch(mode=0o600)
        if look.pods and all(over.values()):
            return self._record(look, _DELETED)
        self._delete(this, range(this.nodes))
        self._keep_logs(look)
        return JobStatus(JobState.RUNNING, reason="its pod is being deleted by somebody")

    def _is_over(self, look: Look, pod: Pod) -> bool:
        """Whether the task in a pod has ended, and all that it left can be had."""
        status = pod_status(pod, TASK)
        if not status.state.is_final:
            return False
        if "running" in (container_status(pod, TASK).get("state") or {}):  # said of the pod, not of the container
            words = self._words(pod)
            return words[-1:] == [b"end"]
        keeper = (container_status(pod, KEEPER).get("state") or {}).get("running")
        return not keeper or time.time() - (status.ended or 0) > _KEEPER_TIME

    def _words(self, pod: Pod) -> list[bytes]:
        try:
            return attempts.kept_words(self._cluster, pod)
        except ExecutorError:
            return []

    def _why_no_pod(self, look: Look) -> str:
        """What the cluster says of a Job whose pod it has not made."""
        for rank, job in look.jobs.items():
            age = time.time() - (seconds(job["metadata"]["creationTimestamp"]) or 0)
            if rank not in look.pods and age > _QUIET:
                with contextlib.suppress(ExecutorError):
                    return self._cluster.last_warning(look.attempt.namespace, job["metadata"]["name"])
        return ""

    def _lost(self, this: Attempt) -> JobStatus:
        return _DELETED if (this.folder / "taken").exists() else super()._lost(this)

    def _record(self, look: Look, status: JobStatus) -> JobStatus:
        """Keep what an attempt left, write down how it ended, then delete its objects."""
        this = look.attempt
        with this.locked():
            if recorded := this.recorded():
                return recorded
            if not self._keep_logs(look) and not status.lost and time.time() - (status.ended or 0) < _KEEPER_TIME:
                return replace(still(status), reason="it has ended; its node does not answer for its log")
            for rank, pod in look.pods.items():
                attempts.keep_artifacts(this, rank, self._words(pod))
            recorded = attempts.record(this, status, cancelled=look.cancelled)
        if not look.kept:
            with contextlib.suppress(ExecutorError):  # the cluster does it in the end
                self._delete(this)
        return recorded

    def _keep_logs(self, look: Look) -> bool:
        complete = True
        for rank, pod in look.pods.items():
            try:
                attempts.keep_log(self._cluster, look.attempt, rank, pod)
            except EngineUnreachableError:
                complete = False
        return complete

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the tasks to end (SIGTERM). Their nodes kill those that do not within the grace."""
        by_namespace: dict[str, list[Attempt]] = {}
        for this in map(Attempt.parse, handles):
            if this.folder.is_dir() and not this.recorded():
                by_namespace.setdefault(this.namespace, []).append(this)
        for namespace, those in by_namespace.items():
            pods = by_attempt(self._cluster.pods(namespace, _selector(those)))
            for this in those:
                look = Look(this, pods.get(this.name, {}), {})
                if look.pods and all(status.state.is_final for status in look.statuses.values()):
                    continue
                (this.folder / "cancel").touch(mode=0o600)
                self._end(look)

    def _end(self, look: Look) -> None:
        """End what of an attempt has not ended."""
        this = look.attempt
        look.note_ending()
        if not look.started:
            self._delete(this)
        for rank in look.started:
            if not look.statuses[rank].state.is_final:
                attempts.end_pod(self._cluster, look.pods[rank])

    def _delete(self, this: Attempt, ranks: Iterable[int] = (0,)) -> None:
        """Delete Jobs of an attempt; the first one owns the others: those that are not named go a little later."""
        if first := self._cluster.get(*_JOB, this.namespace, f"{this.name}-0"):
            shipping.release(self._cluster, this.namespace, this.shared(), first["metadata"]["uid"])
        for rank in ranks:
            self._cluster.delete(*_JOB, this.namespace, f"{this.name}-{rank}")

    # files

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Unpack what was kept; from a volume, copy it."""
        this = Attempt.parse(handle)
        if not plan.spec["volume"]:
            attempts.unpack_artifacts(this, folder)
            if patterns:
                raise ExecutorError(
                    f"files that match {', '.join(patterns)} went with the pod; without a volume (workdir_pvc=) only "
                    "what lies in $NEMO_RUN_ARTIFACTS is collected"
                )
            return
        volume = Volume.from_json(plan.spec["volume"])
        places = places_of(plan, int(this.folder.name))
        left = [rank for rank in reversed(range(this.nodes)) if patterns or this.artifacts_file(rank).exists()]
        if left:
            folders = [filled(plan.spec["folder"], {**places, RANK: str(rank)}) for rank in left]
            shipping.collect(self._cluster, volume, folders, patterns, folder)


# --- names of attempts ---------------------------------------------------------------------------------------------


def _selector(those: Sequence[Attempt]) -> str:
    if len(those) > _MANY:
        return f"{MANAGED_BY}={MANAGER},{ATTEMPT_LABEL}"
    return f"{ATTEMPT_LABEL} in ({','.join(this.name for this in those)})"
