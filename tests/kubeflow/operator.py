"""A small Kubeflow Trainer: pods for TrainJob objects, as the real one and its JobSet make them.

What differs: nodes find the first of them by the address of its pod, so that no DNS is needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime, timezone

from tests.services.kubernetes_operator import Object, Operator

API = "trainer.kubeflow.org/v1alpha1"
INDEX = "batch.kubernetes.io/job-completion-index"
MERGE = "application/merge-patch+json"


class Trainer(Operator):
    """Looks after TrainJobs."""

    api = API

    def kinds(self) -> Mapping[str, Callable[[Object], object]]:
        return {"TrainJob": self._reconcile}

    def _reconcile(self, job: Object) -> None:
        name = job["metadata"]["name"]
        status = job.get("status") or {}
        if job["spec"].get("suspend"):
            self._suspend(job)
            return
        if any(entry["type"] in ("Complete", "Failed") for entry in status.get("conditions") or []):
            return
        runtime = self.cluster.get(API, "ClusterTrainingRuntime", "", job["spec"]["runtimeRef"]["name"])
        if runtime is None:  # the real one has an admission webhook that refuses the job
            self._tell(job, _condition("Failed", "TrainingRuntimeNotFound", "the runtime does not exist"))
            return
        nodes = job["spec"]["trainer"].get("numNodes", 1)
        pods = {
            int(pod["metadata"]["labels"][INDEX]): pod
            for pod in self.cluster.pods(self.namespace, f"jobset.sigs.k8s.io/jobset-name={name}")
        }
        head = (pods.get(0, {}).get("status") or {}).get("podIP", "")
        for index in range(nodes):
            if index not in pods and (index == 0 or head):
                self.cluster.create(self._pod(job, runtime, index, head))
        phases = [(pod.get("status") or {}).get("phase") for pod in pods.values()]
        counts = {"active": 1, "ready": int(phases.count("Running") == nodes), "succeeded": 0, "failed": 0}
        if "Failed" in phases:
            words = f"jobset failed due to one or more job failures: {name}-node-0"
            for pod in pods.values():
                if (pod.get("status") or {}).get("phase") in ("Pending", "Running"):
                    self.cluster.delete("v1", "Pod", self.namespace, pod["metadata"]["name"])
            counts |= {"active": 0, "ready": 0, "failed": 1}
            self._tell(job, _condition("Failed", "FailedJobs", words), counts)
        elif phases.count("Succeeded") == nodes:
            counts |= {"active": 0, "ready": 0, "succeeded": 1}
            self._tell(job, _condition("Complete", "AllJobsCompleted", "jobset completed successfully"), counts)
        else:
            self._tell(job, None, counts)

    def _suspend(self, job: Object) -> None:
        for pod in self.cluster.pods(self.namespace, f"jobset.sigs.k8s.io/jobset-name={job['metadata']['name']}"):
            self.cluster.delete("v1", "Pod", self.namespace, pod["metadata"]["name"])
        self._tell(job, _condition("Suspended", "Suspended", "TrainJob is suspended"))

    def _tell(self, job: Object, condition: Object | None, counts: Object | None = None) -> None:
        status: Object = {"conditions": [condition] if condition else []}
        if counts:
            status["jobsStatus"] = [{"name": "node", "suspended": 0, **counts}]
        if _without_times(status) != _without_times(job.get("status") or {}):
            path = self.cluster.path(API, "TrainJob", self.namespace, job["metadata"]["name"])
            self.cluster.request("PATCH", f"{path}/status", body={"status": status}, content_type=MERGE)

    def _pod(self, job: Object, runtime: Object, index: int, head: str) -> Object:
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        replicated = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
        spec = deepcopy(replicated["template"]["spec"]["template"]["spec"])
        metadata, changes = patches(job["spec"])
        node = spec["containers"][0]
        node |= {field: trainer[field] for field in ("image", "command", "args") if field in trainer}
        node["resources"] = trainer.get("resourcesPerNode", {})
        node["env"] = [*trainer.get("env", []), *_torch(trainer, index, head)]
        for container in changes.pop("containers", []):  # only of those that the runtime has
            own = next(entry for entry in spec["containers"] if entry["name"] == container["name"])
            own["env"] = [*own["env"], *container.get("env", [])]
            own["volumeMounts"] = [*own.get("volumeMounts", []), *container.get("volumeMounts", [])]
        spec |= changes
        labels = {
            "jobset.sigs.k8s.io/jobset-name": name,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            INDEX: str(index),
        }
        owner = {"apiVersion": API, "kind": "TrainJob", "name": name, "uid": job["metadata"]["uid"]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-node-0-{index}-{secrets.token_hex(2)}",
                "namespace": self.namespace,
                "labels": {**metadata.get("labels", {}), **labels},
                "annotations": {**metadata.get("annotations", {}), INDEX: str(index)},
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            },
            "spec": {**spec, "enableServiceLinks": False},
        }


def patches(spec: Object) -> tuple[Object, Object]:
    """What a job changes of the metadata and the spec of its pods, whatever the version."""
    metadata: Object = {}
    changes: Object = {}
    for entry in spec.get("podSpecOverrides", []):
        changes |= {key: value for key, value in entry.items() if key != "targetJobs"}
    for entry in spec.get("podTemplateOverrides", []):
        metadata |= entry.get("metadata", {})
        changes |= entry.get("spec", {})
    for entry in spec.get("runtimePatches", []):
        for job in entry["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            pod = job["template"]["spec"]["template"]
            metadata |= pod.get("metadata", {})
            changes |= pod.get("spec", {})
    return metadata, deepcopy(changes)


def _torch(trainer: Object, index: int, head: str) -> list[Object]:
    """The variables that the runtime for PyTorch sets."""
    values = {
        "PET_NNODES": str(trainer.get("numNodes", 1)),
        "PET_NPROC_PER_NODE": str(trainer.get("numProcPerNode", "auto")),
        "PET_NODE_RANK": str(index),
        "PET_MASTER_PORT": "29400",
    }
    own = {"name": "PET_MASTER_ADDR", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    other = {"name": "PET_MASTER_ADDR", "value": head}
    return [*({"name": name, "value": value} for name, value in values.items()), own if index == 0 else other]


def _condition(kind: str, reason: str, message: str) -> Object:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}


def _without_times(status: Object) -> Object:
    bare = deepcopy(status)
    for condition in bare.get("conditions") or []:
        condition.pop("lastTransitionTime", None)
    return bare
