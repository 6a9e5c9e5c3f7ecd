"""The jobs of a past experiment. Their tasks are loaded, and their code imported, when somebody asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_run.core.masking import MASK
from nemo_run.run.job import Job, JobGroup, JobOwner
from nemo_run.run.records import Definition, JobDefinition, TaskDefinition
from nemo_run.run.store import ExperimentStore


class _Unloaded:
    """Stands for a task or an executor that nobody has asked for yet."""


_UNLOADED: Any = _Unloaded()


class StoredJob(Job):
    """A job whose task and executor are loaded on demand."""

    store: ExperimentStore
    definition: JobDefinition

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if value is _UNLOADED:
            self.task, self.executor = load_member(self.store, self.definition.tasks[0])
            value = super().__getattribute__(name)
        return value


class StoredJobGroup(JobGroup):
    """A group whose tasks and executors are loaded on demand."""

    store: ExperimentStore
    definition: JobDefinition

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if value is _UNLOADED:
            members = [load_member(self.store, task) for task in self.definition.tasks]
            self.tasks, self.executors = [task for task, _ in members], [executor for _, executor in members]
            value = super().__getattribute__(name)
        return value


def stored_jobs(store: ExperimentStore, definition: Definition, experiment: JobOwner) -> list[Job | JobGroup]:
    """The jobs of a stored experiment."""
    jobs: list[Job | JobGroup] = []
    for entry in definition.jobs:
        common: dict[str, Any] = {
            "id": entry.id,
            "name": entry.name,
            "tail_logs": entry.tail_logs,
            "dependencies": list(entry.dependencies),
            "artifacts": list(entry.tasks[0].artifacts),
        }
        job: StoredJob | StoredJobGroup
        if entry.group:
            job = StoredJobGroup(tasks=_UNLOADED, executors=_UNLOADED, end_group_on=entry.end_group_on, **common)
        else:
            job = StoredJob(task=_UNLOADED, executor=_UNLOADED, **common)
        job.store, job.definition, job.experiment = store, entry, experiment
        jobs.append(job)
    return jobs


def load_member(store: ExperimentStore, task: TaskDefinition) -> tuple[Any, Any]:
    """The task and the executor that were stored. Imports what they refer to."""
    import fiddle as fdl

    from nemo_run.config.script import Script
    from nemo_run.core.runners.fdl_runner import decode

    folder = Path(store.path, task.directory)
    document = store.read_task(task)
    main = (folder / document["main"]).read_bytes() if "main" in document else b""
    loaded = decode({"config": document["config"], "executor": document["executor"]}, main)
    work, executor = loaded["config"], fdl.build(loaded["executor"])
    real = store.read_plan(task).spec.get("env", {})
    executor.env_vars = _unmasked(executor.env_vars, real)
    if isinstance(work, fdl.Buildable) and fdl.get_callable(work) is Script:
        work = fdl.build(work)
        work.env = _unmasked(work.env, real)
    return work, executor


def _unmasked(values: dict[str, str], real: dict[str, str]) -> dict[str, str]:
    return {name: real.get(name, value) if value == MASK else value for name, value in values.items()}
