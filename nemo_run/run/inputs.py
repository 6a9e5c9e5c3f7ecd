"""Tasks that take what other jobs returned: which jobs these are, and their values beside the task before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nemo_run.config.script import Script
from nemo_run.core.files import write_json
from nemo_run.core.runners.outputs import FILE, output_of, suggested
from nemo_run.run.records import JobDefinition, TaskDefinition
from nemo_run.run.results import job_document
from nemo_run.run.store import ExperimentStore


def output(job: str, path: Sequence[str | int]) -> Any:
    """Return what stands for the output of a job in the arguments of another one."""
    from nemo_run.config import Config

    return Config(output_of, job=job, path=list(path))


def suggestion(path: str, default: Any) -> Any:
    """Return what stands for the value that a sweep chooses for a parameter when its task starts."""
    from nemo_run.config import Config

    return Config(suggested, path=path, default=default)


def jobs_read_by(tasks: Iterable[Any]) -> list[str]:
    """Return the ids of the jobs whose outputs tasks take, in their order."""
    from nemo_run.config import tree

    found = [
        node.job
        for task in tasks
        if not isinstance(task, Script)
        for node in tree.nodes(task)
        if node.__fn_or_cls__ is output_of
    ]
    return list(dict.fromkeys(found))


def write_inputs(
    store: ExperimentStore, task: TaskDefinition, jobs: Iterable[JobDefinition], chosen: Mapping[str, Any] | None = None
) -> None:
    """Write what jobs returned, and what was chosen for a task, beside the task that takes it.

    Raises:
        ResultError: One of them returned no plain data.
        StoreError: A file is damaged, or cannot be written.
    """
    found = {job.id: job_document(store, job) for job in jobs} | dict(chosen or {})
    if found:
        write_json(store.path / task.directory / FILE, found)
