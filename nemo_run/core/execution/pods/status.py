"""The status of a pod: its state, the reason of it, and whether the pod can start. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nemo_run.core.execution.jobs import NODE_FAILURE, PREEMPTION, TIME_LIMIT, JobState, TaskStatus
from nemo_run.core.execution.pods.objects import field_of
from nemo_run.core.execution.shared.units import seconds

Pod = Mapping[str, Any]

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError")

# Reasons for which a pod as a whole fails that are not due to the task.
_EVICTED = {
    "Evicted": "evicted",
    "NodeLost": "its node was lost",
    "NodeShutdown": "its node was shut down",
    "Shutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "Preempting": "preempted",
    "NodeAffinity": "its node does not take it any longer",
    "OutOfcpu": "its node had no CPU left for it",
    "OutOfmemory": "its node had no memory left for it",
    "OutOfnvidia.com/gpu": "its node had no GPU left for it",
    "UnexpectedAdmissionError": "its node did not take it",
}
# Why a pod was deleted: what newer clusters write into it, and events that older ones make.
_DISRUPTED = {
    "PreemptionByScheduler": "preempted",
    "EvictionByEvictionAPI": "evicted, as when its node is drained",
    "DeletionByTaintManager": "evicted from its node, which has a taint",
    "DeletionByPodGC": "its node was lost",
    "TerminationByKubelet": "its node was shut down, or short of something",
    "Preempted": "preempted",
    "Evict": "evicted from its queue",
    "TaintManagerEviction": "evicted from its node, which has a taint",
}
# What took the place of a pod on purpose, on a node that goes on: clouds reclaim spot nodes by taints and drains, too.
_PREEMPTED = (
    "Evicted", "Preempting", "Preempted", "PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager",
    "TaintManagerEviction", "Evict",
)  # fmt: skip
_LOST_CONTAINER = ("Unknown", "ContainerStatusUnknown")


def pod_status(pod: Pod, container: str = "") -> TaskStatus:
    """Return the status of the task that runs in a pod.

    Args:
        pod: The pod, as the API writes it.
        container: The container of the task; the first one by default.

    Example:
        >>> pod_status({"spec": {"containers": [{"name": "task"}]}, "status": {"phase": "Pending"}}).state
        PENDING (2)
    """
    found = container_status(pod, container)
    phase, node = field_of(pod, "status", "phase"), _node_name(pod)
    terminated, running = field_of(found, "state", "terminated"), field_of(found, "state", "running")
    if terminated is not None and phase != "Unknown":
        return _ended_container(pod, container, terminated)
    if phase in ("Failed", "Succeeded"):
        return _ended_pod(pod, started=field_of(running, "startedAt"))
    if running is not None:
        return TaskStatus(JobState.RUNNING, reason=_concern(pod), started=seconds(running["startedAt"]), node=node)
    reason = broken(pod) or _waiting(pod, field_of(found, "state", "waiting") or {})
    return TaskStatus(JobState.PENDING, reason=reason, node=node)


def container_status(pod: Pod, container: str = "") -> Mapping[str, Any]:
    """Return the status of one container; empty if its node has not reported any yet."""
    statuses = field_of(pod, "status", "containerStatuses") or []
    name = _container(pod, container)["name"]
    return next((entry for entry in statuses if entry["name"] == name), {})


def _container(pod: Pod, name: str) -> Mapping[str, Any]:
    """Return the specification of a container, by default of the first one."""
    containers = pod["spec"]["containers"]
    found: Mapping[str, Any] = next((entry for entry in containers if entry["name"] == name), containers[0])
    return found


def _node_name(pod: Pod) -> str:
    return field_of(pod, "spec", "nodeName") or ""


def broken(pod: Pod) -> str:
    """Return why a pod cannot start: its image cannot be pulled, or a container not be created; else empty.

    The node keeps trying, so that the cause may be repaired meanwhile.
    """
    for entry in _all_containers(pod):
        waiting = field_of(entry, "state", "waiting") or {}
        reason, words = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _NO_IMAGE:
            return f"the image {entry['image']!r} cannot be pulled: {words or reason}"
        if reason in _NO_CONTAINER:
            return f"the container {entry['name']!r} cannot be made: {words or reason}"
    return ""


def _all_containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def is_gone(pod: Pod) -> bool:
    """Return whether a pod was deleted; it may still be ending."""
    return "deletionTimestamp" in pod["metadata"]


def why_deleted(pod: Pod, events: Iterable[Mapping[str, Any]]) -> str:
    """Return why the cluster deletes a pod; empty if it says nothing, as where somebody has deleted it.

    >>> why_deleted({"metadata": {}}, [{"reason": "Preempted", "message": "Preempted by a/b on node c"}])
    'preempted: Preempted by a/b on node c'
    """
    for entry in (_condition(pod, "DisruptionTarget"), *events):
        if (cause := entry.get("reason", "")) in _DISRUPTED:
            return _joined(_DISRUPTED[cause], entry.get("message"))
    return ""


def why_left(name: str, node: Mapping[str, Any] | None) -> str:
    """Return what is unusual about the node of a pod that was deleted; empty if nothing is.

    >>> why_left("n1", {"spec": {"unschedulable": True}, "status": {}}), why_left("n1", None)
    ("its node 'n1' is being drained", "its node 'n1' was lost")
    """
    ready = _condition(node, "Ready").get("status") if node is not None else "Unknown"
    if ready in ("False", "Unknown"):
        return f"its node {name!r} was lost"
    return f"its node {name!r} is being drained" if field_of(node, "spec", "unschedulable") else ""


def cause_of(pod: Pod, events: Iterable[Mapping[str, Any]] = ()) -> str:
    """Return what ended a pod, in the words of :class:`TaskStatus`, where that was not its task.

    >>> cause_of({"metadata": {}}, [{"reason": "Preempted"}])
    'preemption'
    """
    whole = field_of(pod, "status", "reason") or ""
    if _used_too_much(pod):
        return ""
    causes = [whole, *(entry.get("reason", "") for entry in (_condition(pod, "DisruptionTarget"), *events))]
    if whole == "DeadlineExceeded":
        return TIME_LIMIT
    if any(cause in _PREEMPTED for cause in causes):
        return PREEMPTION
    return NODE_FAILURE if any(cause in _EVICTED or cause in _DISRUPTED for cause in causes) else ""


def _used_too_much(pod: Pod) -> bool:
    """Return whether the pod was evicted for what it used itself, and not because its node was short of it."""
    said = field_of(pod, "status", "message") or ""
    is_evicted = field_of(pod, "status", "reason") == "Evicted"
    return is_evicted and "exceed" in said and not said.startswith("The node ")


def since_scheduled(pod: Pod) -> float:
    """Return when a pod was given to a node, or else created, in seconds since the epoch."""
    scheduled = _condition(pod, "PodScheduled")
    when = scheduled.get("lastTransitionTime") if scheduled.get("status") == "True" else None
    return seconds(when or pod["metadata"]["creationTimestamp"]) or 0.0


def lacks_claim(pod: Pod) -> str:
    """Return the words of the scheduler where a volume claim of a pod is not there; else empty."""
    words = str(_condition(pod, "PodScheduled").get("message") or "")
    return words if "persistentvolumeclaim" in words and "not found" in words else ""


def _condition(pod: Pod, kind: str) -> Mapping[str, Any]:
    conditions = field_of(pod, "status", "conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind), {})


def _waiting(pod: Pod, waiting: Mapping[str, Any]) -> str:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _joined((scheduled.get("reason") or "Unschedulable").lower(), scheduled.get("message"))
    reason = waiting.get("reason", "")
    return "" if reason in ("ContainerCreating", "PodInitializing", "") else _joined(reason, waiting.get("message"))


def _joined(cause: str, message: str | None) -> str:
    return f"{cause}: {(message or '').strip()}".rstrip(": ")


def _concern(pod: Pod) -> str:
    """Return what is unusual about a pod that runs; else empty."""
    if field_of(pod, "status", "reason") == "NodeLost" or _is_unheard(pod):
        return "its node does not answer"
    return "it is being deleted" if is_gone(pod) else ""


def _is_unheard(pod: Pod) -> bool:
    """Return whether containers are ready but the pod is not, which is the case when the node does not answer."""
    statuses = field_of(pod, "status", "containerStatuses") or []
    ready = bool(statuses) and all(entry.get("ready") for entry in statuses)
    return ready and _condition(pod, "Ready").get("status") in ("False", "Unknown")


def _ended_container(pod: Pod, container: str, end: Mapping[str, Any]) -> TaskStatus:
    code, reason = int(end["exitCode"]), _end_reason(pod, container, end)
    lost = end.get("reason") in _LOST_CONTAINER
    return TaskStatus(
        JobState.SUCCEEDED if code == 0 and not reason else JobState.FAILED,
        None if lost else code,
        reason,
        seconds(end.get("startedAt")),
        seconds(end.get("finishedAt")),
        _node_name(pod),
        lost=lost or _is_taken(pod),
        cause="" if code == 0 and not reason else cause_of(pod),
    )


def _is_taken(pod: Pod) -> bool:
    return field_of(pod, "status", "reason") in _EVICTED and not _used_too_much(pod)


def _end_reason(pod: Pod, container: str, end: Mapping[str, Any]) -> str:
    if evicted := _EVICTED.get(field_of(pod, "status", "reason")):
        return _joined(evicted, pod["status"].get("message"))
    if end.get("reason") in _LOST_CONTAINER:
        return "its node was lost, or restarted"
    if end.get("reason") == "OOMKilled" and end["exitCode"]:
        limit = field_of(_container(pod, container), "resources", "limits", "memory")
        return f"out of memory: it needed more than {limit}" if limit else "out of memory"
    return _failure(end) if end["exitCode"] else ""


def _failure(end: Mapping[str, Any]) -> str:
    words = str(end.get("message") or "").strip()
    return words if words or end.get("reason") in ("Error", "Completed", None) else str(end["reason"])


def _ended_pod(pod: Pod, started: str | None) -> TaskStatus:
    """Return the status of a pod that ended as a whole, without a status of its container."""
    status, node = pod["status"], _node_name(pod)
    if status["phase"] == "Succeeded":
        return TaskStatus(JobState.SUCCEEDED, 0, started=seconds(started), node=node)
    cause = status.get("reason") or _failed_init(pod) or "it failed"
    reason = _joined(_EVICTED.get(cause, cause), status.get("message"))
    return TaskStatus(
        JobState.FAILED, None, reason, seconds(started), None, node, lost=_is_taken(pod), cause=cause_of(pod)
    )


def _failed_init(pod: Pod) -> str:
    """Return which init container failed, and how; empty if none did."""
    for entry in field_of(pod, "status", "initContainerStatuses") or []:
        end = field_of(entry, "state", "terminated") or field_of(entry, "lastState", "terminated") or {}
        if end.get("exitCode"):
            what = f"the init container {entry['name']!r} ended with exit code {end['exitCode']}"
            return _joined(what, _failure(end))
    return ""


def combined(statuses: Sequence[TaskStatus | None]) -> TaskStatus:
    """Return the status of a task from those of its nodes; ``None`` stands for a node without a status.

    >>> combined([TaskStatus(JobState.SUCCEEDED, 0), TaskStatus(JobState.FAILED, 3)])
    TaskStatus(state=FAILED (5), exit_code=3, reason='node 1', started=None, ended=None, node='', lost=False)
    """
    known = {rank: status for rank, status in enumerate(statuses) if status is not None}
    started = min(filter(None, (status.started for status in known.values())), default=None)
    ended = max(filter(None, (status.ended for status in known.values())), default=None)
    nodes = ",".join(dict.fromkeys(filter(None, (status.node for status in known.values()))))
    status = _overall(known, len(statuses))
    return replace(status, started=started, ended=ended if status.state.is_final else None, node=nodes)


def _overall(known: Mapping[int, TaskStatus], nodes: int) -> TaskStatus:
    rank, status = _decisive(known)
    if status.state is JobState.SUCCEEDED and len(known) < nodes:
        return TaskStatus(JobState.RUNNING)
    if nodes > 1 and (status.reason or status.state is JobState.FAILED):
        return replace(status, reason=f"node {rank}: {status.reason}".rstrip(": "))
    return status


def _decisive(known: Mapping[int, TaskStatus]) -> tuple[int, TaskStatus]:
    """Return the node that decides the status: the first that failed, or one that waits, or one that runs."""
    failed = [(rank, status) for rank, status in known.items() if status.state is JobState.FAILED]
    if failed:  # those without an exit code were ended because others had failed
        return min(failed, key=lambda entry: (entry[1].exit_code is None, entry[1].ended or 0.0, entry[0]))
    for state in (JobState.PENDING, JobState.RUNNING):
        for rank, status in known.items():
            if status.state is state:
                return rank, status
    return next(iter(known.items()), (0, TaskStatus(JobState.SUBMITTED)))


def still(status: TaskStatus) -> TaskStatus:
    """Return a status as that of an attempt that goes on: a final state becomes running."""
    if not status.state.is_final:
        return status
    return TaskStatus(JobState.RUNNING, reason=status.reason, started=status.started, node=status.node)
