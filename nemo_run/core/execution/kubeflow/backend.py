"""Attempts as TrainJobs, whose pods a runtime of the cluster describes.

The process that first observes the end of an attempt writes it into its folder, with the logs, and deletes the
TrainJob. The runtime decides whether a failed pod is started again within an attempt.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.kubeflow import train_job as trainer
from nemo_run.core.execution.kubeflow.options import KubeflowOptions
from nemo_run.core.execution.kubeflow.spec import INDEX, described_job, job_name
from nemo_run.core.execution.kubeflow.train_job import API_VERSION, CONTAINER, KIND
from nemo_run.core.execution.pods import attempt as attempts, shipping
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.backend import PodBackend, PodInputs, refusals_naming
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, KubernetesClient, Object, context_namespace
from nemo_run.core.execution.pods.objects import (
    KEEP,
    RANK,
    START_TIMEOUT,
    fill,
    placeholders_of,
    secret_object,
)
from nemo_run.core.execution.pods.shipping import VolumeClaim
from nemo_run.core.execution.pods.spec import SHOWN_PACKAGES, inbox_volumes, job_folder
from nemo_run.core.execution.pods.status import Pod, broken, combined, pod_status, still
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.execution.shared.shipping import needs_runner
from nemo_run.core.execution.shared.units import seconds
from nemo_run.core.masking import MASK, masked_arguments
from nemo_run.errors import EngineUnreachableError, ExecutorError, MissingExtraError

_TRAIN_JOB = (API_VERSION, KIND)
_JOB_SET_LABEL = "jobset.sigs.k8s.io/jobset-name"
_DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainjobs.trainer.kubeflow.org"
_DOCUMENTS = (f"/openapi/v3/apis/{API_VERSION}", "/openapi/v2")
_LOG_TIME = 60.0  # seconds in which a node that does not answer is asked again for the log of a pod that has ended
_SETTLE = 0.5  # seconds for which nothing comes after the end of a log
_OVER = ("Complete", "Failed")


@dataclass(frozen=True)
class TrainJobHandle(PodHandle):
    """Handle of an attempt whose pods belong to a TrainJob."""

    scheme: ClassVar[str] = "kubeflow"
    container: ClassVar[str] = CONTAINER

    @property
    def selector(self) -> str:
        """Labels by which its pods are found."""
        return f"{_JOB_SET_LABEL}={self.name}"

    @staticmethod
    def node_of(pod: Pod) -> int:
        """Return the rank of a pod."""
        metadata = pod["metadata"]
        return int((metadata.get("labels") or {}).get(INDEX) or (metadata.get("annotations") or {}).get(INDEX) or 0)


@door("Kubernetes")
class KubeflowBackend(PodBackend[TrainJobHandle]):
    """Runs attempts as TrainJobs."""

    name: ClassVar[str] = "kubeflow"
    kind_of_attempt = TrainJobHandle
    what_makes_pods: ClassVar[str] = KIND

    def __init__(self, **connection: str) -> None:
        """Keep how to connect; nothing is asked for yet."""
        super().__init__(**connection)
        self._field = ""

    # describing

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a task as one TrainJob."""
        executor = request.executor
        if not isinstance(executor, KubeflowOptions):
            raise ExecutorError(f"job {request.job_id!r}: kubeflow needs a KubeflowExecutor, not {executor!r}")
        connection = executor.connection()
        namespace = executor.namespace or context_namespace(connection)
        job, secrets = described_job(executor, request, namespace)
        volume = VolumeClaim.of(executor, namespace)
        spec = {
            "name": job_name(executor, request),
            "namespace": namespace,
            "nodes": executor.num_nodes,
            "described": job,
            "secrets": secrets,
            "env": dict(request.command.env),
            "folder": job_folder(executor, request),
            "code_archive": request.code_archive,
            "runner": needs_runner(request.command),
            "volume": volume.to_json() if volume else None,
            "local_folder": [executor.workdir_local_path, executor.code_dir] if executor.workdir_local_path else None,
            "start_timeout": executor.start_timeout,
            "keep": executor.keep_job,
        }
        return Plan(self.name, request.job_id, request.directory, spec, connection)

    def describe(self, plan: Plan) -> str:
        """Return the TrainJob for the newest Kubeflow Trainer, without packages and with secrets masked."""
        placeholders = placeholders_of(plan, 1)
        newest = trainer.for_version(trainer.OVERRIDES[0], plan.spec["described"])
        job = fill(newest, {**placeholders, **SHOWN_PACKAGES})
        args = job["spec"]["trainer"].get("args")
        if args:
            job["spec"]["trainer"]["args"] = masked_arguments(args)
        objects = [job]
        if plan.spec["secrets"]:
            masked = dict.fromkeys(plan.spec["secrets"], MASK)
            objects.insert(0, secret_object(plan, placeholders, masked))
        return as_yaml(*objects)

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """Check that the cluster would accept the TrainJobs as they are, and put the packages on their volumes."""
        by_volume = shipping.for_volumes(plans)
        for plan in plans:
            self._check(plan)
        for volume, files in by_volume.items():
            shipping.send(self._client, volume, files)
        for plan in plans:
            if plan.spec["local_folder"]:
                source, target = plan.spec["local_folder"]
                volume = VolumeClaim.from_json(plan.spec["volume"])
                shipping.copy_to_volume(self._client, volume, Path(source), target)

    def _check(self, plan: Plan) -> None:
        runtime = plan.spec["described"]["job"]["spec"]["runtimeRef"]["name"]
        with refusals_naming(plan.job_id):
            self._check_runtime(runtime)
        job = fill(self._body(plan, []), placeholders_of(plan, 1))
        with refusals_naming(plan.job_id):
            kept = self._client.create_dry_run(job)
            if kept and (lost := sorted(trainer.dropped(job["spec"], kept["spec"], "spec"))):
                raise ExecutorError(
                    f"the Kubeflow Trainer of {self._client.name!r} would ignore {', '.join(lost)}; leave that out, or "
                    "have it updated"
                )

    def _check_runtime(self, name: str) -> None:
        try:
            there = self._client.get(API_VERSION, "ClusterTrainingRuntime", "", name) is not None
        except (EngineUnreachableError, MissingExtraError):
            raise
        except ExecutorError as e:
            if "no ClusterTrainingRuntime" in str(e):
                raise
            there = True  # not every user may read it
        if not there:
            raise ExecutorError(
                f"the cluster {self._client.name!r} has no ClusterTrainingRuntime {name!r}; name one of `kubectl get "
                "clustertrainingruntimes` with runtime_ref="
            )

    def _body(self, plan: Plan, pieces: Sequence[tuple[str, Object]]) -> Object:
        """Return the TrainJob as this cluster's version has it."""
        described = plan.spec["described"]
        pod = described["pod"]
        volumes = inbox_volumes(pod["spec"]["volumes"], shipping.inbox(pieces))
        described = {**described, "pod": {**pod, "spec": {**pod["spec"], "volumes": volumes}}}
        return trainer.for_version(self._served_field(), described, plan.job_id)

    def _served_field(self) -> str:
        """Return the field in which this cluster's version takes changes of pods."""
        self._field = self._field or served_field(self._client)
        return self._field

    def _start(self, plan: Plan, attempt: int) -> str:
        """Create the objects of an attempt; those that exist stay."""
        this = self._attempt(plan, attempt)
        placeholders, pieces, secrets = PodInputs.of(plan, attempt)
        this.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        this.note_shared(secret for _, secret in pieces)
        with self._provided(secrets):
            job = self._client.create(fill(self._body(plan, pieces), placeholders))
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": this.name, "uid": job["metadata"]["uid"]}
        for secret in secrets:
            shipping.adopt(self._client, secret, owner)
        (this.folder / "submitted").touch(mode=0o600)
        return this.handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if its TrainJob was created."""
        this = self._attempt(plan, attempt)
        if this.journal.recorded() or self._client.get(*_TRAIN_JOB, this.namespace, this.name):
            (this.folder / "submitted").touch(mode=0o600)
            return this.handle
        return None

    # following

    def _states_in(self, namespace: str, those: Sequence[TrainJobHandle]) -> dict[str, TaskStatus]:
        jobs = {
            job["metadata"]["name"]: job
            for job in self._client.objects(*_TRAIN_JOB, namespace, f"{MANAGED_BY}={MANAGER}")
        }
        pods: dict[str, dict[int, Pod]] = {}
        for pod in sorted(self._client.pods(namespace, _JOB_SET_LABEL), key=_age):  # the newest one counts
            name = pod["metadata"]["labels"][_JOB_SET_LABEL]
            pods.setdefault(name, {})[TrainJobHandle.node_of(pod)] = pod
        return {this.handle: self._status(this, jobs.get(this.name), pods.get(this.name, {})) for this in those}

    def _exists(self, this: PodHandle) -> bool:
        return self._client.get(*_TRAIN_JOB, this.namespace, this.name) is not None

    def _status(self, this: TrainJobHandle, job: Object | None, pods: Mapping[int, Pod]) -> TaskStatus:
        if job is None:
            return self._missing(this)
        statuses = {rank: pod_status(pod, CONTAINER) for rank, pod in pods.items()}
        status = combined([statuses.get(rank) for rank in range(this.nodes)])
        condition = _condition(job)
        settled = all(entry.state.is_final for entry in statuses.values())
        if this.journal.is_cancelled:
            if settled:
                return self._record(this, job, pods, status)
            self._end(this, pods)
            return replace(still(status), reason="it is being cancelled")
        if settled and condition.get("type") in _OVER:
            return self._record(this, job, pods, _final(status, condition))
        if reason := _hopeless(job, pods):
            return self._record(this, job, pods, TaskStatus(JobState.FAILED, None, reason))
        return _before_end(status, condition, len(pods), this.nodes)

    def _record(self, this: TrainJobHandle, job: Object, pods: Mapping[int, Pod], status: TaskStatus) -> TaskStatus:
        """Keep the logs of an attempt, write down how it ended, then delete its TrainJob."""
        with this.journal.locked():
            if recorded := this.journal.recorded():
                return recorded
            try:
                for rank, pod in pods.items():
                    attempts.keep_log(self._client, this, rank, pod, settle=_SETTLE)
            except EngineUnreachableError:
                if not status.lost and time.time() - (status.ended or 0) < _LOG_TIME:
                    return replace(still(status), reason="it has ended; its node does not answer for its log")
            recorded = attempts.record(this, status)
        if KEEP not in (job["metadata"].get("annotations") or {}):
            with contextlib.suppress(ExecutorError):  # it is no longer needed, but does no harm
                shipping.release(self._client, this.namespace, this.shared(), job["metadata"]["uid"])
                self._client.delete(*_TRAIN_JOB, this.namespace, this.name)
        return recorded

    def cancel(self, handles: Iterable[str]) -> None:
        """Request the tasks to end (SIGTERM); their nodes kill those that do not within the grace period."""
        for this in map(TrainJobHandle.parse, handles):
            if not this.folder.is_dir() or this.journal.recorded():
                continue
            pods = {TrainJobHandle.node_of(pod): pod for pod in self._client.pods(this.namespace, this.selector)}
            if pods and all(pod_status(pod, CONTAINER).state.is_final for pod in pods.values()):
                continue
            this.journal.request_cancel()
            self._end(this, pods)

    def _end(self, this: TrainJobHandle, pods: Mapping[int, Pod]) -> None:
        """End the pods of an attempt that have not ended."""
        if not any(pod["spec"].get("nodeName") for pod in pods.values()):
            change = {"spec": {"suspend": True}}
            self._client.patch(*_TRAIN_JOB, this.namespace, this.name, change, merge="application/merge-patch+json")
        for pod in pods.values():
            if not pod_status(pod, CONTAINER).state.is_final:
                attempts.end_pod(self._client, pod)

    # files

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Unpack the artifacts that were kept, or copy them from the volume."""
        this = TrainJobHandle.parse(handle)
        if not plan.spec["volume"]:
            attempts.unpack_kept(this, folder, f"{plan.spec['folder']}/artifacts", patterns)
            return
        placeholders = placeholders_of(plan, int(this.folder.name))
        folders = [
            fill(plan.spec["folder"], {**placeholders, RANK: str(rank), "$(NODE_RANK)": str(rank)})
            for rank in reversed(range(this.nodes))
        ]
        shipping.collect(self._client, VolumeClaim.from_json(plan.spec["volume"]), folders, patterns, folder)


