"""What other jobs returned, as the arguments of a task: read where the task starts, on any engine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.errors import ResultError

FILE = "inputs.json"
"""The file of a task with what it takes from other jobs, beside its ``task.json``."""
SUGGESTED = "@suggested"
"""What stands in that file for the values that a sweep has chosen for the task, by the paths of parameters."""
VARIABLE = "NEMO_RUN_INPUTS"
"""Names that file."""


def output_of(job: str, path: Sequence[str | int] = ()) -> Any:
    """Return what another job returned, or a part of that. The runner calls it when the task starts.

    Args:
        job: Id of the job.
        path: Keys, positions and names of attributes that lead to the part.

    Raises:
        ResultError: There is no such part, or no such job was waited for.
    """
    from nemo_run.core.values import decode

    file = os.environ.get(VARIABLE, "")
    if not file:
        raise ResultError(f"what job {job!r} returned is known in a task of the same experiment only")
    try:
        value = decode(json.loads(Path(file).read_bytes())[job], may_import=True)
    except (OSError, KeyError) as e:
        raise ResultError(f"{file}: it does not have what job {job!r} returned") from e
    for step in path:
        value = _part(value, step, job)
    return value


def suggested(path: str, default: Any = None) -> Any:
    """Return the value that a sweep has chosen for a parameter. The runner calls it when the task starts.

    Args:
        path: The path of the parameter.
        default: What it has where nothing was chosen, as other values leave it without a meaning.

    Raises:
        ResultError: Nothing was chosen for this task.
    """
    from nemo_run.core.values import decode

    file = os.environ.get(VARIABLE, "")
    if not file:
        raise ResultError(f"the value of {path!r} is chosen by a sweep, when a task of an experiment starts")
    try:
        chosen = decode(json.loads(Path(file).read_bytes())[SUGGESTED], may_import=True)
    except (OSError, KeyError) as e:
        raise ResultError(f"{file}: it has no value that a sweep has chosen") from e
    return chosen.get(path, default)


def _part(value: Any, step: str | int, job: str) -> Any:
    try:
        if isinstance(value, Mapping) or isinstance(step, int):
            return value[step]
        return getattr(value, step)
    except (LookupError, TypeError, AttributeError) as e:
        raise ResultError(f"what job {job!r} returned has no {step!r} where one is taken: {value!r:.200}") from e
