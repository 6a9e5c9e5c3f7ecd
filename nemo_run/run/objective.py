"""The numbers by which the jobs of a sweep are compared: parts of what they returned, or metrics that they logged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nemo_run.core import values
from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import NemoRunError
from nemo_run.run.metrics import job_metrics
from nemo_run.run.records import JobDefinition, JobProgress
from nemo_run.run.results import job_document
from nemo_run.run.store import ExperimentStore


def numbers_of(store: ExperimentStore, job: JobDefinition, progress: JobProgress) -> dict[str, float]:
    """Return the numbers in what a job returned; the result itself is named ``"result"``."""
    if progress.state is not JobState.SUCCEEDED:
        return {}
    try:
        value = values.decode(job_document(store, job))  # nothing of it is imported: it is only looked at
    except NemoRunError:
        return {}
    parts = {"result": value}
    if isinstance(value, Mapping):
        parts = dict(value)
    elif hasattr(value, "__dict__"):
        parts = vars(value)
    numbers = {str(name): _number(part) for name, part in parts.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _number(value: Any) -> float | None:
    """Return what is a number, a scalar of NumPy included; ``None`` for anything else."""
    if isinstance(value, (str, bytes)) or not hasattr(type(value), "__float__") or getattr(value, "ndim", 0) != 0:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def objective_of(
    store: ExperimentStore, job: JobDefinition, progress: JobProgress, name: str, numbers: Mapping[str, float]
) -> float | None:
    """Return the number that a job is compared by; ``None`` where there is none.

    Args:
        store: The experiment.
        job: The job.
        progress: How far it is.
        name: The part of its result, or a metric; empty for the result itself, or the only number in it.
        numbers: The numbers in its result.
    """
    value = numbers.get(name or "result")
    if value is None and not name and len(numbers) == 1:
        value = next(iter(numbers.values()))
    if value is None and name and progress.state not in (JobState.FAILED, JobState.CANCELLED):
        found = job_metrics(store, job)
        value = found[name].last if name in found else None
    return value if value is not None and not math.isnan(value) else None
