"""Kubernetes objects as plain dictionaries: placeholders, labels, merging, and their text. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, TypeVar

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, Object

T = TypeVar("T")

NAME, ATTEMPT, RANK = "\0name\0", "\0attempt\0", "\0rank\0"
"""Placeholders for the name of an attempt, its number, and the rank of a node."""

ATTEMPT_LABEL, NODE_LABEL, NET_LABEL = (f"{MANAGER}/{what}" for what in ("attempt", "node", "net"))
"""Labels: the attempt, the rank of the node in it, the network in which pods find each other."""

START_TIMEOUT, KEEP, QUEUE = (f"{MANAGER}/{what}" for what in ("start-timeout", "keep", "queue"))
"""Annotations of pods: the ``start_timeout`` and ``queue`` of an executor, and whether objects stay after the end."""


def field_of(obj: Mapping[str, Any] | None, *names: str) -> Any:
    """Return a field of an object by its path; ``None`` if a part of the path is missing.

    >>> field_of({"status": {"phase": "Running"}}, "status", "phase"), field_of({}, "status", "phase")
    ('Running', None)
    """
    value: Any = obj
    for name in names:
        value = (value or {}).get(name)
    return value


def fill(value: T, placeholders: Mapping[str, str]) -> T:
    """Return a value with the placeholders in all its strings replaced.

    >>> fill({"a": [f"{NAME}-1"]}, {NAME: "x"})
    {'a': ['x-1']}
    """
    if isinstance(value, str):
        for place, text in placeholders.items():
            value = value.replace(place, text)  # type: ignore[assignment]
        return value
    if isinstance(value, Mapping):
        return {key: fill(entry, placeholders) for key, entry in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [fill(entry, placeholders) for entry in value]  # type: ignore[return-value]
    return value


def secret_object(plan: Plan, placeholders: Mapping[str, str], values: Mapping[str, str]) -> Object:
    """Return the Secret with the secret variables of an attempt."""
    name = fill(NAME, placeholders)
    data = {key: base64.b64encode(fill(value, placeholders).encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": plan.spec["namespace"], "labels": {MANAGED_BY: MANAGER, ATTEMPT_LABEL: name}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def placeholders_of(plan: Plan, attempt: int, rank: int | None = None) -> dict[str, str]:
    """Return the values of the placeholders for an attempt, or for one node of it."""
    placeholders = {NAME: f"{plan.spec['name']}-{attempt}", ATTEMPT: str(attempt)}
    return placeholders if rank is None else {**placeholders, RANK: str(rank)}
