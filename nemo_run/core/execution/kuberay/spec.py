"""The Kubernetes objects of a Ray cluster, and their names. Pure."""

from __future__ import annotations

import getpass
import os
import re
from pathlib import Path
from typing import Any

from nemo_run.core.execution.kuberay import (
    GROUP,
    KIND,
    MAX_CLUSTER_NAME,
    VERSION,
    KubeRayExecutor,
    check_object_name,
)
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, Object
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.masking import MASK, is_secret
from nemo_run.core.ray import follower
from nemo_run.core.ray.engine import ClusterSpec
from nemo_run.core.ray.jobs_api import PATIENCE
from nemo_run.errors import ExecutorError

API = f"{GROUP}/{VERSION}"
CLUSTER, JOB = KIND, "RayJob"
MAX_JOB_NAME = MAX_CLUSTER_NAME - 6  # the operator appends as much for the name of its cluster
JOB_LABEL = "nemo-run.ray-job"

_TRIES = 3  # the operator starts a submitter again twice
_OF_RAY = ("args", "lifecycle", "livenessProbe", "ports", "readinessProbe", "startupProbe")  # not of the submitter
_SUBMITTER = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def object_of(spec: ClusterSpec) -> Object:
    """Return the object to create: a ``RayCluster``, or a ``RayJob`` that has one for the time of a job.

    Raises:
        ExecutorError: The name or an option is invalid.
    """
    executor = kuberay_executor(spec)
    kind = JOB if spec.until_job else CLUSTER
    name = object_name(spec.name, kind)
    longest = MAX_CLUSTER_NAME if kind == CLUSTER else MAX_JOB_NAME
    check_object_name(name, f"the Kubernetes object of {spec.name!r}", longest)
    cluster = executor.get_cluster_body(name)
    if spec.pre_ray_start_commands:
        _prepend_commands(spec.pre_ray_start_commands, cluster["spec"])
    metadata = cluster["metadata"]
    metadata["labels"][MANAGED_BY] = MANAGER
    if kind == CLUSTER:
        return cluster
    metadata["labels"][JOB_LABEL] = spec.until_job
    return {
        "apiVersion": API,
        "kind": JOB,
        "metadata": metadata,
        "spec": {
            "jobId": spec.until_job,
            "entrypoint": "echo submitted through the Jobs API",  # what runs is the template's own command
            "shutdownAfterJobFinishes": True,
            "submitterPodTemplate": {"spec": _follower(executor)},
            "rayClusterSpec": cluster["spec"],
            **executor.job_fields(),
        },
    }


def kuberay_executor(spec: ClusterSpec) -> KubeRayExecutor:
    """Return the executor of a cluster; raise :class:`~nemo_run.errors.ExecutorError` if it is of another engine."""
    if not isinstance(spec.executor, KubeRayExecutor):
        raise ExecutorError(f"Ray cluster {spec.name!r}: this engine needs a KubeRayExecutor, not {spec.executor!r}")
    return spec.executor


def object_name(name: str, kind: str) -> str:
    """Return the name of the object of a cluster. It includes the user, as a namespace may have several.

    >>> object_name("mine", "RayCluster").endswith("-mine-raycluster")
    True
    """
    return f"{_user()}-{name}-{kind.lower()}"


def _user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # this user has no name
        user = f"u{os.getuid()}"
    user = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-")
    return user if user[:1].isalpha() else f"u{user}"


def _prepend_commands(commands: tuple[str, ...], cluster: dict[str, Any]) -> None:
    """Make every Ray container run commands first; the operator puts a container's own command before ``ray start``.

    It joins the two with ``&&``; the last line is therefore ``true``, which the operator's text continues.
    """
    text = "\n".join(["set -e", *commands, "set +e", "true"])
    if "ray start" in text:
        raise ExecutorError(
            "pre_ray_start_commands: the KubeRay operator does not start Ray where a command has the words "
            "'ray start', as it takes that for the start itself; write them in another way"
        )
    for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])):
        container = group["template"]["spec"]["containers"][0]
        if "command" in container or "args" in container:
            raise ExecutorError(
                "pre_ray_start_commands: KubeRayExecutor.container_kwargs has a command of its own; put them there"
            )
        container["command"] = [text]


def _follower(executor: KubeRayExecutor) -> dict[str, Any]:
    """Return the specification of the pod that follows the job; its log stays when the cluster is gone."""
    script = Path(follower.__file__).read_text(encoding="utf-8")
    parts = {"resources": _SUBMITTER, "volumes": executor.volumes, "volumeMounts": executor.volume_mounts}
    spec = executor.pod_spec("ray-job-submitter", parts)
    container = {key: value for key, value in spec["containers"][0].items() if key not in _OF_RAY}
    container |= {"command": ["python3", "-c", script, str(PATIENCE / _TRIES)], "resources": _SUBMITTER}
    return {**spec, "containers": [container], "restartPolicy": "Never"}


def wanted_nodes(cluster: Object) -> int:
    """Return the number of nodes that a ``RayCluster`` is to have, the head included."""
    groups = cluster["spec"].get("workerGroupSpecs") or []
    return 1 + sum(int(group.get("replicas", 0)) * int(group.get("numOfHosts", 1)) for group in groups)


def cluster_spec(obj: Object) -> Object:
    """Return the part of a ``RayCluster`` or ``RayJob`` that describes its cluster."""
    return {"spec": obj["spec"]["rayClusterSpec"]} if obj["kind"] == JOB else obj


def shown(obj: Object) -> str:
    """Return an object as YAML for ``kubectl apply -f -``, with the values of secrets masked."""
    return as_yaml(_masked(obj))


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("name"), str) and "value" in value and is_secret(value["name"]):
        return {**value, "value": MASK}
    return {key: _masked(item) for key, item in value.items()}
