"""Sweeps: one task tried with many values, and the comparison of what came out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from nemo_run.core import values
from nemo_run.core.files import read_json, read_object, write_json
from nemo_run.core.runners.outputs import FILE as INPUTS, SUGGESTED, suggested
from nemo_run.errors import NemoRunError, StoreError, SweepError
from nemo_run.run.inputs import output, suggestion
from nemo_run.run.objective import numbers_of, objective_of
from nemo_run.run.records import Definition, JobDefinition
from nemo_run.run.space import Point, Sampler, points, spaces_of
from nemo_run.run.store import ExperimentStore
from nemo_run.run.study import StudyPlan, chosen_sampler, read_studies, write_studies

if TYPE_CHECKING:
    import fiddle as fdl

Direction = Literal["maximize", "minimize"]
_FILE = "sweeps.json"
_LONGEST_NAME = 60
_SUGGESTED = f"{suggested.__module__}.{suggested.__qualname__}"


@dataclass
class Sweep:
    """One task, tried with many values.

    Attributes:
        name: Its name.
        objective: The part of a task's result that is compared; empty for the result itself.
        direction: Whether larger or smaller values are better.
        points: The values that each job tries, by the job's id and the path of the parameter; of an adaptive sweep,
            they are known when the job has started.
        study: How an adaptive sweep chooses.
    """

    name: str
    objective: str = ""
    direction: Direction = "maximize"
    points: dict[str, Point] = field(default_factory=dict)
    study: StudyPlan | None = None

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


def study_plan(
    name: str, sweep: Sweep, space: Any, *, sampler: Any, pruner: Any, max_parallel: int, seed: int
) -> StudyPlan:
    """Return how an adaptive sweep chooses.

    Raises:
        SweepError: The sampler or the pruner is not Optuna's, or something does not fit.
        MissingExtraError: Optuna is not installed.
    """
    sampler = chosen_sampler(sampler, pruner, seed)
    if not isinstance(space, Mapping):
        raise SweepError("a sampler of Optuna needs spaces by the paths of parameters, not a list of points")
    if pruner is not None and not sweep.objective:
        raise SweepError("a pruner needs objective=...: the metric that tasks log")
    if not isinstance(max_parallel, int) or max_parallel < 1:
        raise SweepError(f"max_parallel={max_parallel!r}, but at least one trial must run")
    return StudyPlan(name, sweep.objective, sweep.direction, spaces_of(space), sampler, pruner, max_parallel)


def check_trials(trials: int | None) -> int:
    """Return the number of trials.

    Raises:
        SweepError: There is none.
    """
    if trials is None or trials < 1:
        raise SweepError(f"a sampler of Optuna needs the number of its trials, such as trials=50, not {trials}")
    return trials


def plan_trials(task: fdl.Buildable[Any], plan: StudyPlan, trials: int) -> Iterator[tuple[str, Any]]:
    """Yield a name and a task for every trial of an adaptive sweep; its values are chosen when it starts.

    Raises:
        SweepError: The task has no value for a parameter that is not always chosen.
    """
    from nemo_run.config.paths import get_value, set_value

    changed = task.clone()
    for path, space in plan.spaces.items():
        default = None
        if space.when:
            try:
                default = get_value(changed, path)
            except NemoRunError as e:
                raise SweepError(f"{path!r} needs a value for the trials where it is not chosen: {e}") from e
        set_value(changed, path, suggestion(path, default))
    for number in range(trials):
        yield f"{plan.name}-{number}", changed.clone()


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
    sweeps = list(sweeps)
    if documents := [_document(sweep) for sweep in sweeps]:
        write_json(store.path / _FILE, documents)
    write_studies(store, (sweep.study for sweep in sweeps if sweep.study))


def _document(sweep: Sweep) -> dict[str, Any]:
    return {
        "name": sweep.name,
        "objective": sweep.objective,
        "direction": sweep.direction,
        "points": _encoded(sweep.points),
    }


def _encoded(found: Mapping[str, Point]) -> dict[str, Any]:
    return {job: {path: _plain(value) for path, value in point.items()} for job, point in found.items()}


def _plain(value: Any) -> Any:
    try:
        return values.encode(value)
    except NemoRunError:
        return repr(value)


def read_sweeps(store: ExperimentStore) -> list[Sweep]:
    """Return what was swept; of adaptive sweeps, without the way in which they choose.

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


def sweeps_to_run(store: ExperimentStore) -> list[Sweep]:
    """Return what was swept in an experiment of our own, to run it again.

    Raises:
        ReceivedExperimentError: The experiment is not ours, or a file is not the one that was stored.
    """
    studies = {tuple(plan.jobs): plan for plan in read_studies(store)}
    return [replace(sweep, study=studies.get(tuple(sweep.points))) for sweep in read_sweeps(store)]


def chosen_points(store: ExperimentStore, jobs: Iterable[JobDefinition]) -> dict[str, Point]:
    """Return the values that an adaptive sweep has chosen for jobs, as far as they have started."""
    found = {}
    for job in jobs:
        document = read_object(store.inside(job.tasks[0].directory) / INPUTS) or {}
        if SUGGESTED in document:
            try:
                found[job.id] = {str(path): value for path, value in values.decode(document[SUGGESTED]).items()}
            except (NemoRunError, AttributeError):
                continue  # a damaged file says nothing
    return found


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
    parameters = _tried(store, jobs, swept)
    wanted = objective or next((sweep.objective for sweep in sweeps), "")
    found = [_trial(store, job, parameters.get(job.id, {}), wanted) for job in jobs]
    chosen = direction or next((sweep.direction for sweep in sweeps), "maximize")
    sign = 1 if chosen == "minimize" else -1
    return sorted(found, key=lambda one: math.inf if one.objective is None else sign * one.objective)


def _tried(store: ExperimentStore, jobs: Sequence[JobDefinition], swept: Mapping[str, Sweep]) -> dict[str, Point]:
    """Return the parameters in which jobs differ, by their ids."""
    if not swept:
        return _differing(store, jobs)
    planned = {job: sweep.points[job] for job, sweep in swept.items()}
    return planned | chosen_points(store, [job for job in jobs if not planned[job.id]])


def _trial(store: ExperimentStore, job: JobDefinition, parameters: Point, objective: str) -> Trial:
    progress = store.read_progress(job)
    numbers = numbers_of(store, job, progress)
    value = objective_of(store, job, progress, objective, numbers)
    return Trial(job.id, progress.state.name, parameters, numbers, value)


def configuration_of(store: ExperimentStore, job: JobDefinition, member: int = 0) -> Any:
    """Return the configuration of a job as a document, with the values that a sweep has chosen for it."""
    chosen = chosen_points(store, [job]).get(job.id, {})
    return _with_chosen(store.read_task(job.tasks[member])["config"], chosen)


def _with_chosen(document: Any, chosen: Point) -> Any:
    if isinstance(document, list):
        return [_with_chosen(item, chosen) for item in document]
    if not isinstance(document, dict):
        return document
    path = document.get("path")
    if document.get("_target_") == _SUGGESTED and chosen and isinstance(path, str):
        return chosen.get(path, document.get("default"))
    return {name: _with_chosen(item, chosen) for name, item in document.items()}


def parameters_of(store: ExperimentStore, job: JobDefinition) -> Point:
    """Return the values in the configuration of a job, by their paths; for a group, those of its first member."""
    return values_by_path(configuration_of(store, job))


def values_by_path(configuration: Any) -> Point:
    """Return the values in the document of a configuration, by their paths."""
    return dict(_leaves(configuration, ()))


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
