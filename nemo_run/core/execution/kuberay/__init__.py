"""Ray clusters on Kubernetes: the options of one, and its objects of ``ray.io/v1``.

The KubeRay operator creates the pods. All functions here are pure; :mod:`nemo_run.core.execution.kuberay.ray` talks
to the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from nemo_run.core.execution.base import Backend, Executor
from nemo_run.core.execution.shared.checks import check_image, check_json
from nemo_run.core.execution.shared.manifests import literal
from nemo_run.errors import ExecutorError

GROUP = "ray.io"
VERSION = "v1"
PLURAL = "rayclusters"
KIND = "RayCluster"

MAX_CLUSTER_NAME = 53  # the operator appends up to ten characters for the names of services
_PRE_STOP = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop"]}}}
_HEAD_PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}  # the operator's own, where none are given
_IDENTITY = {"volumes": "name", "containers": "name", "env": "name", "volumeMounts": "mountPath", "ports": "name"}

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_KEY = re.compile(r"(?:[a-z0-9][-.a-z0-9]{0,252}/)?[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?\Z")
_QUANTITY = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([numkMGTPE]|[KMGTPE]i)?\Z")
_SUFFIXES = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")} | {
    f"{letter}{i}": Decimal(base) ** (power + 1)
    for i, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGTPE" if i else "kMGTPE")
}


@dataclass
class KubeRayWorkerGroup:
    """Workers of a Ray cluster that are all alike.

    Example:
        >>> KubeRayWorkerGroup("gpu", replicas=2, gpus_per_worker=8).max_replicas
        2

    Attributes:
        group_name: Name of the group.
        replicas: Number of workers, each of them a pod.
        min_replicas: Least number that the autoscaler leaves; by default ``replicas``. Where a limit is another number,
            the cluster has Ray's autoscaler.
        max_replicas: Greatest number that the autoscaler creates; by default ``replicas``.
        gpus_per_worker: GPUs of each worker.
        cpu_requests: CPUs that a worker's node must have free, e.g. ``"8"`` or ``"500m"``.
        memory_requests: Memory that it must have free, e.g. ``"64Gi"``.
        cpu_limits: CPUs that a worker may use at most.
        memory_limits: Memory that it may use at most.
        volume_mounts: Where volumes are in the container, as Kubernetes' ``volumeMounts`` has them.
        volumes: Volumes, as Kubernetes' ``volumes`` has them.
        labels: Labels of the workers' pods.
        annotations: Annotations of the workers' pods.
    """

    group_name: str
    replicas: int = 1
    min_replicas: int | None = None
    max_replicas: int | None = None
    gpus_per_worker: int | None = None
    cpu_requests: str | None = None
    memory_requests: str | None = None
    cpu_limits: str | None = None
    memory_limits: str | None = None
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set the limits of the autoscaler to ``replicas`` where they are not given."""
        if self.min_replicas is None:
            self.min_replicas = self.replicas
        if self.max_replicas is None:
            self.max_replicas = self.replicas

    @property
    def scales(self) -> bool:
        """Whether the number of workers changes with what is to be done."""
        return (self.min_replicas, self.max_replicas) != (self.replicas, self.replicas)


