"""TrainJobs as the versions of Kubeflow Trainer have them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nemo_run.core.execution.pods.client import MANAGER, Object
from nemo_run.core.execution.pods.objects import field_of
from nemo_run.core.execution.shared.manifests import overlaid
from nemo_run.errors import ExecutorError

API_VERSION, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
CONTAINER = "node"
"""Replicated job of a runtime, and its container, in which the task runs."""

OVERRIDES = ("runtimePatches", "podTemplateOverrides", "podSpecOverrides")
"""The field with which a TrainJob changes the pods of its runtime: of 2.2 and later, of 2.1, of 2.0."""

_POD_FIELDS = {
    "podSpecOverrides": ("containers", "nodeSelector", "serviceAccountName", "tolerations", "volumes"),
    "podTemplateOverrides": (
        "affinity", "containers", "imagePullSecrets", "nodeSelector", "serviceAccountName", "tolerations", "volumes",
    ),
    "runtimePatches": (
        "affinity", "containers", "imagePullSecrets", "nodeSelector", "serviceAccountName", "tolerations", "volumes",
        "terminationGracePeriodSeconds",
    ),
}  # fmt: skip
_NICE_TO_HAVE = ("terminationGracePeriodSeconds",)
"""Fields that are left out where a version does not have them."""

_OURS = sorted({name for names in _POD_FIELDS.values() for name in names} - set(_NICE_TO_HAVE))


def train_job(metadata: Object, runtime: str, trainer: Object, pod: Object, spec: Mapping[str, Any]) -> Object:
    """Return a TrainJob with the changes of its pods beside it, for no version yet.

    Args:
        metadata: Its metadata.
        runtime: Name of the ClusterTrainingRuntime.
        trainer: Fields of the task's container that a TrainJob has itself.
        pod: Changes of ``metadata`` and ``spec`` of the pods.
        spec: Merged into its specification.
    """
    own = {"runtimeRef": {"name": runtime}, "trainer": trainer}
    job = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": overlaid(own, spec)}
    return {"job": job, "pod": {name: value for name, value in pod.items() if value}}


def for_version(field: str, described: Object, job_id: str = "") -> Object:
    """Return the TrainJob for a version of Kubeflow Trainer.

    Args:
        field: The version's field for changes of pods, one of :data:`OVERRIDES`.
        described: The result of :func:`train_job`.
        job_id: The job, for errors.

    Raises:
        ExecutorError: The version lacks a field.
    """
    pod = {"metadata": {}, "spec": {}, **described["pod"]}
    if lacking := _lacking(field, pod):
        raise ExecutorError(
            f"job {job_id!r}: the Kubeflow Trainer of this cluster is too old for {', '.join(lacking)} of pods "
            f"(it has {field}); leave that out, or have it updated"
        )
    if not any(pod.values()):
        return dict(described["job"])
    job: Object = described["job"]
    return {**job, "spec": {**job["spec"], field: [_change(field, pod)]}}


def _lacking(field: str, pod: Object) -> list[str]:
    """Return what a version cannot change of pods, out of certain changes."""
    fields = [name for name in _OURS if name in pod["spec"] and name not in _POD_FIELDS[field]]
    return [*fields, "labels and annotations of pods"] if pod["metadata"] and field == "podSpecOverrides" else fields


def _change(field: str, pod: Object) -> Object:
    """Return changes of pods in the form of a version."""
    known = _POD_FIELDS[field]
    spec = {name: value for name, value in pod["spec"].items() if name not in _NICE_TO_HAVE or name in known}
    template = {"metadata": pod["metadata"], "spec": spec} if pod["metadata"] else {"spec": spec}
    if field == "podSpecOverrides":
        return {"targetJobs": [{"name": CONTAINER}], **spec}
    if field == "podTemplateOverrides":
        return {"targetJobs": [{"name": CONTAINER}], **template}
    jobs = [{"name": CONTAINER, "template": {"spec": {"template": template}}}]
    runtime = {"template": {"spec": {"replicatedJobs": jobs}}}
    return {"manager": f"{MANAGER}.io/executor", "trainingRuntimeSpec": runtime}


def served_field(schema: Mapping[str, Any]) -> str | None:
    """Return the field of :data:`OVERRIDES` that a version has, from the schema of the specification of TrainJobs."""
    fields = schema.get("properties") or {}
    return next((field for field in OVERRIDES if field in fields), None)


def schema_of_definition(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the specification from the CustomResourceDefinition."""
    version = API_VERSION.partition("/")[2]
    for entry in definition["spec"]["versions"]:
        if entry["name"] == version:
            found: Mapping[str, Any] = entry["schema"]["openAPIV3Schema"]["properties"].get("spec") or {}
            return found
    return {}


def schema_of_document(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the specification from a cluster's OpenAPI document (version 2 or 3)."""
    schemas = document.get("definitions") or field_of(document, "components", "schemas") or {}
    for schema in schemas.values():
        kinds = schema.get("x-kubernetes-group-version-kind") or []
        if any(entry["kind"] == KIND and f"{entry['group']}/{entry['version']}" == API_VERSION for entry in kinds):
            return field_of(schema, "properties", "spec") or {}
    return {}


def dropped(sent: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the fields of an object that a server did not keep.

    >>> list(dropped({"a": {"b": 1}, "c": [{"d": 2}]}, {"a": {}, "c": [{"d": 2}]}))
    ['a.b']
    """
    if isinstance(sent, Mapping) and isinstance(kept, Mapping):
        yield from _dropped_fields(sent, kept, path)
    elif isinstance(sent, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(sent, kept, strict=False)):
            yield from dropped(one, other, f"{path}[{index}]")


def _dropped_fields(sent: Mapping[str, Any], kept: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in sent.items():
        where = f"{path}.{name}" if path else name
        if name in kept:
            yield from dropped(value, kept[name], where)
        elif value not in ({}, [], "", None):
            yield where