# --- the state of objects -------------------------------------------------------------------------------------------


def served_field(client: KubernetesClient) -> str:
    """Return the field in which a cluster takes changes of pods; not all users may read the definition."""
    definition = client.request("GET", _DEFINITION, absent=(403, 404))
    found = trainer.served_field(trainer.schema_of_definition(definition)) if definition else None
    for path in () if found else _DOCUMENTS:
        document = client.request("GET", path, absent=(403, 404)) or {}
        found = found or trainer.served_field(trainer.schema_of_document(document))
    return found or trainer.OVERRIDES[0]


def _age(obj: Object) -> str:
    return str(obj["metadata"]["creationTimestamp"])


def _condition(job: Object) -> Mapping[str, Any]:
    """Return the condition that holds for a TrainJob: that it is over, or suspended."""
    conditions = (job.get("status") or {}).get("conditions") or []
    held = [entry for entry in conditions if entry["status"] == "True"]
    return next((entry for entry in held if entry["type"] in _OVER), held[0] if held else {})


def _before_end(status: TaskStatus, condition: Mapping[str, Any], pods: int, nodes: int) -> TaskStatus:
    """Return the status of an attempt that goes on, from that of its pods and the condition of its TrainJob."""
    if not pods:
        words = condition.get("message", "") if condition.get("type") == "Suspended" else ""
        return TaskStatus(JobState.PENDING if words else JobState.SUBMITTED, reason=words)
    if pods < nodes and status.state is not JobState.FAILED:
        return replace(still(status), state=JobState.PENDING)
    return still(status)


def _final(status: TaskStatus, condition: Mapping[str, Any]) -> TaskStatus:
    """Return how an attempt ended: the state of its TrainJob, with the details of its pods."""
    ended = status.ended or seconds(condition.get("lastTransitionTime"))
    if condition["type"] == "Complete":
        return replace(status, state=JobState.SUCCEEDED, exit_code=0, reason="", ended=ended)
    if status.state is JobState.FAILED:
        return replace(status, ended=ended)
    words = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return replace(status, state=JobState.FAILED, exit_code=None, reason=words, ended=ended)


def _hopeless(job: Object, pods: Mapping[int, Pod]) -> str:
    """Return why an attempt cannot start once its time to start is over; else empty."""
    limit = float((job["metadata"].get("annotations") or {}).get(START_TIMEOUT, 0))
    for rank, pod in pods.items():
        reason = broken(pod)
        if reason and time.time() - (seconds(pod["metadata"]["creationTimestamp"]) or 0) >= limit:
            return reason if len(pods) == 1 else f"node {rank}: {reason}"
    return ""
