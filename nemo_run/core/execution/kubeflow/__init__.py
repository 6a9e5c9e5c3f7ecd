"""Kubeflow Trainer: every attempt of a task is a TrainJob, whose pods a runtime of the cluster describes.

What an attempt's end was is written into its folder by whoever sees it first, with its logs; then the TrainJob is
deleted. Whether a failed pod is started again within an attempt is for the runtime to say.
"""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from nemo_run.core.execution.base import JobRequest
from nemo_run.core.execution.jobs import JobState, JobStatus, Plan
from nemo_run.core.execution.kubeflow import standalone as direct, train_job as trainer
from nemo_run.core.execution.kubeflow.spec import (
    INDEX,
    KEEP,
    START_TIMEOUT,
    described,
    described_job,
    job_name,
    slug,
)
from nemo_run.core.execution.kubeflow.standalone import KubeflowJobState
from nemo_run.core.execution.kubeflow.train_job import API_VERSION, CONTAINER, KIND
from nemo_run.core.execution.kubernetes.look import still
from nemo_run.core.execution.kubernetes.spec import places_of, secret_object, text_of
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
    INBOX_VOLUME,
    RANK,
    PodExecutor,
    filled,
    job_folder,
    merged,
    package_place,
    placement,
    resources,
)
from nemo_run.core.execution.pods.status import Pod, broken, combined, pod_status, seconds
from nemo_run.core.execution.shared.shipping import needs_runner
from nemo_run.core.masking import MASK, masked_arguments
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import EngineUnreachableError, ExecutorError

_TRAIN_JOB = (API_VERSION, KIND)
_JOB_SET_LABEL = "jobset.sigs.k8s.io/jobset-name"
_DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainjobs.trainer.kubeflow.org"
_DOCUMENTS = (f"/openapi/v3/apis/{API_VERSION}", "/openapi/v2")
_LOG_TIME = 60.0  # seconds in which a node that does not answer is asked again for the log of a pod that has ended
_SETTLE = 0.5  # seconds for which nothing comes after the end of a log
_OVER = ("Complete", "Failed")


