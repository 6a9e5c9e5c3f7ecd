"""The custom resources of the KubeRay operator, written from the public names of their fields.

What is not named here is dropped by the server, as with the real ones.
"""

from __future__ import annotations

from typing import Any

ANYTHING: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, TEXT]},
}


def number(minimum: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "format": "int32", "minimum": minimum, **more}


def one_of(*values: str, **more: Any) -> dict[str, Any]:
    return {**TEXT, "enum": list(values), **more}


def items(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def record(*required: str, open_ended: bool = False, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    if open_ended:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


CONTAINER = record(
    "name",
    open_ended=True,
    name=TEXT,
    image=TEXT,
    command=items(TEXT),
    args=items(TEXT),
    env=items(record("name", name=TEXT, value=TEXT, valueFrom=ANYTHING)),
    ports=items(
        record(
            "containerPort",
            containerPort=number(1, maximum=65535),
            name={**TEXT, "maxLength": 15},
            protocol=one_of("TCP", "UDP", "SCTP"),
        )
    ),
    resources=record(limits=QUANTITIES, requests=QUANTITIES),
    volumeMounts=items(record("name", "mountPath", open_ended=True, name=TEXT, mountPath=TEXT)),
    lifecycle=record(postStart=ANYTHING, preStop=ANYTHING),
)
TEMPLATE = record(
    metadata=record(labels=TEXTS, annotations=TEXTS),
    spec=record(
        "containers",
        open_ended=True,
        containers={**items(CONTAINER), "minItems": 1},
        volumes=items(record("name", open_ended=True, name=TEXT)),
    ),
)
CLUSTER_SPEC = record(
    "headGroupSpec",
    rayVersion=TEXT,
    suspend=FLAG,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=ANYTHING,
    headServiceAnnotations=TEXTS,
    gcsFaultToleranceOptions=ANYTHING,
    headGroupSpec=record(
        "rayStartParams",
        "template",
        serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        enableIngress=FLAG,
        rayStartParams=TEXTS,
        template=TEMPLATE,
    ),
    workerGroupSpecs=items(
        record(
            "groupName",
            "maxReplicas",
            "minReplicas",
            "rayStartParams",
            "template",
            groupName=TEXT,
            replicas=number(default=0),
            minReplicas=number(default=0),
            maxReplicas=number(default=2147483647),
            numOfHosts=number(default=1),
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
CLUSTER_STATUS = record(
    state=one_of("ready", "failed", "suspended", "unhealthy", ""),
    reason=TEXT,
    availableWorkerReplicas=number(),
    readyWorkerReplicas=number(),
    desiredWorkerReplicas=number(),
    head=record(podIP=TEXT, serviceIP=TEXT, podName=TEXT, serviceName=TEXT),
    conditions=items(ANYTHING),
    observedGeneration={"type": "integer", "format": "int64"},
)
JOB_SPEC = record(
    entrypoint=TEXT,
    jobId=TEXT,
    runtimeEnvYAML=TEXT,
    metadata=TEXTS,
    rayClusterSpec=CLUSTER_SPEC,
    clusterSelector=TEXTS,
    submitterPodTemplate=TEMPLATE,
    submitterConfig=record(backoffLimit=number()),
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode", default="K8sJobMode"),
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=number(default=0),
    activeDeadlineSeconds=number(1),
    backoffLimit=number(default=0),
    suspend=FLAG,
)
JOB_STATUS = record(
    jobId=TEXT,
    rayClusterName=TEXT,
    dashboardURL=TEXT,
    jobStatus=one_of("PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED", ""),
    jobDeploymentStatus=one_of(
        "Initializing", "Running", "Complete", "Failed", "Suspending", "Suspended", "Retrying", "Waiting", ""
    ),
    reason=TEXT,
    message=TEXT,
    startTime=TEXT,
    endTime=TEXT,
    rayClusterStatus=CLUSTER_STATUS,
    observedGeneration={"type": "integer", "format": "int64"},
)


def definition(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": record(spec=spec, status=status)},
    }
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.ray.io"},
        "spec": {"group": "ray.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


DEFINITIONS = [
    definition("RayCluster", CLUSTER_SPEC, CLUSTER_STATUS),
    definition("RayJob", JOB_SPEC, JOB_STATUS),
]
