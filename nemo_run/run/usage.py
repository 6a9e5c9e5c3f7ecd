"""What an experiment has used: hours of tasks and of GPUs, by accounts of engines or by times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.jobs import Used
from nemo_run.errors import NemoRunError
from nemo_run.run.records import Definition, JobDefinition, JobProgress
from nemo_run.run.store import ExperimentStore

_HOUR = 3600.0


@dataclass(frozen=True)
class Usage:
    """What a job has used, all of its attempts together.

    Attributes:
        hours: Hours for which its tasks ran.
        gpu_hours: The same, times the GPUs that they had.
        accounted: Whether the engine's own accounts tell so.
    """

    hours: float = 0.0
    gpu_hours: float = 0.0
    accounted: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.hours + other.hours, self.gpu_hours + other.gpu_hours, self.accounted and other.accounted)


def usage(store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress]) -> dict[str, Usage]:
    """Return what every job has used until now, by its id."""
    accounts = _accounts(store, definition, progress) if store.is_ours else {}
    return {job.id: _of_job(job, progress[job.id], accounts) for job in definition.jobs}


def _of_job(job: JobDefinition, progress: JobProgress, accounts: Mapping[str, Used]) -> Usage:
    found = [
        _of_attempt(seconds, task.gpus, accounts.get(handle))
        for task, its in zip(job.tasks, progress.tasks, strict=False)
        for handle, seconds in its.ran()
    ]
    return sum(found[1:], found[0]) if found else Usage()


def _of_attempt(seconds: float, gpus: int, used: Used | None) -> Usage:
    if used is None:
        return Usage(seconds / _HOUR, seconds * gpus / _HOUR)
    return Usage(
        used.seconds / _HOUR, used.seconds * (gpus if used.gpus is None else used.gpus) / _HOUR, accounted=True
    )


def _accounts(store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress]) -> dict[str, Used]:
    """Return what engines account for attempts, where they do, and answer."""
    handles = [
        (store.read_plan(task), handle)
        for job in definition.jobs
        for task, its in zip(job.tasks, progress[job.id].tasks, strict=False)
        for handle, _ in its.ran()
        if handle
    ]
    found: dict[str, Used] = {}
    with Backends() as backends:
        for backend, some in backends.group(handles):
            try:
                found |= backend.used(some)
            except NemoRunError:
                continue
    return found


def total(found: Mapping[str, Usage]) -> Usage:
    """Return what all jobs have used together."""
    return sum(found.values(), Usage(accounted=bool(found)))