@dataclass(kw_only=True)
class KubeRayExecutor(Executor):
    """Describes a Ray cluster on Kubernetes, where the KubeRay operator runs.

    It is given to :class:`~nemo_run.run.ray.cluster.RayCluster` and :class:`~nemo_run.run.ray.job.RayJob`; tasks of an
    experiment do not run on it.

    Example:
        >>> executor = KubeRayExecutor(
        ...     namespace="research",
        ...     image="rayproject/ray:2.43.0-py312-gpu",
        ...     head_cpu="4",
        ...     head_memory="16Gi",
        ...     worker_groups=[KubeRayWorkerGroup("gpu", replicas=2, gpus_per_worker=8)],
        ... )
        >>> executor.nnodes()
        3
        >>> executor.get_cluster_body("mine")["spec"]["workerGroupSpecs"][0]["replicas"]
        2

    Attributes:
        namespace: Namespace of the cluster's objects.
        ray_version: Version of Ray in the image.
        image: Image of head and workers; by default the Ray project's own, of that version.
        head_cpu: CPUs of the head.
        head_memory: Memory of the head.
        ray_head_start_params: Options of ``ray start`` for the head, without the dashes.
        ray_worker_start_params: The same for workers.
        worker_groups: The workers.
        labels: Labels of the cluster's own object.
        service_type: How the head can be reached in the network: ``"ClusterIP"``, ``"NodePort"`` or ``"LoadBalancer"``.
        head_ports: Further ports of the head, as Kubernetes' container ports: ``{"name": …, "containerPort": …}``.
        volume_mounts: Where volumes are in the containers.
        volumes: Volumes of the head, and of the workers too unless ``reuse_volumes_in_worker_groups=False``.
        reuse_volumes_in_worker_groups: Workers have the head's volumes beside those of their group.
        spec_kwargs: Further fields of every pod's ``spec``, e.g. ``{"schedulerName": "runai-scheduler"}``.
        container_kwargs: Further fields of every Ray container, e.g. ``{"securityContext": {…}}``. Variables from a
            Kubernetes Secret go here: ``{"envFrom": [{"secretRef": {"name": "my-secrets"}}]}``.
        cluster_kwargs: Further fields of the cluster's ``spec``: ``autoscalerOptions``, ``gcsFaultToleranceOptions``, …
        job_kwargs: Further fields of the ``spec`` of a job with a cluster of its own: ``submitterConfig``, …
        worker_idle_timeout: Seconds without work after which the autoscaler removes a worker, down to ``min_replicas``.
        redis_address: Redis in which the head keeps what it knows, so that workers and jobs outlive its loss.
        ttl_seconds_after_finished: Seconds that the cluster of a job stays when the job has ended.
        active_deadline_seconds: Seconds after which a job with a cluster of its own is ended, and has failed.
        lifecycle_kwargs: Further hooks of every Ray container; by default it runs ``ray stop`` before it ends.
        context: Context of the kubeconfig; by default the current one.
        kubeconfig: The kubeconfig; by default what ``kubectl`` would use.
    """

    engine: ClassVar[str] = "kuberay"

    namespace: str = "default"
    ray_version: str = "2.43.0"
    image: str = ""
    head_cpu: str = "1"
    head_memory: str = "2Gi"
    ray_head_start_params: dict[str, Any] = field(default_factory=dict)
    ray_worker_start_params: dict[str, Any] = field(default_factory=dict)
    worker_groups: list[KubeRayWorkerGroup] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    service_type: str = "ClusterIP"
    head_ports: list[dict[str, Any]] = field(default_factory=list)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    reuse_volumes_in_worker_groups: bool = True
    spec_kwargs: dict[str, Any] = field(default_factory=dict)
    container_kwargs: dict[str, Any] = field(default_factory=dict)
    lifecycle_kwargs: dict[str, Any] = field(default_factory=dict)
    cluster_kwargs: dict[str, Any] = field(default_factory=dict)
    job_kwargs: dict[str, Any] = field(default_factory=dict)
    worker_idle_timeout: int | None = None
    redis_address: str = ""
    ttl_seconds_after_finished: int | None = None
    active_deadline_seconds: int | None = None
    context: str | None = None
    kubeconfig: str | None = None

    def __post_init__(self) -> None:
        """Set the image of the Ray project if none is given."""
        self.image = self.image or f"rayproject/ray:{self.ray_version}"

    def backend(self) -> Backend:
        """Raise :class:`~nemo_run.errors.ExecutorError`: this executor is for Ray clusters and jobs only."""
        raise ExecutorError(
            "a KubeRayExecutor runs Ray clusters and Ray jobs, not the tasks of an experiment: "
            "use RayJob(name=..., executor=executor).start(command=..., workdir=...) of nemo_run.run.ray, "
            "or another executor for this task"
        )

    def nnodes(self) -> int:
        """Return the number of nodes of the Ray cluster: the head and all workers."""
        return 1 + sum(group.replicas for group in self.worker_groups)

    def nproc_per_node(self) -> int:
        """Return the number of GPUs of a worker of the largest group; 1 if there are none."""
        return max([1, *(group.gpus_per_worker or 1 for group in self.worker_groups)])

    def get_cluster_body(self, name: str) -> dict[str, Any]:
        """Return the ``RayCluster`` object.

        Args:
            name: Its name.

        Raises:
            ExecutorError: The name or an option is invalid.
        """
        self.check()
        check_object_name(name, "the name of the Ray cluster")
        spec: dict[str, Any] = {
            "rayVersion": self.ray_version,
            "headGroupSpec": {
                "serviceType": self.service_type,
                "rayStartParams": {"dashboard-host": "0.0.0.0", **_texts(self.ray_head_start_params)},  # noqa: S104
                "template": {"spec": self.pod_spec("ray-head", self._head())},
            },
        }
        if self.worker_groups:
            spec["workerGroupSpecs"] = [self._group(group) for group in self.worker_groups]
        if self._scales:
            spec["enableInTreeAutoscaling"] = True
        if self.worker_idle_timeout is not None:
            spec["autoscalerOptions"] = {"idleTimeoutSeconds": self.worker_idle_timeout}
        if self.redis_address:
            spec["gcsFaultToleranceOptions"] = {"redisAddress": self.redis_address}
        spec |= deepcopy(self.cluster_kwargs)
        metadata = {"name": name, "namespace": self.namespace, "labels": _texts(self.labels)}
        return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": spec}

    def job_fields(self) -> dict[str, Any]:
        """Return the fields of a ``RayJob`` object that the options set."""
        limits = {
            "ttlSecondsAfterFinished": self.ttl_seconds_after_finished,
            "activeDeadlineSeconds": self.active_deadline_seconds,
        }
        return {**{name: value for name, value in limits.items() if value is not None}, **self.job_kwargs}

    @property
    def _scales(self) -> bool:
        return any(group.scales for group in self.worker_groups)

    def _head(self) -> dict[str, Any]:
        size = {"cpu": str(self.head_cpu), "memory": str(self.head_memory)}
        named = {port.get("name") for port in self.head_ports}
        ours = [{"name": name, "containerPort": port} for name, port in _HEAD_PORTS.items() if name not in named]
        return {
            "ports": [*ours, *self.head_ports] if self.head_ports else [],
            "resources": {"requests": size, "limits": size},
            "volumes": self.volumes,
            "volumeMounts": self.volume_mounts,
        }

    def _group(self, group: KubeRayWorkerGroup) -> dict[str, Any]:
        volumes, mounts = self._volumes_of(group)
        pod = self.pod_spec("ray-worker", {"resources": _resources(group), "volumes": volumes, "volumeMounts": mounts})
        template: dict[str, Any] = {"spec": pod}
        if group.labels or group.annotations:
            template["metadata"] = {"labels": _texts(group.labels), "annotations": _texts(group.annotations)}
        return {
            "groupName": group.group_name,
            "replicas": group.replicas,
            "minReplicas": group.min_replicas,
            "maxReplicas": group.max_replicas,
            "rayStartParams": _texts(self.ray_worker_start_params),
            "template": template,
        }

    def _volumes_of(self, group: KubeRayWorkerGroup) -> tuple[list[Any], list[Any]]:
        shared = self if self.reuse_volumes_in_worker_groups else KubeRayWorkerGroup("")
        return (
            _merged("volumes", shared.volumes, group.volumes),
            _merged("volumeMounts", shared.volume_mounts, group.volume_mounts),
        )

    def pod_spec(self, name: str, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification of a pod with one container, which has Ray's image.

        Args:
            name: Name of the container.
            parts: Fields of the container, and the pod's ``volumes``.
        """
        container = {
            "name": name,
            "image": self.image,
            "env": [{"name": key, "value": literal(value)} for key, value in self.env_vars.items()],
            "lifecycle": {**_PRE_STOP, **self.lifecycle_kwargs},
            **{key: value for key, value in parts.items() if key != "volumes"},
        }
        spec = {"containers": [_extended(container, self.container_kwargs)], "volumes": parts.get("volumes", [])}
        return deepcopy(_extended(spec, self.spec_kwargs))

    def check(self) -> None:
        """Check the options; raise :class:`~nemo_run.errors.ExecutorError` if they are invalid."""
        super().check()
        check_name(self.namespace, "KubeRayExecutor.namespace")
        check_image("KubeRayExecutor.image", self.image)
        if self.service_type not in ("ClusterIP", "NodePort", "LoadBalancer"):
            raise ExecutorError(
                f"KubeRayExecutor.service_type={self.service_type!r}; it is 'ClusterIP', 'NodePort' or 'LoadBalancer'"
            )
        self._check_limits()
        for name in ("head_cpu", "head_memory"):
            _quantity(getattr(self, name), f"KubeRayExecutor.{name}")
        for name in ("ray_head_start_params", "ray_worker_start_params"):
            _check_start_params(getattr(self, name), f"KubeRayExecutor.{name}")
        _check_labels(self.labels, "KubeRayExecutor.labels")
        _check_ports(self.head_ports)
        for name in ("spec_kwargs", "container_kwargs", "lifecycle_kwargs", "cluster_kwargs", "job_kwargs"):
            check_json(f"KubeRayExecutor.{name}", getattr(self, name))
        more = self.spec_kwargs.get("volumes", [])
        _check_volumes([*self.volumes, *more], self.volume_mounts, "KubeRayExecutor")
        names = [group.group_name for group in self.worker_groups]
        for i, group in enumerate(self.worker_groups):
            where = f"KubeRayExecutor.worker_groups[{i}]"
            if group.group_name in names[:i]:
                raise ExecutorError(f"{where}: another group is called {group.group_name!r} too")
            _check_group(group, where)
            volumes, mounts = self._volumes_of(group)
            _check_volumes([*volumes, *more], mounts, where)

    def _check_limits(self) -> None:
        for name in ("worker_idle_timeout", "active_deadline_seconds"):
            if getattr(self, name) == 0:
                raise ExecutorError(f"KubeRayExecutor.{name}=0; it is a number of seconds, 1 or more")
        if self.worker_idle_timeout is not None and not self._scales:
            raise ExecutorError(
                f"KubeRayExecutor.worker_idle_timeout={self.worker_idle_timeout}, but no group of workers may shrink: "
                "give one a min_replicas below its replicas"
            )


def check_name(name: object, where: str, longest: int = 63) -> None:
    """Check a name; raise :class:`~nemo_run.errors.ExecutorError` if Kubernetes would not accept it.

    >>> check_name("ml-cluster", "name")
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise ExecutorError(
            f"{where}: {name!r} is no name for Kubernetes; use lower-case letters, digits and '-', "
            "neither beginning nor ending with '-'"
        )
    if len(name) > longest:
        raise ExecutorError(f"{where}: {name!r} has {len(name)} characters, and may have {longest} at most")


def check_object_name(name: str, where: str, longest: int = MAX_CLUSTER_NAME) -> None:
    """Check the name of a Ray cluster or job, from which the operator makes names of services.

    >>> check_object_name("ml-cluster", "name")
    """
    check_name(name, where, longest)
    if name[0].isdigit():
        raise ExecutorError(f"{where}: {name!r} must begin with a letter")


# --- parts of the object -----------------------------------------------------------------------------------------


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return all values as text, the type that Kubernetes accepts.

    >>> _texts({"num-cpus": 0, "block": True})
    {'num-cpus': '0', 'block': 'true'}
    """
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}


def _resources(group: KubeRayWorkerGroup) -> dict[str, dict[str, Any]]:
    gpus = {"nvidia.com/gpu": group.gpus_per_worker} if group.gpus_per_worker else {}
    given = {
        "requests": {"cpu": group.cpu_requests, "memory": group.memory_requests},
        "limits": {"cpu": group.cpu_limits, "memory": group.memory_limits},
    }
    return {kind: {**{key: str(size) for key, size in sizes.items() if size}, **gpus} for kind, sizes in given.items()}


def _merged(key: str, first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the entries of both lists; of two with one name, the second."""
    identity = _IDENTITY[key]
    found: dict[Any, Any] = {}
    for i, item in enumerate([*first, *second]):
        found[item.get(identity, i)] = item
    return list(found.values())


def _extended(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with further fields; lists of named entries are joined, anything else is replaced."""
    joined = {key: _merged(key, base[key], value) for key, value in more.items() if key in _IDENTITY and key in base}
    return {**base, **more, **joined}


# --- checks ------------------------------------------------------------------------------------------------------


def _quantity(value: object, where: str) -> Decimal:
    match = _QUANTITY.match(str(value))
    if isinstance(value, bool) or not match:
        raise ExecutorError(f"{where}: {value!r} is no quantity of Kubernetes, such as '4', '500m' or '16Gi'")
    number, suffix = match.groups()
    return Decimal(number) * _SUFFIXES.get(suffix, 1)


def _check_group(group: KubeRayWorkerGroup, where: str) -> None:
    check_name(group.group_name, f"{where}.group_name")
    where = f"{where} ({group.group_name})"
    for name in ("replicas", "min_replicas", "max_replicas"):
        _check_count(getattr(group, name), f"{where}.{name}")
    if group.gpus_per_worker is not None:
        _check_count(group.gpus_per_worker, f"{where}.gpus_per_worker")
    low, high = group.min_replicas or 0, group.max_replicas or 0
    if not low <= group.replicas <= high:
        raise ExecutorError(
            f"{where}: replicas={group.replicas} is not between min_replicas={low} and max_replicas={high}"
        )
    _check_sizes(group, where)
    _check_labels(group.labels, f"{where}.labels")
    _check_keys(group.annotations, f"{where}.annotations")


def _check_count(value: object, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ExecutorError(f"{where} must be a number of 0 or more, but is {value!r}")


def _check_sizes(group: KubeRayWorkerGroup, where: str) -> None:
    for what in ("cpu", "memory"):
        sizes = {kind: getattr(group, f"{what}_{kind}") for kind in ("requests", "limits")}
        amounts = {kind: _quantity(size, f"{where}.{what}_{kind}") for kind, size in sizes.items() if size is not None}
        if len(amounts) > 1 and amounts["requests"] > amounts["limits"]:
            raise ExecutorError(f"{where}: {what}_requests is more than {what}_limits, so no pod could be made")


def _check_start_params(params: Mapping[str, Any], where: str) -> None:
    for key, value in params.items():
        if not isinstance(key, str) or not re.fullmatch(r"[a-z][-a-z0-9]*", key):
            raise ExecutorError(f"{where}: {key!r} is no option of 'ray start'; write it without dashes in front")
        if not isinstance(value, (str, int, float)):
            raise ExecutorError(f"{where}[{key!r}] must be text or a number, but is {value!r}")


def _check_labels(labels: Mapping[str, Any], where: str) -> None:
    _check_keys(labels, where)
    for key, value in _texts(labels).items():
        if not _LABEL.match(value):
            raise ExecutorError(
                f"{where}[{key!r}]: {value!r} is no value for a label; use at most 63 letters, digits, '-', '_' "
                "and '.', beginning and ending with a letter or digit"
            )


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    for key in values:
        if not isinstance(key, str) or not _LABEL_KEY.match(key):
            raise ExecutorError(f"{where}: {key!r} is no key that Kubernetes accepts, such as 'team' or 'my.org/team'")


def _check_ports(ports: Sequence[Mapping[str, Any]]) -> None:
    for i, port in enumerate(ports):
        where = f"KubeRayExecutor.head_ports[{i}]"
        number = port.get("containerPort") if isinstance(port, Mapping) else None
        if not isinstance(number, int) or not 1 <= number <= 65535:
            raise ExecutorError(f"{where} needs a 'containerPort' between 1 and 65535, but is {port!r}")
        name = port.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"(?=.{1,15}\Z)[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ExecutorError(
                f"{where} needs a 'name' of at most 15 lower-case letters, digits and '-', but is {port!r}"
            )


def _check_volumes(volumes: Sequence[Any], mounts: Sequence[Any], where: str) -> None:
    for i, volume in enumerate(volumes):
        if not isinstance(volume, Mapping) or not isinstance(volume.get("name"), str):
            raise ExecutorError(f"{where}.volumes[{i}] needs a 'name', but is {volume!r}")
    check_json(f"{where}.volumes", list(volumes))
    _check_mounts(mounts, [volume["name"] for volume in volumes], where)


def _check_mounts(mounts: Sequence[Any], known: Sequence[str], where: str) -> None:
    for i, mount in enumerate(mounts):
        if not isinstance(mount, Mapping) or not str(mount.get("mountPath", "")).startswith("/"):
            raise ExecutorError(
                f"{where}.volume_mounts[{i}] needs a 'mountPath' that begins with '/', but is {mount!r}"
            )
        if mount.get("name") not in known:
            raise ExecutorError(
                f"{where}.volume_mounts[{i}]: there is no volume {mount.get('name')!r}; "
                f"there are: {', '.join(known) or 'none'}"
            )
