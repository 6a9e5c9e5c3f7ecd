"""A small KubeRay operator: pods, services and jobs for RayCluster and RayJob objects, as the real one makes them.

What differs: nodes find each other by the addresses of pods, so that no DNS is needed.
"""

from __future__ import annotations

import json
import math
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime, timezone
from typing import Any

from kubernetes.utils import parse_quantity

from nemo_run.errors import ExecutorError
from tests.services.kubernetes_operator import Object, Operator

API = "ray.io/v1"
MERGE = "application/merge-patch+json"
FINISHED = ("SUCCEEDED", "FAILED", "STOPPED")


class KubeRay(Operator):
    """Looks after RayJobs and RayClusters."""

    api = API

    def kinds(self) -> Mapping[str, Callable[[Object], object]]:
        return {"RayJob": self._job, "RayCluster": self._cluster}

    # objects

    def _set_status(self, owner: Object, **status: Any) -> None:
        given = {key: value for key, value in status.items() if value != ""}  # as the real one leaves them out
        status = {**owner.get("status", {}), **given, "observedGeneration": owner["metadata"]["generation"]}
        if status != owner.get("status"):
            owner["status"] = status
            path = self.cluster.path(API, owner["kind"], self.namespace, owner["metadata"]["name"])
            self.cluster.request("PATCH", f"{path}/status", body={"status": status}, content_type=MERGE)

    def _make(self, api_version: str, kind: str, name: str, owner: Object, labels: Object, **parts: Any) -> None:
        """Create an object that belongs to another one; one that is there already is left."""
        metadata = {"name": name, "namespace": self.namespace, "labels": labels, **_owned(owner)}
        body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}
        self.cluster.request("POST", self.cluster.path(api_version, kind, self.namespace), body=body, absent=(409,))

    # clusters

    def _cluster(self, cluster: Object) -> None:
        name, spec = cluster["metadata"]["name"], cluster["spec"]
        if spec.get("suspend"):
            for pod in self.cluster.pods(self.namespace, f"ray.io/cluster={name}"):
                self.cluster.delete("v1", "Pod", self.namespace, pod["metadata"]["name"])
            self._set_status(cluster, state="suspended")
            return
        self._service(cluster)
        groups = {"headgroup": 1, **{g["groupName"]: g["replicas"] for g in spec.get("workerGroupSpecs", [])}}
        pods = self.cluster.pods(self.namespace, f"ray.io/cluster={name}")
        head = next((pod for pod in pods if pod["metadata"]["labels"]["ray.io/node-type"] == "head"), None)
        if head is None:
            self._pod(cluster, spec["headGroupSpec"], "headgroup", "")
        elif address := head["status"].get("podIP"):
            for group in spec.get("workerGroupSpecs", []):
                there = [pod for pod in pods if pod["metadata"]["labels"]["ray.io/group"] == group["groupName"]]
                for _ in range(group["replicas"] - len(there)):
                    self._pod(cluster, group, group["groupName"], address)
        self._cluster_status(cluster, pods, head, sum(groups.values()))

    def _cluster_status(self, cluster: Object, pods: list[Object], head: Object | None, wanted: int) -> None:
        ready = [pod for pod in pods if _is_ready(pod)]
        status: Object = {
            "desiredWorkerReplicas": wanted - 1,
            "availableWorkerReplicas": sum(pod["metadata"]["labels"]["ray.io/node-type"] == "worker" for pod in ready),
        }
        if head and head["status"].get("podIP"):
            name = f"{cluster['metadata']['name']}-head-svc"
            service = self.cluster.get("v1", "Service", self.namespace, name) or {"spec": {}}  # it may be gone
            status["head"] = {
                "podIP": head["status"]["podIP"],
                "serviceIP": service["spec"].get("clusterIP", ""),
                "podName": head["metadata"]["name"],
                "serviceName": name,
            }
        if len(ready) == wanted:
            status["state"] = "ready"
        self._set_status(cluster, **status)

    def _service(self, cluster: Object) -> None:
        name = f"{cluster['metadata']['name']}-head-svc"
        labels = {"ray.io/cluster": cluster["metadata"]["name"], "ray.io/node-type": "head"}
        ports = [{"name": "dashboard", "port": 8265}, {"name": "gcs-server", "port": 6379}]
        spec = {"selector": labels, "ports": ports, "type": cluster["spec"]["headGroupSpec"].get("serviceType")}
        self._make("v1", "Service", name, cluster, labels, spec=spec)

    def _pod(self, cluster: Object, group: Object, group_name: str, head_address: str) -> None:
        name = cluster["metadata"]["name"]
        kind = "worker" if head_address else "head"
        template = deepcopy(group["template"])
        labels = {
            **template.get("metadata", {}).get("labels", {}),
            "ray.io/cluster": name,
            "ray.io/node-type": kind,
            "ray.io/group": group_name,
            "ray.io/is-ray-node": "yes",
        }
        infix = "" if kind == "head" else f"{group_name}-"
        _complete(template["spec"]["containers"][0], kind, group["rayStartParams"], head_address, name)
        try:
            self._make("v1", "Pod", f"{name}-{infix}{kind}-{_suffix()}", cluster, labels, spec=template["spec"])
        except ExecutorError as e:
            self._set_status(cluster, state="failed", reason=str(e))

    # jobs

    def _job(self, job: Object) -> None:
        stage = job.get("status", {}).get("jobDeploymentStatus", "")
        if stage in ("", "Suspended") and job["spec"].get("suspend"):
            self._set_status(job, jobDeploymentStatus="Suspended")
        elif stage in ("", "Suspended"):
            self._begin(job)
        elif stage in ("Initializing", "Running") and self._is_late(job):
            why = {"reason": "DeadlineExceeded", "message": "The RayJob has passed the activeDeadlineSeconds."}
            self._set_status(job, jobDeploymentStatus="Failed", **why)
        elif stage == "Initializing":
            self._submit(job)
        elif stage == "Running":
            self._follow(job)
        elif job["spec"].get("shutdownAfterJobFinishes"):
            self.cluster.delete(API, "RayCluster", self.namespace, job["status"]["rayClusterName"])

    @staticmethod
    def _is_late(job: Object) -> bool:
        limit = job["spec"].get("activeDeadlineSeconds")
        begun = datetime.fromisoformat(job["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
        return limit is not None and (datetime.now(timezone.utc) - begun).total_seconds() > limit

    def _begin(self, job: Object) -> None:
        name = job["metadata"]["name"]
        cluster = f"{name}-{_suffix()}"
        status = {
            "jobDeploymentStatus": "Initializing",
            "jobId": job["spec"].get("jobId") or f"{name}-{_suffix()}",
            "rayClusterName": cluster,
        }
        labels = {"ray.io/originated-from-cr-name": name, "ray.io/originated-from-crd": "RayJob"}
        self._set_status(job, **status)
        self._make(API, "RayCluster", cluster, job, labels, spec=job["spec"]["rayClusterSpec"])

    def _submit(self, job: Object) -> None:
        cluster = self.cluster.get(API, "RayCluster", self.namespace, job["status"]["rayClusterName"]) or {}
        status = cluster.get("status", {})
        if status.get("state") != "ready" or "head" not in status:
            self._set_status(job, rayClusterStatus=status)
            return
        address = f"{status['head']['podIP']}:8265"
        template = deepcopy(job["spec"]["submitterPodTemplate"])
        template["spec"].setdefault("restartPolicy", "Never")
        container = template["spec"]["containers"][0]
        container["env"] = [
            *container.get("env", []),
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "RAY_DASHBOARD_ADDRESS", "value": address},
            {"name": "RAY_JOB_SUBMISSION_ID", "value": job["status"]["jobId"]},
        ]
        limit = job["spec"].get("submitterConfig", {}).get("backoffLimit", 2)
        spec = {"template": template, "backoffLimit": limit}
        self._make("batch/v1", "Job", job["metadata"]["name"], job, {}, spec=spec)
        self._set_status(job, jobDeploymentStatus="Running", dashboardURL=address, rayClusterStatus=status)

    def _follow(self, job: Object) -> None:
        submitter = self.cluster.get("batch/v1", "Job", self.namespace, job["metadata"]["name"]) or {}
        found = submitter.get("status", {}).get("conditions", [])
        conditions = {entry["type"]: entry for entry in found if entry["status"] == "True"}
        info = _ask(f"http://{job['status']['dashboardURL']}/api/jobs/{job['status']['jobId']}")
        state, message = info.get("status") or "", info.get("message") or ""
        if state in FINISHED and conditions:
            failed = state == "FAILED"
            self._set_status(
                job,
                jobStatus=state,
                jobDeploymentStatus="Failed" if failed else "Complete",
                message=message,
                **({"reason": "AppFailed"} if failed else {}),
            )
        elif "Failed" in conditions:
            message = conditions["Failed"].get("message", "")
            self._set_status(job, jobDeploymentStatus="Failed", reason="SubmissionFailed", message=message)
        else:
            self._set_status(job, jobStatus=state, message=message)


def _owned(owner: Object) -> Object:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"ownerReferences": [reference]}


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _suffix() -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def _ask(url: str) -> Object:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # a pod of ours
            found: Object = json.load(answer)
            return found
    except (urllib.error.URLError, OSError):
        return {}


