"""A small Volcano: a scheduler that starts the pods of a group at once, when there is room for all, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nemo_run.core.execution.pods.client import KubernetesClient, Object
from tests.kuberay.crds import ANYTHING, TEXT, number, record
from tests.services.kubernetes_operator import Operator

API = "scheduling.volcano.sh/v1beta1"
_GROUP = "scheduling.k8s.io/group-name"
_MERGE = "application/merge-patch+json"


def definition(group: str, version: str, kind: str, plural: str, *, namespaced: bool = True, **spec: Any) -> Object:
    """The definition of a kind of object, with a status."""
    schema = record(spec=record(**spec), status=ANYTHING)
    served = {
        "name": version, "served": True, "storage": True, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [served],
        },
    }


DEFINITIONS = (
    definition(
        "scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups",
        minMember=number(), queue=TEXT, minResources=ANYTHING, priorityClassName=TEXT,
    ),
    definition("scheduling.volcano.sh", "v1beta1", "Queue", "queues", namespaced=False, weight=number()),
)  # fmt: skip


class Volcano(Operator):
    """Looks after the groups of one namespace; ``room`` is how many pods it has place for."""

    api = API

    def __init__(self, cluster: KubernetesClient, namespace: str) -> None:
        super().__init__(cluster, namespace)
        self.room = 0

    def kinds(self) -> Mapping[str, Callable[[Object], object]]:
        return {"PodGroup": self._look_at}

    def _look_at(self, group: Object) -> None:
        pods = [pod for pod in self._pods() if _group(pod) == group["metadata"]["name"]]
        waiting = [pod for pod in pods if not pod["spec"].get("nodeName")]
        running = [pod for pod in self._pods() if pod["spec"].get("nodeName") and not _is_over(pod)]
        if not waiting:
            return
        least = group["spec"]["minMember"]
        if len(pods) < least or len(running) + len(waiting) > self.room:
            self._tell(group, f"{len(waiting)}/{least} tasks in gang unschedulable: pod group is not ready")
            return
        for pod in waiting:
            self._bind(pod)

    def _pods(self) -> list[Object]:
        pods = self.cluster.objects("v1", "Pod", self.namespace)
        return [pod for pod in pods if pod["spec"].get("schedulerName") == "volcano"]

    def _bind(self, pod: Object) -> None:
        [node] = self.cluster.objects("v1", "Node", "")
        name = pod["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"]}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = f"{self.cluster.path('v1', 'Pod', self.namespace, name)}/binding"
        self.cluster.request("POST", path, body=body, absent=(409,))

    def _tell(self, group: Object, words: str) -> None:
        condition = {"type": "Unschedulable", "status": "True", "reason": "NotEnoughResources", "message": words}
        status = {"phase": "Pending", "conditions": [condition]}
        if status != group.get("status"):
            path = self.cluster.path(API, "PodGroup", self.namespace, group["metadata"]["name"])
            self.cluster.request("PATCH", f"{path}/status", body={"status": status}, content_type=_MERGE)

    def preempt(self) -> None:
        """Evict all pods that run, for others."""
        for pod in self._pods():
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            event = {
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{name}.evict", "namespace": self.namespace},
                "involvedObject": {"kind": "Pod", "namespace": self.namespace, "name": name, "uid": uid},
                "type": "Warning", "reason": "Evict", "message": "Pod is evicted, because of preempt",
                "lastTimestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }  # fmt: skip
            self.cluster.create(event)
            self.cluster.delete("v1", "Pod", self.namespace, name)


def _group(pod: Object) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(_GROUP))


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
