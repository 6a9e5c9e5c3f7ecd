"""Queues of a cluster: what Kueue and Volcano read of a task, and what they say of it.

Kueue holds a Job back by suspending it. Volcano is a scheduler: it starts the pods of a group all at once, or none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, KubernetesClient, Object
from nemo_run.core.execution.pods.objects import ATTEMPT_LABEL, NAME, QUEUE, field_of, fill
from nemo_run.core.execution.shared.manifests import overlaid
from nemo_run.errors import EngineUnreachableError, ExecutorError

KUEUE, VOLCANO = "kueue", "volcano"
_KUEUE_GROUP = "kueue.x-k8s.io"
_QUEUE_NAME = f"{_KUEUE_GROUP}/queue-name"
_VOLCANO = "scheduling.volcano.sh/v1beta1"
_POD_GROUP = "scheduling.k8s.io/group-name"


def system_of(client: KubernetesClient, queue: str, namespace: str) -> str:
    """Return whose queue it is: Kueue's, or else Volcano's.

    Raises:
        ExecutorError: The cluster has neither, or has no such queue.
    """
    if version := client.served_version(_KUEUE_GROUP):
        system, kind, where = KUEUE, (version, "LocalQueue"), namespace
    elif client.serves(_VOLCANO, "PodGroup"):
        system, kind, where = VOLCANO, (_VOLCANO, "Queue"), ""
    else:
        raise ExecutorError(
            f"queue={queue!r}: the cluster {client.name!r} has neither Kueue nor Volcano; have one of them installed, "
            "or leave the queue out"
        )
    if _is_missing(client, *kind, where, queue):
        raise ExecutorError(f"queue={queue!r}: the cluster {client.name!r} has no {kind[1]} of that name; see: kubectl "
                            f"get {kind[1].lower()}s" + (f" -n {where}" if where else ""))  # fmt: skip
    return system


def _is_missing(client: KubernetesClient, version: str, kind: str, namespace: str, name: str) -> bool:
    try:
        return client.get(version, kind, namespace, name) is None
    except EngineUnreachableError:
        raise
    except ExecutorError:  # it may not be looked at
        return False


def queued(job: Object, system: str, queue: str) -> Object:
    """Return a Job as the owner of its queue wants it."""
    if system == KUEUE:
        return dict(overlaid(job, {"metadata": {"labels": {_QUEUE_NAME: queue}}, "spec": {"suspend": True}}))
    pod = {"metadata": {"annotations": {_POD_GROUP: NAME}}, "spec": {"schedulerName": VOLCANO}}
    return dict(overlaid(job, {"spec": {"template": pod}}))


def is_for_volcano(job: Mapping[str, Any]) -> bool:
    """Return whether the pods of a Job wait for their group."""
    return _POD_GROUP in (field_of(job, "spec", "template", "metadata", "annotations") or {})


def pod_group(plan: Plan, placeholders: Mapping[str, str], owner: Object) -> Object:
    """Return the group of the pods of an attempt, which Volcano starts at once."""
    name, labels = fill(NAME, placeholders), {MANAGED_BY: MANAGER, ATTEMPT_LABEL: fill(NAME, placeholders)}
    metadata = {"name": name, "namespace": plan.spec["namespace"], "labels": labels, "ownerReferences": [owner]}
    spec = {"minMember": plan.spec["nodes"], "queue": plan.spec["queue"]}
    return {"apiVersion": _VOLCANO, "kind": "PodGroup", "metadata": metadata, "spec": spec}


def queue_of(obj: Mapping[str, Any]) -> str:
    """Return the queue that a pod, or a Job, waits in or waited in; empty if there is none."""
    for path in (("metadata", "annotations"), ("spec", "template", "metadata", "annotations")):
        if queue := (field_of(obj, *path) or {}).get(QUEUE):
            return str(queue)
    return ""


def why_waiting(client: KubernetesClient, job: Mapping[str, Any]) -> str:
    """Return why a suspended Job is held back, as far as Kueue says."""
    queue = queue_of(job)
    return _said(f"in queue {queue!r}" if queue else "suspended", _condition(client, job, "QuotaReserved"))


def why_suspended(client: KubernetesClient, jobs: Iterable[Mapping[str, Any]]) -> str:
    """Return why pods of Jobs were ended that are suspended again; empty if none is."""
    for job in (job for job in jobs if job["spec"].get("suspend")):
        evicted = _condition(client, job, "Evicted")
        cause = "preempted" if evicted.get("reason") in ("Preempted", None) else "evicted"
        return _said(f"{cause} in queue {queue_of(job)!r}" if queue_of(job) else "suspended", evicted)
    return ""


def why_group_waits(client: KubernetesClient, namespace: str, name: str, queue: str) -> str:
    """Return why Volcano has not started the pods of an attempt yet."""
    group: Mapping[str, Any] = {}
    with contextlib.suppress(ExecutorError):
        group = client.get(_VOLCANO, "PodGroup", namespace, name) or {}
    conditions = field_of(group, "status", "conditions") or []
    return _said(f"in queue {queue!r}", conditions[-1] if conditions else {})


def _condition(client: KubernetesClient, job: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of Kueue's Workload of a Job; empty if it has none, or may not be looked at."""
    with contextlib.suppress(ExecutorError):
        version = client.served_version(_KUEUE_GROUP)
        selector = f"{_KUEUE_GROUP}/job-uid={job['metadata']['uid']}"
        for workload in client.objects(version, "Workload", job["metadata"]["namespace"], selector) if version else ():
            for condition in field_of(workload, "status", "conditions") or []:
                if condition["type"] == kind:
                    return dict(condition)
    return {}


def _said(what: str, condition: Mapping[str, Any]) -> str:
    return f"{what}: {condition.get('message') or ''}".rstrip(": ")