def _complete(container: Object, kind: str, params: Mapping[str, str], head_address: str, cluster: str) -> None:
    """Give a Ray container its command, variables and probe, as the operator documents them."""
    own = " ".join([*container.get("command", []), *container.get("args", [])])
    command = f"ulimit -n 65536; {_ray_start(container, kind, params, head_address)}"
    if "ray start" not in own:
        container["command"] = ["/bin/bash", "-c", "--"]
        container["args"] = [f" {own}  && {command}" if own else command]
    container["env"] = [
        *container.get("env", []),
        {"name": "RAY_CLUSTER_NAME", "value": cluster},
        {"name": "RAY_PORT", "value": "6379"},
        {"name": "RAY_ADDRESS", "value": "127.0.0.1:6379" if kind == "head" else f"{head_address}:6379"},
    ]
    if kind == "head":
        probe = {"httpGet": {"path": "/api/gcs_healthz", "port": 8265}, "periodSeconds": 1, "timeoutSeconds": 5}
        container.setdefault("readinessProbe", {**probe, "failureThreshold": 60})


def _ray_start(container: Object, kind: str, params: Mapping[str, str], head_address: str) -> str:
    limits = container.get("resources", {}).get("limits", {})
    ours = {"block": "true", "metrics-export-port": "8080", "dashboard-agent-listen-port": "52365"}
    if cpu := limits.get("cpu"):
        ours["num-cpus"] = str(math.ceil(parse_quantity(cpu)))
    if memory := limits.get("memory"):
        ours["memory"] = str(int(parse_quantity(memory)))
    if gpus := limits.get("nvidia.com/gpu"):
        ours["num-gpus"] = str(gpus)
    ours |= {"head": "true", "port": "6379"} if kind == "head" else {"address": f"{head_address}:6379"}
    words = ["ray", "start"]
    for option, value in sorted({**ours, **params}.items()):
        if value.lower() in ("true", "false") and option not in ("log-color", "include-dashboard"):
            words += [f"--{option}"] if value.lower() == "true" else []
        else:
            words.append(f"--{option}={value}")
    return " ".join(words)
