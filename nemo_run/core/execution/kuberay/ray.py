"""Ray on Kubernetes, where the KubeRay operator runs.

A cluster is a ``RayCluster`` object; one for the time of a job belongs to a ``RayJob`` object. The operator manages the
pods, so that no process of ours needs to stay.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

from nemo_run.core import extras
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.execution.kuberay.spec import (
    API,
    CLUSTER,
    JOB,
    cluster_spec,
    kuberay_executor,
    object_name,
    object_of,
    shown,
    wanted_nodes,
)
from nemo_run.core.execution.pods.client import (
    MANAGED_BY,
    MANAGER,
    KubernetesClient,
    Object,
    default_connection,
    why_not_usable as why_no_pods,
)
from nemo_run.core.execution.pods.log import ContainerLog
from nemo_run.core.execution.pods.objects import field_of
from nemo_run.core.execution.pods.status import container_status, is_gone, pod_status
from nemo_run.core.execution.pods.streams import forwarded
from nemo_run.core.execution.shared.pauses import wait_until
from nemo_run.core.ray import jobs_api
from nemo_run.core.ray.engine import (
    DASHBOARD_PORT,
    ClusterExecutor,
    ClusterSpec,
    ClusterState,
    ClusterStatus,
    Dashboard,
    KeptJob,
    Record,
)
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.execution.kuberay import KubeRayExecutor

_GONE_WITHIN = 300.0  # seconds for a deleted cluster to be gone; its pods may take their grace period
_ENDED = ("Complete", "Failed")


class KubeRay:
    """Clusters of the KubeRay operator."""

    @staticmethod
    def why_not_usable() -> str:
        """Return why no cluster can be made: a client is not installed, or no cluster is named; empty if one can."""
        return why_no_pods() or extras.lacking(("httpx", "websockets"), "ray-jobs", "a Ray job")

    def place(self, executor: ClusterExecutor) -> str:
        """Return the context and the namespace."""
        executor = kuberay_executor(ClusterSpec("", executor))
        return f"{_connection(executor).get('context', 'this pod')}/{executor.namespace}"

    def describe(self, spec: ClusterSpec) -> str:
        """Return the object in YAML."""
        spec.refuse_sizes("give them in ray_head_start_params, ray_worker_start_params and cluster_kwargs")
        return shown(object_of(spec))

    def start(self, spec: ClusterSpec) -> Record:
        """Create the object."""
        obj, connection = object_of(spec), _connection(kuberay_executor(spec))
        with contextlib.closing(KubernetesClient(connection)) as client:
            _delete_ended(client, obj)
            return _record(connection, client.create(obj))

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return the record of an object of that name that is ours and has not ended."""
        executor = kuberay_executor(spec)
        connection = _connection(executor)
        with contextlib.closing(KubernetesClient(connection)) as client:
            for kind in (CLUSTER, JOB):
                found = client.get(API, kind, executor.namespace, object_name(spec.name, kind))
                if found is not None and _is_ours(found) and not _has_ended(found):
                    return _record(connection, found)
        return None

    def status(self, record: Record) -> ClusterStatus:
        """Return the status of a cluster: from the operator, then from the pods, then from Ray itself."""
        with _connected(record) as client:
            owner = _owner(client, record)
            if owner is None or is_gone(owner):
                reason = "it is being deleted" if owner else "there is no such object any more"
                return ClusterStatus(ClusterState.STOPPED, reason, 0, record["nodes"])
            stage = _stage(owner)
            if stage in _ENDED:
                state = ClusterState.STOPPED if stage == "Complete" else ClusterState.FAILED
                return ClusterStatus(state, _status_reason(owner), 0, record["nodes"], _details(owner, None))
            return _living(client, record, owner)

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Yield the dashboard, reached through a forwarded port of the head's pod."""
        with _connected(record) as client, _forwarded(client, record, DASHBOARD_PORT) as port:
            yield Dashboard(f"http://127.0.0.1:{port}")

    @contextlib.contextmanager
    def forward(self, record: Record, port: int, target_port: int) -> Iterator[str]:
        """Forward a port of the head's pod."""
        with _connected(record) as client, _forwarded(client, record, target_port, port) as here:
            yield f"http://127.0.0.1:{here}"

    def tail(self, record: Record, lines: int) -> str:
        """Return the log of the first pod that is not ready, or else of the head."""
        with _connected(record) as client:
            pods = _pods(client, record, _ray_cluster(client, record))
            waiting = [pod for pod in pods if not _is_ready(pod)]
            started = [pod for pod in waiting if pod_status(pod).state is not JobState.PENDING or _restarts(pod)]
            return _log(client, (started or pods)[0], lines) if pods else ""

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return the output of the pod that followed the job, as long as the ``RayJob`` exists."""
        if record["kind"] != JOB:
            return None
        with _connected(record) as client:
            owner = _owner(client, record)
            if owner is None:
                return None
            pods = client.pods(record["namespace"], f"job-name={record['name']}")
            pods.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
            details = {"submission_id": job, **_last_words(owner, pods)}
            return KeptJob(details, _log(client, pods[-1]) if pods else "")

    def stop(self, record: Record) -> None:
        """Delete the object, and wait until its pods are gone. A ``RayJob`` that has ended stays, for its log."""
        with _connected(record) as client:
            owner = _owner(client, record)
            if owner is None or _stage(owner) in _ENDED:
                return
            ray = _ray_cluster(client, record, owner)
            client.delete(API, record["kind"], record["namespace"], record["name"])
            _wait_until_gone(lambda: _owner(client, record) or _pods(client, record, ray), record["name"])


# --- objects -----------------------------------------------------------------------------------------------------


def _connection(executor: KubeRayExecutor) -> dict[str, str]:
    return default_connection(executor.context, executor.kubeconfig)


@contextlib.contextmanager
def _connected(record: Record) -> Iterator[KubernetesClient]:
    with contextlib.closing(KubernetesClient(record["connection"])) as client:
        yield client


def _record(connection: dict[str, str], obj: Object) -> Record:
    metadata = obj["metadata"]
    return {
        "connection": connection,
        "kind": obj["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "nodes": wanted_nodes(cluster_spec(obj)),
    }


def _is_ours(obj: Object) -> bool:
    return bool((obj["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER)


def _has_ended(obj: Object) -> bool:
    return is_gone(obj) or _stage(obj) in _ENDED


def _stage(obj: Object) -> str:
    """Return the deployment status of a ``RayJob``."""
    return str((obj.get("status") or {}).get("jobDeploymentStatus") or "")


def _delete_ended(client: KubernetesClient, obj: Object) -> None:
    """Delete an object of ours that has the name and has ended."""
    metadata = obj["metadata"]
    where = (API, obj["kind"], metadata["namespace"], metadata["name"])
    found = client.get(*where)
    if found is None or not _is_ours(found) or not _has_ended(found):
        return
    client.delete(*where)
    _wait_until_gone(lambda: client.get(*where), metadata["name"])


def _wait_until_gone(find: Any, name: str) -> None:
    wait_until(
        lambda: not find(),
        lambda within: f"{name!r} was deleted, but is not gone after {within:g} s; see: kubectl get pods",
        within=_GONE_WITHIN,
    )


def _owner(client: KubernetesClient, record: Record) -> Object | None:
    """Return the object, unless another one has the name now."""
    found = client.get(API, record["kind"], record["namespace"], record["name"])
    return found if found is not None and found["metadata"]["uid"] == record["uid"] else None


def _ray_cluster(client: KubernetesClient, record: Record, owner: Object | None = None) -> Object | None:
    """Return the ``RayCluster`` itself, or the one that a ``RayJob`` has now."""
    owner = owner or _owner(client, record)
    if owner is None or record["kind"] == CLUSTER:
        return owner
    name = (owner.get("status") or {}).get("rayClusterName")
    return client.get(API, CLUSTER, record["namespace"], name) if name else None


def _pods(client: KubernetesClient, record: Record, ray: Object | None) -> list[Object]:
    """Return the pods of a cluster, the head first."""
    if ray is None:
        return []
    pods = client.pods(record["namespace"], f"ray.io/cluster={ray['metadata']['name']}")
    return sorted(pods, key=lambda pod: (not _is_head(pod), pod["metadata"]["name"]))


def _is_head(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"].get("ray.io/node-type") == "head")


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return not is_gone(pod) and any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _restarts(pod: Object) -> int:
    return int(container_status(pod).get("restartCount") or 0)


# --- states ------------------------------------------------------------------------------------------------------


def _details(owner: Object, ray: Object | None) -> dict[str, Any]:
    """Return the status that the operator wrote, the namespace, and the object."""
    status = {**(owner.get("status") or {}), **((ray or {}).get("status") or {})}
    return {
        **status,
        "namespace": owner["metadata"]["namespace"],
        "object": f"{owner['kind']}/{owner['metadata']['name']}",
    }


def _status_reason(obj: Object) -> str:
    status = obj.get("status") or {}
    return ": ".join(filter(None, [str(status.get("reason") or ""), str(status.get("message") or "").strip()]))


def _living(client: KubernetesClient, record: Record, owner: Object) -> ClusterStatus:
    ray = _ray_cluster(client, record, owner)
    wanted = wanted_nodes(ray) if ray else record["nodes"]
    details = _details(owner, ray)
    pods = list(filterfalse(is_gone, _pods(client, record, ray)))
    ready = list(filter(_is_ready, pods))
    why = _waiting_for(client, owner, ray, pods, wanted)
    if not ready or not _is_head(ready[0]):
        return ClusterStatus(ClusterState.STARTING, why, 0, wanted, details)
    try:
        with _forwarded(client, record, DASHBOARD_PORT, pod=ready[0]) as port:
            joined = jobs_api.alive_nodes(Dashboard(f"http://127.0.0.1:{port}"))
    except EngineUnreachableError:
        return ClusterStatus(ClusterState.STARTING, "its dashboard does not answer yet", 0, wanted, details)
    if joined >= wanted:
        return ClusterStatus(ClusterState.READY, "", joined, wanted, details)
    was_ready = field_of(ray, "status", "state") == "ready"
    state = ClusterState.READY if was_ready and why else ClusterState.STARTING
    return ClusterStatus(state, why or "its nodes have not joined yet", joined, wanted, details)


def _waiting_for(
    client: KubernetesClient, owner: Object, ray: Object | None, pods: Sequence[Object], wanted: int
) -> str:
    """Return what a cluster waits for; empty if all its pods are ready."""
    found = [f"{pod['metadata']['name']} {_pod_summary(pod)}" for pod in filterfalse(_is_ready, pods)]
    if len(pods) < wanted:
        found.append(_why_missing(client, owner, ray) or _missing(wanted - len(pods), wanted))
    return "; ".join(found[:3])


def _why_missing(client: KubernetesClient, owner: Object, ray: Object | None) -> str:
    """Return why the operator has not created all pods; empty if it gives no reason."""
    source = ray or owner
    reason = _status_reason(source) or _warning(client, source)
    return reason or ("it is suspended" if _is_suspended(owner) or _is_suspended(source) else "")


def _missing(missing: int, wanted: int) -> str:
    made = f"{missing} of {wanted} pods are" if missing < wanted else "its pods are"
    return f"{made} not made yet by the KubeRay operator"


def _is_suspended(obj: Object) -> bool:
    return bool(obj["spec"].get("suspend"))


def _pod_summary(pod: Object) -> str:
    status, restarts = pod_status(pod), _restarts(pod)
    again = f" (restarted {restarts} times)" if restarts else ""
    if status.reason:
        return f"waits: {status.reason}{again}" if status.state is JobState.PENDING else f"{status.reason}{again}"
    if status.state.is_final:
        return f"ended with exit code {status.exit_code}{again}"
    return f"{'runs, but is not ready yet' if status.state is JobState.RUNNING else 'is being made'}{again}"


def _warning(client: KubernetesClient, obj: Object) -> str:
    """Return the last warning of an object; empty if there is none, or it may not be read."""
    path = client.path("v1", "Event", obj["metadata"]["namespace"])
    selector = f"involvedObject.uid={obj['metadata']['uid']},type=Warning"
    with contextlib.suppress(ExecutorError):  # not everybody may read them
        events = (client.request("GET", path, params={"fieldSelector": selector}) or {}).get("items") or []
        return str(max(events, key=lambda event: str(event.get("lastTimestamp")))["message"]) if events else ""
    return ""


# --- logs and ports ----------------------------------------------------------------------------------------------


def _log(client: KubernetesClient, pod: Object, lines: int | None = None) -> str:
    container = pod["spec"]["containers"][0]["name"]
    log = ContainerLog(client, pod["metadata"]["namespace"], pod["metadata"]["name"], container, lines)
    with contextlib.closing(log):
        return b"".join(iter(log.read, b"")).decode(errors="replace")


def _last_words(owner: Object, pods: Sequence[Object]) -> dict[str, Any]:
    """Return how a job ended: from its follower, or else from the operator."""
    for pod in reversed(pods):
        end = (container_status(pod).get("state") or {}).get("terminated") or {}
        with contextlib.suppress(ValueError):
            return dict(json.loads(end.get("message") or ""))
    status = owner.get("status") or {}
    failed = _stage(owner) == "Failed"
    return {"status": status.get("jobStatus") or ("FAILED" if failed else "UNKNOWN"), "message": _status_reason(owner)}


@contextlib.contextmanager
def _forwarded(
    client: KubernetesClient, record: Record, target_port: int, port: int = 0, pod: Object | None = None
) -> Iterator[int]:
    head = pod or _head(client, record)
    namespace, name = head["metadata"]["namespace"], head["metadata"]["name"]
    with contextlib.ExitStack() as stack:
        try:
            number = stack.enter_context(forwarded(client, namespace, name, target_port, port))
        except OSError as e:
            raise ExecutorError(f"port {port} cannot be used here: {e.strerror}; choose another one") from e
        yield number


def _head(client: KubernetesClient, record: Record) -> Object:
    for pod in _pods(client, record, _ray_cluster(client, record)):
        if _is_head(pod) and not is_gone(pod) and pod_status(pod).state is JobState.RUNNING:
            return pod
    raise ExecutorError(f"the head of the Ray cluster {record['name']!r} does not run; see its status")
