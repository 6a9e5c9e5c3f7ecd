"""The custom resources of Kubeflow Trainer, written from the public names of their fields, for each minor version.

What is not named here is dropped by the server, as with the real ones.
"""

from __future__ import annotations

from typing import Any

from tests.kuberay.crds import ANYTHING, FLAG, QUANTITIES, TEXT, TEXTS, items, number, record

VERSIONS = ("2.0", "2.1", "2.2")
"""2.3 has the same fields as 2.2, as far as they are used here."""

_ANY = {"x-kubernetes-preserve-unknown-fields": True}  # old servers take no empty text in a list
_ENV = items(record("name", name=TEXT, value=_ANY, valueFrom=ANYTHING))
_MOUNTS = items(record("name", "mountPath", open_ended=True, name=TEXT, mountPath=TEXT))
_NAMED = items(record("name", name=TEXT))
_ANY_LIST = items(ANYTHING)
_CONTAINERS = items(record("name", name=TEXT, env=_ENV, volumeMounts=_MOUNTS))
_POD: dict[str, dict[str, Any]] = {
    "containers": _CONTAINERS,
    "initContainers": _CONTAINERS,
    "nodeSelector": TEXTS,
    "schedulingGates": _NAMED,
    "serviceAccountName": TEXT,
    "tolerations": _ANY_LIST,
    "volumes": items(record("name", open_ended=True, name=TEXT)),
}
_MORE = {"affinity": ANYTHING, "imagePullSecrets": _NAMED}
_NEWEST = {"securityContext": ANYTHING, "terminationGracePeriodSeconds": {"type": "integer", "format": "int64"}}
_METADATA = record(labels=TEXTS, annotations=TEXTS)


def overrides(version: str) -> dict[str, Any]:
    """The field with which a job changes the pods of its runtime."""
    targets = {**_NAMED, "minItems": 1}
    if version == "2.0":
        return {"podSpecOverrides": items(record("targetJobs", targetJobs=targets, **_POD))}
    if version == "2.1":
        spec = record(**_POD, **_MORE)
        return {"podTemplateOverrides": items(record("targetJobs", targetJobs=targets, metadata=_METADATA, spec=spec))}
    pod = record(metadata=_METADATA, spec=record(**_POD, **_MORE, **_NEWEST))
    job = record(metadata=_METADATA, spec=record(template=pod))
    job_set = record(replicatedJobs=items(record("name", name=TEXT, template=job)))
    runtime = record(template=record(metadata=_METADATA, spec=job_set))
    return {"runtimePatches": items(record("manager", manager=TEXT, time=TEXT, trainingRuntimeSpec=runtime))}


def _spec(version: str) -> dict[str, Any]:
    return record(
        "runtimeRef",
        runtimeRef=record("name", name=TEXT, apiGroup=TEXT, kind=TEXT),
        trainer=record(
            image=TEXT,
            command=items(TEXT),
            args=items(_ANY),
            env=_ENV,
            numNodes=number(1),
            numProcPerNode={"x-kubernetes-int-or-string": True},
            resourcesPerNode=record(limits=QUANTITIES, requests=QUANTITIES),
        ),
        suspend=FLAG,
        managedBy=TEXT,
        initializer=ANYTHING,
        **({"labels": TEXTS, "annotations": TEXTS} if version in ("2.0", "2.1") else {}),
        **({} if version in ("2.0", "2.1") else {"activeDeadlineSeconds": number(1)}),
        **overrides(version),
    )


_STATUS = record(
    conditions=items(
        record(
            "type", "status", "reason", "message", "lastTransitionTime",
            type=TEXT, status=TEXT, reason=TEXT, message=TEXT, lastTransitionTime=TEXT,
        )
    ),
    jobsStatus=items(
        record(
            "name", "ready", "succeeded", "failed", "active", "suspended",
            name=TEXT, ready=number(), succeeded=number(), failed=number(), active=number(), suspended=number(),
        )
    ),
)  # fmt: skip


def definitions(version: str) -> list[dict[str, Any]]:
    """What an administrator installs."""
    runtime = {"template": ANYTHING, "mlPolicy": ANYTHING, "podGroupPolicy": ANYTHING}
    return [
        _definition("TrainJob", "Namespaced", {"spec": _spec(version), "status": _STATUS}),
        _definition("ClusterTrainingRuntime", "Cluster", {"spec": record(**runtime)}),
        _definition("TrainingRuntime", "Namespaced", {"spec": record(**runtime)}),
    ]


def _definition(kind: str, scope: str, fields: dict[str, Any]) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    version: dict[str, Any] = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": record(**fields)},
    }
    if "status" in fields:
        version["subresources"] = {"status": {}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.trainer.kubeflow.org"},
        "spec": {"group": "trainer.kubeflow.org", "scope": scope, "names": names, "versions": [version]},
    }


RUNTIME = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "ClusterTrainingRuntime",
    "metadata": {"name": "torch-distributed"},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {
                                "backoffLimit": 0,
                                "template": {
                                    "spec": {
                                        "restartPolicy": "Never",
                                        "terminationGracePeriodSeconds": 5,
                                        "containers": [{"name": "node", "image": "localhost/py:test"}],
                                    }
                                },
                            },
                        },
                    }
                ]
            }
        },
    },
}
"""The runtime that Kubeflow Trainer brings for PyTorch, in short; and like many clusters', without restarts."""
