"""Tasks as users give them, made into tasks of an experiment, and checked before anything is launched."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.names import get_type_namespace
from nemo_run.config.script import Script
from nemo_run.core.execution.base import Executor
from nemo_run.errors import ConfigError, DependencyError, InvalidJobError, InvalidNameError
from nemo_run.run.records import JobDefinition, TaskDefinition
from nemo_run.run.store import job_folder_name

if TYPE_CHECKING:
    from nemo_run.run.job import Job, JobGroup


WAITS_FOR = {"success": "success", "failed": "failure", "any": "end"}
"""What a job waits for in others: in a user's words, and in those of a definition."""


class TaskElsewhere(ABC):
    """A task that another one stands for."""

    @abstractmethod
    def at(self, executor: Executor) -> tuple[Any, Executor]:
        """Return the task that stands for this one, and where that runs."""

    @abstractmethod
    def get_name(self) -> str:
        """Return the name of a task that was given none."""


def as_task(task: Any, arguments: Mapping[str, Any]) -> Any:
    """Return a copy of the task, as a Partial or a Script of its own."""
    if isinstance(task, Script):
        _no_arguments(task, arguments)
        return dataclasses.replace(task, args=list(task.args), env=dict(task.env), metadata=dict(task.metadata))
    if isinstance(task, TaskElsewhere):
        _no_arguments(task, arguments)
        return task
    import fiddle as fdl

    from nemo_run.config import Partial

    if getattr(task, "is_lazy", False):
        task = task.resolve()
    if isinstance(task, fdl.Buildable):
        _no_arguments(task, arguments)
        return task.clone() if hasattr(task, "clone") else fdl.cast(Partial, task)
    if callable(task):
        return Partial(task, **arguments)
    raise InvalidJobError(
        f"{task!r} cannot be a task; give a run.Partial, a run.Script, a function with keyword arguments, or a list"
    )


def as_group(tasks: Sequence[Any], arguments: Mapping[str, Any], name: str) -> list[Any]:
    """Return copies of the tasks of a group, each as a Partial or a Script of its own."""
    members = [as_task(task, arguments) for task in tasks]
    if not members:
        raise InvalidJobError("a group without tasks cannot be added")
    if not name:
        raise InvalidNameError("a group of tasks needs a name: exp.add([...], name=...)")
    return members


def executors_for(given: Executor | list[Executor], count: int, job_id: str) -> list[Executor]:
    """Return an executor of its own for each task of a job, from one for all or one for each."""
    executors = given if isinstance(given, list) else [given] * count
    if len(executors) == 1:
        executors = executors * count
    if len(executors) != count:
        raise InvalidJobError(
            f"job {job_id!r} has {count} tasks, but {len(executors)} executors; give one, or one for each"
        )
    for one in executors:
        if not isinstance(one, Executor):
            raise InvalidJobError(f"job {job_id!r}: {one!r} is not an executor, such as run.LocalExecutor()")
    return [one.chosen().clone() for one in executors]


def placed(tasks: Sequence[Any], given: Executor | list[Executor], job_id: str) -> tuple[list[Any], list[Executor]]:
    """Return the tasks of a job and an executor of its own for each, with those in place that stand for others."""
    pairs = [
        task.at(executor) if isinstance(task, TaskElsewhere) else (task, executor)
        for task, executor in zip(tasks, executors_for(given, len(tasks), job_id), strict=True)
    ]
    return [task for task, _ in pairs], [executor for _, executor in pairs]


def added_as(job: Job | JobGroup) -> dict[str, Any]:
    """Return what an experiment is given to add a job again."""
    from nemo_run.run.job import JobGroup

    tasks, executors = [task for task, _ in job.members], [executor for _, executor in job.members]
    group = isinstance(job, JobGroup)
    return {
        "task": tasks if group else tasks[0],
        "executor": executors,
        "name": job.id,
        "tail_logs": job.tail_logs,
        "dependencies": job.dependencies,
        "end_group_on": job.end_group_on if isinstance(job, JobGroup) else "failure",
        "artifacts": job.artifacts,
        "when": job.when,
    }


def wait_when(when: str, executors: Iterable[Executor], job_id: str) -> None:
    """Tell executors what their job waits for in those that it depends on.

    Raises:
        InvalidJobError: It is none of the words for it.
    """
    if when not in ("", *WAITS_FOR):
        raise InvalidJobError(f"job {job_id!r}: when={when!r}; it is 'success', 'failed' or 'any'")
    for executor in executors if when else ():
        executor.wait_for(WAITS_FOR[when])


