"""The objects of a task on plain Kubernetes: Jobs, a Secret, a Service. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.kubernetes.options import KubernetesOptions
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, Object
from nemo_run.core.execution.pods.objects import (
    KEEP,
    NAME,
    NET_LABEL,
    NODE_LABEL,
    QUEUE,
    RANK,
    START_TIMEOUT,
    fill,
    placeholders_of,
    secret_object,
)
from nemo_run.core.execution.pods.spec import SHOWN_PACKAGES, TASK, inbox_volumes, pod_spec, standard_labels
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.masking import MASK, masked_arguments
from nemo_run.errors import ExecutorError

_LARGEST = 1400 << 10  # bytes of an object, of the 1.5 MiB that etcd takes


def job_object(executor: KubernetesOptions, request: TaskRequest, namespace: str) -> Object:
    """Return the Job of one node, with placeholders for what differs from attempt to attempt."""
    labels = {**standard_labels(request), NODE_LABEL: RANK}
    keep = {KEEP: "true"} if executor.keep_job else {}
    queue = {QUEUE: executor.queue} if executor.queue else {}
    annotations = {
        "kubectl.kubernetes.io/default-container": TASK, START_TIMEOUT: str(executor.start_timeout), **keep, **queue,
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{NAME}-{RANK}",
            "namespace": namespace,
            "labels": {**executor.labels, **labels},
            **({"annotations": executor.annotations} if executor.annotations else {}),
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": executor.ttl_seconds_after_finished,
            "template": {
                "metadata": {
                    "labels": {**executor.pod_labels, **labels},
                    "annotations": {**executor.pod_annotations, **annotations},
                },
                "spec": pod_spec(executor, request),
            },
        },
    }


def check_size(job: Object) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a Job is larger than a cluster stores: a dry run is not."""
    size = len(json.dumps(job).encode())
    if size > _LARGEST:
        raise ExecutorError(
            f"its Job is too large for a cluster ({size >> 10} KiB; about {_LARGEST >> 10} KiB are stored), for its "
            "variables or arguments; write large ones to a file, and give the task the path"
        )


def with_inbox(job: Object, sources: Sequence[Object]) -> Object:
    """Return the Job with the sources of the inbox of its pods."""
    template = job["spec"]["template"]
    pod = {**template["spec"], "volumes": inbox_volumes(template["spec"]["volumes"], sources)}
    return {**job, "spec": {**job["spec"], "template": {**template, "spec": pod}}}


def service_object(plan: Plan, placeholders: Mapping[str, str]) -> Object:
    """Return the headless service by which pods find each other, whether they are ready or not."""
    net = fill(plan.spec["net"], placeholders)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": net, "namespace": plan.spec["namespace"], "labels": {MANAGED_BY: MANAGER}},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {NET_LABEL: net}},
    }


def owner_of(job: Object) -> Object:
    """Return a reference to an existing Job, for the objects that it owns."""
    return {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}


def manifest(plan: Plan) -> str:
    """Return the objects of a plan for ``kubectl apply``, without packages and with secrets masked."""
    placeholders = {**placeholders_of(plan, 1, 0), **SHOWN_PACKAGES}
    objects = [fill(plan.spec["job"], placeholders)]
    if plan.spec["secrets"]:
        objects.insert(0, secret_object(plan, placeholders, dict.fromkeys(plan.spec["secrets"], MASK)))
    if plan.spec["net"]:
        objects.append(service_object(plan, placeholders))
    task = objects[1 if plan.spec["secrets"] else 0]["spec"]["template"]["spec"]["containers"][0]
    task["args"] = masked_arguments(task["args"])
    return as_yaml(*objects)
