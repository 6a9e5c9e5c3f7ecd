"""One task for each of many items: the tasks, and the handle of them all."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import InvalidJobError
from nemo_run.run.inputs import output
from nemo_run.run.records import Definition, JobProgress

if TYPE_CHECKING:
    import fiddle as fdl


@dataclass(frozen=True)
class Mapped:
    """The jobs of one call of :meth:`Experiment.map`.

    Attributes:
        name: What they are called together.
        jobs: Their ids, to depend on, in the order of the items.
    """

    name: str
    jobs: list[str] = field(default_factory=list)

    @property
    def outputs(self) -> list[Any]:
        """What they return, as a list argument of another task."""
        return [output(job, ()) for job in self.jobs]


def mapped_tasks(task: Any, items: Sequence[Iterable[Any]], arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the task for every item; where there are several iterables, for the first of each, then the second.

    Raises:
        InvalidJobError: The iterables are not equally long, or there is no parameter for them.
    """
    if isinstance(task, list | tuple):
        if items or arguments:
            raise InvalidJobError("exp.map() of a list of tasks takes no items: each task has its arguments already")
        yield from task
        return
    if not items:
        raise InvalidJobError("exp.map() needs items: exp.map(function, [1, 2, 3]), or a list of tasks")
    try:
        for values in zip(*items, strict=True):
            yield _with_items(task, values, arguments)
    except ValueError as e:
        if "zip()" not in str(e):
            raise
        raise InvalidJobError("exp.map() needs as many items for each parameter as for the others") from None


def _with_items(task: Any, values: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
    from nemo_run.config import Partial

    if not hasattr(task, "__fn_or_cls__"):
        if not callable(task):
            raise InvalidJobError(f"exp.map() needs a function, a run.Partial or a list of tasks, not {task!r}")
        return Partial(task, *values, **arguments)
    if arguments:
        raise InvalidJobError(f"exp.map() got {', '.join(map(repr, arguments))}; set them on the run.Partial itself")
    changed = task.clone()
    names = _free_parameters(changed)
    if len(names) < len(values):
        raise InvalidJobError(f"{task!r} has no parameter left for an item: all that it has are set")
    for name, value in zip(names, values, strict=False):
        setattr(changed, name, value)
    return changed


def _free_parameters(task: fdl.Buildable[Any]) -> list[str]:
    """Return the parameters that have no value yet, those without a default first of all the function's order."""
    found = inspect.signature(task.__fn_or_cls__).parameters.values()
    named = [one.name for one in found if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return [name for name in named if name not in task.__arguments__]


def mapped_name(wanted: str, taken: Iterable[str]) -> str:
    """Return a name for a map or sweep that no other one of the experiment has."""
    names, number, name = set(taken), 1, wanted
    while name in names:
        number += 1
        name = f"{wanted}_{number}"
    return name


def lines_of_maps(definition: Definition, progress: Mapping[str, JobProgress]) -> list[str]:
    """Return a line for every map and sweep: how far its jobs are."""
    states: dict[str, list[JobState]] = {}
    for job in definition.jobs:
        if job.mapped:
            states.setdefault(job.mapped, []).append(progress[job.id].state)
    return [f"{name}: {how_far(found)}" for name, found in states.items()]


def how_far(states: Sequence[JobState]) -> str:
    """Return how far jobs are.

    >>> how_far([JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING, JobState.UNSUBMITTED])
    '1 of 4 done, 1 failed, 1 running'
    """
    told = (JobState.FAILED, JobState.CANCELLED, JobState.UNKNOWN, JobState.RUNNING)
    parts = [f"{states.count(state)} {state.name.lower()}" for state in told if state in states]
    return ", ".join([f"{states.count(JobState.SUCCEEDED)} of {len(states)} done", *parts])