@dataclass(kw_only=True)
class KubeflowExecutor(PodExecutor):
    """Runs each task as a TrainJob of Kubeflow Trainer (2.0 and later).

    Example:
        >>> import nemo_run as run
        >>> executor = run.KubeflowExecutor(image="pytorch/pytorch", num_nodes=2, gpus_per_node=8, launcher="torchrun")
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)

    Attributes:
        runtime_ref: The ClusterTrainingRuntime.
        namespace: Namespace of the TrainJob.
        image: The image; by default that of the runtime.
        data_mover_image: Image of the pod that copies to ``workdir_pvc``; it needs ``sh`` and ``tar``.
        restart_policy: Kept for programs that set it: what happens to a failed pod is for the runtime to say.
        spec_kwargs: Merged into the specification of the TrainJob.
        workdir_local_path: Folder of this machine whose content is copied to ``code_dir`` on the volume at launch.
        train_job_basename: How names of TrainJobs begin; by default with the name of the job.
        start_timeout: Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, has
            failed. A pod that waits for a node goes on waiting.
        keep_job: Leave the TrainJob on the cluster when it has ended.
    """

    engine: ClassVar[str] = "kubeflow"
    needs_image: ClassVar[bool] = False
    may_restart: ClassVar[bool] = True

    packager: Packager = field(default_factory=Packager)
    runtime_ref: str = "torch-distributed"
    namespace: str = "default"
    data_mover_image: str = "alpine:3.19"
    restart_policy: str = "OnFailure"
    spec_kwargs: dict[str, Any] = field(default_factory=dict)
    workdir_local_path: str | None = None
    train_job_basename: str | None = None
    start_timeout: float = 300.0
    keep_job: bool = False

    @property
    def code_dir(self) -> str:
        """Folder on ``workdir_pvc`` for files of this job, of this user alone."""
        parts = [getpass.getuser(), *filter(None, (self.experiment_id, PurePosixPath(self.job_dir).name)), "code"]
        return str(PurePosixPath(self.workdir_pvc_path, *parts))

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        if self.workdir_local_path and not self.workdir_pvc:
            raise ExecutorError("KubeflowExecutor.workdir_local_path needs a volume to copy to: set workdir_pvc")
        if self.workdir_local_path and not Path(self.workdir_local_path).is_dir():
            raise ExecutorError(f"KubeflowExecutor.workdir_local_path: there is no folder {self.workdir_local_path!r}")

    def get_job_body(self, name: str, command: list[str]) -> dict[str, Any]:
        """The TrainJob that runs a command as it is, for Kubeflow Trainer 2.1. Pure."""
        return trainer.in_words_of("podTemplateOverrides", self._described_body(name, command))

    def _described_body(self, name: str, command: list[str]) -> Object:
        env = [*({"name": key, "value": value} for key, value in self.env_vars.items()), *self.env_list]
        container = merged({"command": list(command), "env": env, "resources": resources(self)}, self.container_kwargs)
        mounts = [{"name": CONTAINER, "volumeMounts": self.volume_mounts}] if self.volume_mounts else []
        pod = merged({"containers": mounts, "volumes": self.volumes, **placement(self)}, self.pod_spec_overrides)
        metadata = {"name": name, "namespace": self.namespace, "labels": self.labels, "annotations": self.annotations}
        given = {key: value for key, value in metadata.items() if value}
        return described(self, given, container, pod)

    def copy_to_workspace(self, local_path: str, remote_path: str, label: str = "datamover") -> None:
        """Copy a file or folder of this machine to a path on ``workdir_pvc``; nothing without one."""
        if volume := Volume.of(self, self.namespace):
            with contextlib.closing(Cluster(default_connection(self.context, self.kubeconfig))) as cluster:
                shipping.copy_to_volume(cluster, volume, Path(local_path), self._on_volume(remote_path))

    def copy_from_workspace(self, remote_path: str, local_path: str, label: str = "datamover") -> None:
        """Copy a file or folder on ``workdir_pvc`` to a path of this machine; nothing without one."""
        if volume := Volume.of(self, self.namespace):
            with contextlib.closing(Cluster(default_connection(self.context, self.kubeconfig))) as cluster:
                shipping.copy_from_volume(cluster, volume, self._on_volume(remote_path), Path(local_path))

    # without an experiment

    def launch(
        self, name: str, cmd: list[str], wait: bool = False, timeout: int = 300, poll_interval: int = 10
    ) -> tuple[str, KubeflowJobState]:
        """Create a TrainJob that runs a command as it is, outside of any experiment.

        Returns:
            The name of the TrainJob, and its state.
        """
        with direct.cluster_of(self) as cluster:
            field = served_field(cluster)
        name = slug(self.train_job_basename or name)
        job = trainer.in_words_of(field, self._described_body(name, cmd), name)
        return name, direct.launch(self, job, wait=wait, timeout=timeout, pause=poll_interval)

    def status(self, job_name: str) -> KubeflowJobState | None:
        """State of a TrainJob; ``None`` where there is none."""
        with direct.cluster_of(self) as cluster:
            return direct.state_of(cluster.get(*_TRAIN_JOB, self.namespace, job_name))

    def fetch_logs(self, job_name: str, stream: bool = False, lines: int = 100, timeout: int = 60) -> Iterable[str]:
        """Lines of the logs of a TrainJob; with ``stream`` as they come, until it has ended."""
        return direct.lines(self, job_name, follow=stream, count=lines)

    def cancel(self, job_name: str, wait: bool = False, timeout: int = 300, poll_interval: int = 5) -> bool | None:
        """Delete a TrainJob; with ``wait``, whether it and its pods are gone in time."""
        return direct.cancel(self, job_name, wait=wait, timeout=timeout, pause=poll_interval)

    def materialize_launch_script(self, cmd: list[str], max_retries: int = 0) -> None:
        """Write ``launch.sh`` into the job's folder; its command is a line of shell, as given."""
        direct.write_launch_script(self, cmd, max_retries)

    def package(self, packager: Packager, job_name: str) -> None:
        """Copy the job's folder and ``workdir_local_path`` to ``code_dir``; nothing without a volume."""
        for folder in filter(None, (self.workdir_local_path, self.job_dir)):
            self.copy_to_workspace(folder, self.code_dir, label=job_name)

    def pull_results(self, job_name: str, dest_dir: str | None = None) -> None:
        """Copy what is in ``code_dir`` to a folder of this machine; by default to the job's folder."""
        target = dest_dir or self.job_dir
        if not target:
            raise ExecutorError(f"pull_results({job_name!r}): say where to with dest_dir=")
        self.copy_from_workspace(self.code_dir, target, label=job_name)

    def _on_volume(self, path: str) -> str:
        return str(PurePosixPath(self.workdir_pvc_path, path))


