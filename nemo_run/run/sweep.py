"""Sweeps: one task tried with many values, and the comparison of what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nemo_run.core import values
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.files import read_json, write_json
from nemo_run.errors import NemoRunError, StoreError, SweepError
from nemo_run.run.inputs import output
from nemo_run.run.records import Definition, JobDefinition
from nemo_run.run.space import Point, Sampler, points, spaces_of
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    import fiddle as fdl

Direction = Literal["maximize", "minimize"]
_FILE = "sweeps.json"
_LONGEST_NAME = 60


@dataclass
class Sweep:
    """One task, tried with many values.

    Attributes:
        name: Its name.
        objective: The part of a task's result that is compared; empty for the result itself.
        direction: Whether larger or smaller values are better.
        points: The values that each job tries, by the job's id and the path of the parameter.
    """

    name: str
    objective: str = ""
    direction: Direction = "maximize"
    points: dict[str, Point] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Any]:
        """What its jobs return, as a list argument of another task."""
        return [output(job, ()) for job in self.points]

    @property
    def jobs(self) -> list[str]:
        """The ids of its jobs, to depend on."""
        return list(self.points)


@dataclass(frozen=True)
class Trial:
    """One job of a comparison.

    Attributes:
        job: Id of the job.
        state: Its state.
        parameters: The parameters in which jobs differ.
        results: Numbers of its result, by their names; the result itself is named ``"result"``.
        objective: The number that it is compared by; ``None`` where there is none.
    """

    job: str
    state: str
    parameters: dict[str, Any]
    results: dict[str, float]
    objective: float | None = None


def plan_sweep(
    task: fdl.Buildable[Any],
    space: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    *,
    name: str,
    sampler: Sampler = "grid",
    trials: int | None = None,
    seed: int = 0,
) -> Iterator[tuple[str, Point, Any]]:
    """Yield a name, the values and the changed task for every point of a sweep.

    Raises:
        SweepError: The task has no parameter of this name, or the points cannot be taken.
    """
    from nemo_run.config.paths import set_value

    chosen = points(spaces_of(space), sampler, trials, seed) if isinstance(space, Mapping) else _listed(space, trials)
    taken: set[str] = set()
    for number, point in enumerate(chosen):
        changed = task.clone()
        for path, value in point.items():
            set_value(changed, path, value)
        title = _title(point)
        if not title or len(title) > _LONGEST_NAME or title in taken:
            title = f"{name}-{number}"
        taken.add(title)
        yield title, point, changed


def _listed(given: Iterable[Mapping[str, Any]], trials: int | None) -> Iterator[Point]:
    found = [dict(point) for point in given]
    if not found or not all(found):
        raise SweepError("a sweep over listed points needs at least one, and none may be empty")
    return iter(found[:trials])


def _title(point: Point) -> str:
    """Return values as a name, such as ``lr=0.1,layers=2``; the last words of the paths, where they differ."""
    short = {path: path.rpartition(".")[2] for path in point}
    if len(set(short.values())) < len(short):
        short = {path: path for path in point}
    return ",".join(f"{short[path]}={_text(value)}" for path, value in point.items())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- stored ----------------------------------------------------------------------------------------------------


def write_sweeps(store: ExperimentStore, sweeps: Iterable[Sweep]) -> None:
    """Store what was swept, if anything was."""
    if documents := [{**asdict(sweep), "points": _encoded(sweep.points)} for sweep in sweeps]:
        write_json(store.path / _FILE, documents)


def _encoded(found: Mapping[str, Point]) -> dict[str, Any]:
    return {job: {path: _plain(value) for path, value in point.items()} for job, point in found.items()}


def _plain(value: Any) -> Any:
    try:
        return values.encode(value)
    except NemoRunError:
        return repr(value)


def read_sweeps(store: ExperimentStore) -> list[Sweep]:
    """Return what was swept.

    Raises:
        StoreError: The file is damaged.
    """
    try:
        documents = read_json(store.path / _FILE)
    except FileNotFoundError:
        return []
    try:
        return [_sweep(document) for document in documents]
    except (TypeError, KeyError, AttributeError, ValueError, NemoRunError) as e:
        raise StoreError(f"{store.path / _FILE}: the file is damaged ({e!r})") from e


def _sweep(document: Mapping[str, Any]) -> Sweep:
    found = {
        str(job): {str(k): values.decode(v) for k, v in point.items()} for job, point in document["points"].items()
    }
    direction: Direction = "minimize" if document["direction"] == "minimize" else "maximize"
    return Sweep(str(document["name"]), str(document["objective"]), direction, found)


# --- compared --------------------------------------------------------------------------------------------------


def trials_of(
    store: ExperimentStore, definition: Definition, *, objective: str = "", direction: Direction | None = None
) -> list[Trial]:
    """Return the jobs of an experiment with the parameters in which they differ and their results, the best first.

    Args:
        store: The experiment.
        definition: What was asked for.
        objective: The part of the result to compare, or a metric; that of the sweep by default.
        direction: ``"maximize"`` or ``"minimize"``; that of the sweep by default.
    """
    sweeps = read_sweeps(store)
    swept = {job: sweep for sweep in sweeps for job in sweep.points}
    jobs = [job for job in definition.jobs if not swept or job.id in swept]
    parameters = {job: sweep.points[job] for job, sweep in swept.items()} or _differing(store, jobs)
    wanted = objective or next((sweep.objective for sweep in sweeps), "")
    found = [_trial(store, job, parameters.get(job.id, {}), wanted) for job in jobs]
    chosen = direction or next((sweep.direction for sweep in sweeps), "maximize")
    sign = 1 if chosen == "minimize" else -1
    return sorted(found, key=lambda one: math.inf if one.objective is None else sign * one.objective)


def _trial(store: ExperimentStore, job: JobDefinition, parameters: Point, objective: str) -> Trial:
    progress = store.read_progress(job)
    numbers = _numbers(store, job) if progress.state is JobState.SUCCEEDED else {}
    value = numbers.get(objective or "result")
    if value is None and not objective and len(numbers) == 1:
        value = next(iter(numbers.values()))
    if value is None and objective and progress.state not in (JobState.FAILED, JobState.CANCELLED):
        value = _metric(store, job, objective)
    usable = value if value is not None and not math.isnan(value) else None
    return Trial(job.id, progress.state.name, parameters, numbers, usable)


def _metric(store: ExperimentStore, job: JobDefinition, name: str) -> float | None:
    from nemo_run.run.metrics import job_metrics

    found = job_metrics(store, job)
    return found[name].last if name in found else None


def _numbers(store: ExperimentStore, job: JobDefinition) -> dict[str, float]:
    """Return the numbers in what a job returned."""
    from nemo_run.run.results import job_document

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


def parameters_of(store: ExperimentStore, job: JobDefinition) -> Point:
    """Return the values in the configuration of a job, by their paths; for a group, those of its first member."""
    return dict(_leaves(store.read_task(job.tasks[0])["config"], ()))


def _differing(store: ExperimentStore, jobs: Iterable[JobDefinition]) -> dict[str, Point]:
    """Return the parameters in which the configurations of jobs differ, by the ids of the jobs."""
    flat = {}
    for job in jobs:
        try:
            flat[job.id] = parameters_of(store, job)
        except NemoRunError:
            flat[job.id] = {}
    paths = list(dict.fromkeys(path for leaves in flat.values() for path in leaves))
    differing = [path for path in paths if len({repr(leaves.get(path)) for leaves in flat.values()}) > 1]
    return {job: {path: leaves[path] for path in differing if path in leaves} for job, leaves in flat.items()}


def _leaves(document: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    from nemo_run.config.document import path_text
    from nemo_run.config.outline import Branch, outline

    part = outline(document)
    if isinstance(part, Branch):
        for step, inner in part.items.items():
            yield from _leaves(inner, (*path, step))
    else:
        yield path_text(path), part.value