def planned_job(job: Job | JobGroup) -> JobDefinition:
    """Return what a job that was not launched yet would be."""
    group, executors = hasattr(job, "tasks"), [executor for _, executor in job.members]
    tasks = [
        TaskDefinition(f"{job.id}/{index}" if group else job.id, folder_of_task(job.id, index, group=group), one.info())
        for index, one in enumerate(executors)
    ]
    return JobDefinition(
        job.id, job.name, job_folder_name(job.id), tuple(tasks), dependencies=tuple(job.dependencies), group=group
    )


def assign(executors: Sequence[Executor], folder: Path, job_id: str, *, group: bool) -> None:
    """Tell each executor of a job which experiment it is for, and its folder there."""
    for index, executor in enumerate(executors):
        executor.assign(folder.name, str(folder), job_id, folder_of_task(job_id, index, group=group))


def folder_of_task(job_id: str, index: int, *, group: bool) -> str:
    """Return the folder of a task of a job, in the experiment's own."""
    directory = job_folder_name(job_id)
    return f"{directory}/{index}" if group else directory


def _no_arguments(task: Any, arguments: Mapping[str, Any]) -> None:
    if arguments:
        raise InvalidJobError(
            f"exp.add() got {', '.join(map(repr, arguments))}, but only a plain function takes arguments there; "
            f"set them on the {type(task).__name__} itself"
        )


def default_name(task: Any) -> str:
    """Return the name of a task that was given none."""
    return task.get_name() if isinstance(task, (Script, TaskElsewhere)) else get_type_namespace(task.__fn_or_cls__)


def new_job_id(name: str, taken: Collection[str]) -> str:
    """Return the id of a job with this name: with a number, where there is one already."""
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidNameError(f"{name!r} cannot be the name of a job: it has control characters")
    numbered = (f"{name}_{number}" for number in itertools.count(len(taken)))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def check_dependencies(job_id: str, dependencies: Iterable[str], known: Collection[str]) -> None:
    """Check that a job depends on jobs only that were added before it."""
    for dependency in dependencies:
        if dependency not in known:
            raise DependencyError(
                f"job {job_id!r} depends on {dependency!r}, but no such job was added before it; "
                f"there are: {', '.join(sorted(known)) or 'none'}"
            )


def check_members(members: Iterable[tuple[Any, Executor]], job_id: str) -> None:
    """Check the tasks of a job and where they run, before anything is launched."""
    for task, executor in members:
        executor.check()
        check_task(task, job_id)


def check_task(task: Any, job_id: str) -> None:
    """Find now what could not be stored or run later."""
    from nemo_run.config.document import check_storable, symbols

    try:
        check_storable(task, reference=symbols.name_in_task)
        if not isinstance(task, Script):
            check_arguments(task)
    except ConfigError as e:
        e.args = (f"job {job_id!r}: {e}",)
        raise


def check_arguments(task: Any) -> None:
    """Check the containers of a task again, and that no argument lacks a value.

    A Partial inside the task may lack some: it gets them when it is called.

    Raises:
        MissingArgumentError: An argument has no value.
        ConfigTypeError: What was put into a list or dict does not fit.
    """
    import fiddle as fdl

    from nemo_run.config import tree
    from nemo_run.config.checking import check_complete, check_containers
    from nemo_run.config.document.writing import call_arguments

    for node in tree.nodes(task):
        try:
            check_containers(node)
            if node is task or isinstance(node, fdl.Config):
                args, kwargs = call_arguments(node)
                check_complete(node, tuple(args), kwargs)
        except ConfigError as e:
            path = tree.path_to(task, node)
            raise type(e)(f"{path}: {e}" if path else str(e)) from None


def check_graph(jobs: Sequence[Job | JobGroup]) -> None:
    """Raise :class:`~nemo_run.errors.DependencyError` where jobs wait for each other, or for one that is not there."""
    from graphlib import CycleError, TopologicalSorter

    known = {job.id for job in jobs}
    for job in jobs:
        for dependency in job.dependencies:
            if dependency not in known:
                raise DependencyError(f"job {job.id!r} depends on {dependency!r}, but there is no such job")
    try:
        TopologicalSorter({job.id: job.dependencies for job in jobs}).prepare()
    except CycleError as e:
        raise DependencyError(f"these jobs wait for each other: {' -> '.join(e.args[1])}") from None
