"""Run by a Python that has ``runapy``: do the service's own models accept bodies, and know all that is in them?

Reads a list of ``[kind, body]`` as JSON, and writes what is wrong with each.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from runai import models

MODELS = {
    "trainings": models.TrainingCreationRequest,
    "distributed": models.DistributedCreationRequest,
    "workspaces": models.WorkspaceCreationRequest,
}


def unknown(sent: Any, known: Any, path: str = "") -> list[str]:
    """What of a body the models have dropped or changed."""
    if isinstance(sent, dict) and isinstance(known, dict):
        return [line for key in sent for line in unknown(sent[key], known.get(key, "nothing"), f"{path}.{key}")]
    if isinstance(sent, list) and isinstance(known, list) and len(sent) == len(known):
        pairs = enumerate(zip(sent, known, strict=True))
        return [line for index, (a, b) in pairs for line in unknown(a, b, f"{path}[{index}]")]
    return [] if sent == known else [f"{path}: {sent!r} became {known!r}"]


def problems(kind: str, body: dict[str, Any]) -> list[str]:
    """What is wrong with a body."""
    try:
        parsed = MODELS[kind].from_dict(body)
    except (ValueError, TypeError) as e:
        return [str(e)]
    return unknown(body, json.loads(parsed.to_json()))


print(json.dumps([problems(kind, body) for kind, body in json.load(sys.stdin)]))