@dataclass(frozen=True)
class TrainAttempt(Attempt):
    """An attempt whose pods a TrainJob has made."""

    scheme: ClassVar[str] = "kubeflow"
    container: ClassVar[str] = CONTAINER

    @property
    def selector(self) -> str:
        """How its pods are found."""
        return f"{_JOB_SET_LABEL}={self.name}"

    @staticmethod
    def node_of(pod: Pod) -> int:
        """Rank of the node that a pod is."""
        metadata = pod["metadata"]
        return int((metadata.get("labels") or {}).get(INDEX) or (metadata.get("annotations") or {}).get(INDEX) or 0)


class KubeflowBackend(PodBackend[TrainAttempt]):
    """Runs attempts as TrainJobs."""

    name: ClassVar[str] = "kubeflow"
    kind_of_attempt = TrainAttempt
    what_makes_pods: ClassVar[str] = KIND

    def __init__(self, **connection: str) -> None:
        """Take note of how to connect."""
        super().__init__(**connection)
        self._field = ""

    # describing

    def render(self, request: JobRequest) -> Plan:
        """Describe a job: one TrainJob."""
        executor = request.executor
        if not isinstance(executor, KubeflowExecutor):
            raise ExecutorError(f"job {request.job_id!r}: kubeflow needs a KubeflowExecutor, not {executor!r}")
        connection = default_connection(executor.context, executor.kubeconfig)
        namespace = executor.namespace or context_namespace(connection)
        job, secrets = described_job(executor, request, namespace)
        volume = Volume.of(executor, namespace)
        spec = {
            "name": job_name(executor, request),
            "namespace": namespace,
            "nodes": executor.num_nodes,
            "described": job,
            "secrets": secrets,
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
        """The TrainJob for the newest version of Kubeflow Trainer, less the packages; values of secrets masked."""
        packages = {package_place(what): f"<{what}>" for what in ("job", "code", "runner")}
        job = filled(trainer.in_words_of(trainer.OVERRIDES[0], plan.spec["described"]), places_of(plan, 1) | packages)
        args = job["spec"]["trainer"].get("args")
        if args:
            job["spec"]["trainer"]["args"] = masked_arguments(args)
        objects = [job]
        if plan.spec["secrets"]:
            masked = dict.fromkeys(plan.spec["secrets"], MASK)
            objects.insert(0, secret_object(plan, places_of(plan, 1), masked))
        return text_of(objects)

    # submitting

    def make_ready(self, plans: Sequence[Plan]) -> None:
        """See to it that the cluster would take the TrainJobs as they are, and that their volumes have the packages."""
        by_volume = shipping.for_volumes(plans)
        for plan in plans:
            self._check(plan)
        for volume, files in by_volume.items():
            shipping.send(self._cluster, volume, files)
        for plan in plans:
            if plan.spec["local_folder"]:
                source, target = plan.spec["local_folder"]
                volume = Volume.from_json(plan.spec["volume"])
                shipping.copy_to_volume(self._cluster, volume, Path(source), target)

    def _check(self, plan: Plan) -> None:
        runtime = plan.spec["described"]["job"]["spec"]["runtimeRef"]["name"]
        try:
            there = self._cluster.get(API_VERSION, "ClusterTrainingRuntime", "", runtime) is not None
        except EngineUnreachableError:
            raise
        except ExecutorError as e:
            if "no ClusterTrainingRuntime" in str(e):
                raise ExecutorError(f"job {plan.job_id!r}: {e}") from e
            there = True  # it may not be looked at
        if not there:
            raise ExecutorError(
                f"job {plan.job_id!r}: the cluster {self._cluster.name!r} has no ClusterTrainingRuntime {runtime!r}; "
                "name one of `kubectl get clustertrainingruntimes` with runtime_ref="
            )
        job = filled(self._body(plan, []), places_of(plan, 1))
        path = self._cluster.path(*_TRAIN_JOB, plan.spec["namespace"])
        try:
            kept = self._cluster.request("POST", path, body=job, params={"dryRun": "All"}, absent=(409,))
        except EngineUnreachableError:
            raise
        except ExecutorError as e:
            raise ExecutorError(f"job {plan.job_id!r}: {e}") from e
        if kept and (lost := sorted(trainer.dropped(job["spec"], kept["spec"], "spec"))):
            raise ExecutorError(
                f"job {plan.job_id!r}: the Kubeflow Trainer of {self._cluster.name!r} would ignore {', '.join(lost)}; "
                "leave that out, or have it updated"
            )

    def _body(self, plan: Plan, pieces: Sequence[tuple[str, Object]]) -> Object:
        """The TrainJob in the words of this cluster."""
        described = plan.spec["described"]
        pod = described["pod"]
        volumes = [
            {**volume, "projected": {"sources": shipping.inbox(pieces)}} if volume["name"] == INBOX_VOLUME else volume
            for volume in pod["spec"]["volumes"]
        ]
        described = {**described, "pod": {**pod, "spec": {**pod["spec"], "volumes": volumes}}}
        return trainer.in_words_of(self._served_field(), described, plan.job_id)

    def _served_field(self) -> str:
        """How this cluster's version calls changes of pods."""
        self._field = self._field or served_field(self._cluster)
        return self._field

    def submit(self, plan: Plan, attempt: int) -> str:
        """Create the objects of an attempt; those that are there already stay."""
        this = self._attempt(plan, attempt)
        places, pieces, secrets = Belongings.of(plan, attempt)
        this.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        this.note_shared(secret for _, secret in pieces)
        for secret in secrets:
            self._provide(secret)
        job = self._cluster.create(filled(self._body(plan, pieces), places))
        owner = {"apiVersion": API_VERSION, "kind": KIND, "name": this.name, "uid": job["metadata"]["uid"]}
        for secret in secrets:
            shipping.adopt(self._cluster, secret, owner)
        (this.folder / "submitted").touch(mode=0o600)
        return this.handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """The attempt's handle if its TrainJob was created."""
        this = self._attempt(plan, attempt)
        if this.recorded() or self._cluster.get(*_TRAIN_JOB, this.namespace, this.name):
            (this.folder / "submitted").touch(mode=0o600)
            return this.handle
        return None

    # following

    def _states_in(self, namespace: str, those: Sequence[TrainAttempt]) -> dict[str, JobStatus]:
        jobs = {
            job["metadata"]["name"]: job
            for job in self._cluster.objects(*_TRAIN_JOB, namespace, f"{MANAGED_BY}={MANAGER}")
        }
        pods: dict[str, dict[int, Pod]] = {}
        for pod in sorted(self._cluster.pods(namespace, _JOB_SET_LABEL), key=_age):  # the newest one counts
            name = pod["metadata"]["labels"][_JOB_SET_LABEL]
            pods.setdefault(name, {})[TrainAttempt.node_of(pod)] = pod
        return {this.handle: self._status(this, jobs.get(this.name), pods.get(this.name, {})) for this in those}

    def _status(self, this: TrainAttempt, job: Object | None, pods: Mapping[int, Pod]) -> JobStatus:
        if job is None:
            return self._missing(this)
        statuses = {rank: pod_status(pod, CONTAINER) for rank, pod in pods.items()}
        status = combined([statuses.get(rank) for rank in range(this.nodes)])
        condition = _condition(job)
        ended = bool(pods) and all(entry.state.is_final for entry in statuses.values())
        if this.cancelled and (ended or not pods):
            return self._record(this, job, pods, status)
        if condition.get("type") in _OVER and (ended or not pods):
            return self._record(this, job, pods, _final(status, condition))
        if this.cancelled:
            self._end(this, pods)
            return replace(still(status), reason="it is being cancelled")
        if reason := _hopeless(job, pods):
            return self._record(this, job, pods, JobStatus(JobState.FAILED, None, reason))
        if not pods:
            words = condition.get("message", "") if condition.get("type") == "Suspended" else ""
            return JobStatus(JobState.PENDING if words else JobState.SUBMITTED, reason=words)
        if len(pods) < this.nodes and status.state is not JobState.FAILED:
            return replace(still(status), state=JobState.PENDING)
        return still(status)

    def _record(self, this: TrainAttempt, job: Object, pods: Mapping[int, Pod], status: JobStatus) -> JobStatus:
        """Keep what an attempt left, write down how it ended, then delete its TrainJob."""
        with this.locked():
            if recorded := this.recorded():
                return recorded
            try:
                for rank, pod in pods.items():
                    attempts.keep_log(self._cluster, this, rank, pod, settle=_SETTLE)
            except EngineUnreachableError:
                if not status.lost and time.time() - (status.ended or 0) < _LOG_TIME:
                    return replace(still(status), reason="it has ended; its node does not answer for its log")
            recorded = attempts.record(this, status, cancelled=this.cancelled)
        if KEEP not in (job["metadata"].get("annotations") or {}):
            with contextlib.suppress(ExecutorError):  # it is no longer needed, but does no harm
                shipping.release(self._cluster, this.namespace, this.shared(), job["metadata"]["uid"])
                self._cluster.delete(*_TRAIN_JOB, this.namespace, this.name)
        return recorded

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the tasks to end (SIGTERM). Their nodes kill those that do not within the grace."""
        for this in map(TrainAttempt.parse, handles):
            if not this.folder.is_dir() or this.recorded():
                continue
            pods = {TrainAttempt.node_of(pod): pod for pod in self._cluster.pods(this.namespace, this.selector)}
            if pods and all(pod_status(pod, CONTAINER).state.is_final for pod in pods.values()):
                continue
            (this.folder / "cancel").touch(mode=0o600)
            self._end(this, pods)

    def _end(self, this: TrainAttempt, pods: Mapping[int, Pod]) -> None:
        """End what of an attempt has not ended."""
        if not any(pod["spec"].get("nodeName") for pod in pods.values()):
            change = {"spec": {"suspend": True}}
            self._cluster.patch(*_TRAIN_JOB, this.namespace, this.name, change, merge="application/merge-patch+json")
        for pod in pods.values():
            if not pod_status(pod, CONTAINER).state.is_final:
                attempts.end_pod(self._cluster, pod)

    # files

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Copy what the task left on its volume; without one, it went with the pods."""
        if not plan.spec["volume"]:
            if patterns:
                raise ExecutorError(
                    f"files that match {', '.join(patterns)} went with the pods; to collect artifacts, give "
                    "KubeflowExecutor a volume (workdir_pvc=)"
                )
            return
        this = TrainAttempt.parse(handle)
        places = places_of(plan, int(this.folder.name))
        folders = [
            filled(plan.spec["folder"], {**places, RANK: str(rank), "$(NODE_RANK)": str(rank)})
            for rank in reversed(range(this.nodes))
        ]
        shipping.collect(self._cluster, Volume.from_json(plan.spec["volume"]), folders, patterns, folder)


# --- what a cluster says -------------------------------------------------------------------------------------------


def served_field(cluster: Cluster) -> str:
    """How a cluster's version of Kubeflow Trainer calls changes of pods; not all users may see the definition."""
    definition = cluster.request("GET", _DEFINITION, absent=(403, 404))
    found = trainer.served_field(trainer.schema_of_definition(definition)) if definition else None
    for path in () if found else _DOCUMENTS:
        document = cluster.request("GET", path, absent=(403, 404)) or {}
        found = found or trainer.served_field(trainer.schema_of_document(document))
    return found or trainer.OVERRIDES[0]


def _age(obj: Object) -> str:
    return str(obj["metadata"]["creationTimestamp"])


def _condition(job: Object) -> Mapping[str, Any]:
    """The condition that holds of a TrainJob: that it is over, or suspended."""
    conditions = (job.get("status") or {}).get("conditions") or []
    held = [entry for entry in conditions if entry["status"] == "True"]
    return next((entry for entry in held if entry["type"] in _OVER), held[0] if held else {})


def _final(status: JobStatus, condition: Mapping[str, Any]) -> JobStatus:
    """How an attempt ended: as its TrainJob says, with what its pods know of it."""
    ended = status.ended or seconds(condition.get("lastTransitionTime"))
    if condition["type"] == "Complete":
        return replace(status, state=JobState.SUCCEEDED, exit_code=0, reason="", ended=ended)
    if status.state is JobState.FAILED:
        return replace(status, ended=ended)
    words = f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return replace(status, state=JobState.FAILED, exit_code=None, reason=words, ended=ended)


def _hopeless(job: Object, pods: Mapping[int, Pod]) -> str:
    """Why an attempt cannot start, where it has tried for long enough."""
    limit = float((job["metadata"].get("annotations") or {}).get(START_TIMEOUT, 0))
    for rank, pod in pods.items():
        reason = broken(pod)
        if reason and time.time() - (seconds(pod["metadata"]["creationTimestamp"]) or 0) >= limit:
            return reason if len(pods) == 1 else f"node {rank}: {reason}"
    return ""
