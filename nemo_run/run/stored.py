"""The jobs of a past experiment. Their tasks are loaded, and their code imported, when they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Executor
from nemo_run.core.masking import MASK
from nemo_run.errors import StoreError
from nemo_run.run.job import Job, JobGroup, JobOwner
from nemo_run.run.records import Definition, JobDefinition, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore


class _Later:
    """Stands for a value that is found out when it is read first."""


_UNLOADED: Any = _Later()
_UNKNOWN: Any = _Later()


class _Stored:
    """A job whose state is asked for, and whose tasks and executors are loaded, when they are read first."""

    store: ExperimentStore
    definition: JobDefinition
    id: str
    experiment: JobOwner

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if value is _UNKNOWN:
            self.take_in(self.experiment.progress([self.id])[self.id].tasks)
            value = super().__getattribute__(name)
        elif value is _UNLOADED:
            self._load([load_member(self.store, task) for task in self.definition.tasks])
            value = super().__getattribute__(name)
        return value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"  # without its tasks, whose code would be imported

    def __eq__(self, other: object) -> bool:
        """Check whether it is the same job of the same experiment; the fields, which would be loaded, are not read."""
        if not isinstance(other, _Stored):
            return NotImplemented
        return (self.store.path, self.id) == (other.store.path, other.id)

    __hash__ = None  # type: ignore[assignment]  # as other jobs: they can be changed

    def take_in(self, tasks: Sequence[TaskProgress]) -> None:
        raise NotImplementedError

    def _load(self, members: list[tuple[Any, Any]]) -> None:
        raise NotImplementedError


class StoredJob(_Stored, Job):
    """A job of a past experiment."""

    take_in = Job.take_in

    def _load(self, members: list[tuple[Any, Any]]) -> None:
        self.task, self.executor = members[0]


class StoredJobGroup(_Stored, JobGroup):
    """A group of a past experiment."""

    take_in = JobGroup.take_in

    def _load(self, members: list[tuple[Any, Any]]) -> None:
        self.tasks, self.executors = [task for task, _ in members], [executor for _, executor in members]


def stored_jobs(store: ExperimentStore, definition: Definition, experiment: JobOwner) -> list[Job | JobGroup]:
    """Return the jobs of a stored experiment."""
    jobs: list[Job | JobGroup] = []
    for entry in definition.jobs:
        common: dict[str, Any] = {
            "id": entry.id,
            "name": entry.name,
            "tail_logs": entry.tail_logs,
            "dependencies": list(entry.dependencies),
            "artifacts": list(entry.tasks[0].artifacts),
            "launched": _UNKNOWN,
            "when": {"failure": "failed", "end": "any"}.get(entry.waits_for, ""),
        }
        job: StoredJob | StoredJobGroup
        if entry.group:
            common |= {"tasks": _UNLOADED, "executors": _UNLOADED, "handles": _UNKNOWN, "states": _UNKNOWN}
            job = StoredJobGroup(end_group_on=entry.end_group_on, **common)
        else:
            common |= {"task": _UNLOADED, "executor": _UNLOADED, "handle": _UNKNOWN, "state": _UNKNOWN}
            common["mapped"] = entry.mapped
            job = StoredJob(**common)
        job.store, job.definition, job.experiment = store, entry, experiment
        jobs.append(job)
    return jobs


def load_member(store: ExperimentStore, task: TaskDefinition) -> tuple[Any, Any]:
    """Return the task and the executor that were stored. Imports what they refer to."""
    import fiddle as fdl

    from nemo_run.config.script import Script
    from nemo_run.core.runners.fdl_runner import decode

    document = store.read_task_to_load(task)
    main = store.read_pickle(task) if "main" in document else b""
    loaded = decode({"config": document["config"], "executor": document["executor"]}, main)
    work, executor = loaded["config"], built_executor(loaded["executor"], store.path / task.directory / "task.json")
    plan = store.read_plan(task)
    with Backends() as backends:
        real = backends.of(plan).environment(plan)
    executor.env_vars = _unmasked(executor.env_vars, real)
    if isinstance(work, fdl.Buildable) and fdl.get_callable(work) is Script:
        work = fdl.build(work)
        work.env = _unmasked(work.env, real)
    return work, executor


def built_executor(config: Any, path: Path) -> Executor:
    """Return the executor that a configuration describes, if that is what it describes.

    Args:
        config: The configuration.
        path: The file that it was read from, for messages.

    Raises:
        StoreError: It is anything else, or has a part that is no class of options: nothing is called.
    """
    import fiddle as fdl
    from fiddle import daglish

    cls = fdl.get_callable(config) if isinstance(config, fdl.Config) else None
    if not (isinstance(cls, type) and issubclass(cls, Executor)):
        raise StoreError(f"{path}: its executor is none, so it is not built")
    for part, _ in daglish.iterate(config):
        if isinstance(part, fdl.Buildable) and not _is_part_of_executors(fdl.get_callable(part)):
            raise StoreError(f"{path}: its executor has a {fdl.get_callable(part)!r}, which is no part of one")
    executor: Executor = fdl.build(config)
    return executor


def _is_part_of_executors(called: Any) -> bool:
    """Check whether this is a class that only holds what a user has said, as all parts of executors are."""
    from nemo_run.core.execution.launcher import Launcher
    from nemo_run.core.packaging.base import Packager
    from nemo_run.core.tunnel.client import Tunnel

    kinds = (Executor, Launcher, Packager, Tunnel)
    return isinstance(called, type) and (issubclass(called, kinds) or dataclasses.is_dataclass(called))


def _unmasked(values: dict[str, str], real: dict[str, str]) -> dict[str, str]:
    return {name: real.get(name, value) if value == MASK else value for name, value in values.items()}
