"""Documents for the pages: plain data, read through ``run/`` from the files of experiments."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.inside import read_inside
from nemo_run.errors import NemoRunError
from nemo_run.run import artifacts, catalog
from nemo_run.run.compare import compare
from nemo_run.run.labels import read_labels
from nemo_run.run.metrics import Metric, job_metrics
from nemo_run.run.overview import Overview, experiment_document
from nemo_run.run.progress import current_progress, interruption
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskProgress
from nemo_run.run.results import results_document
from nemo_run.run.store import ExperimentStore
from nemo_run.run.sweep import read_sweeps, trials_of

Document = dict[str, Any]

MOST_POINTS = 2000
"""Points of one metric that a picture gets; of more, the smallest and the largest of each stretch are kept."""
_LARGEST_TEXT = 256 << 10  # bytes of an artifact that a page shows
_PROVENANCE = ("user", "host", "cwd", "argv", "python", "executable", "platform", "nemo_run", "rerun_of")
_CODE = ("root", "kind", "commit", "branch", "remote", "patch", "omitted")


def row(found: Overview) -> Document:
    """Return an experiment of the list."""
    document = dataclasses.asdict(found)
    del document["directory"]
    return document


def search_words(store: ExperimentStore) -> Document:
    """Return what an experiment is searched by, beside its line: who launched it, and the parameters of its jobs."""
    try:
        jobs = store.read_definition().jobs
        trials = trials_of(store, store.read_definition()) if jobs else []
        user = str(store.read_provenance().get("user", ""))
    except NemoRunError:
        return {"user": "", "parameters": [], "results": []}
    return {
        "user": user,
        "parameters": [plain(trial.parameters) for trial in trials[:50]],
        "results": [plain(trial.results) for trial in trials[:50]],
    }


def experiment(store: ExperimentStore) -> Document:
    """Return an experiment with all of its jobs; engines are asked for what no controller looks after."""
    if store.is_driven():
        return stored_experiment(store)
    definition = store.read_definition()
    return _experiment(store, definition, current_progress(store, definition))


def stored_experiment(store: ExperimentStore) -> Document:
    """Return an experiment with all of its jobs as they are stored."""
    definition = store.read_definition()
    return _experiment(store, definition, {job.id: _stored(store, job) for job in definition.jobs})


def _experiment(store: ExperimentStore, definition: Definition, progress: dict[str, JobProgress]) -> Document:
    document = experiment_document(store, definition, progress)
    labels = read_labels(store)
    jobs = [_job(job, progress[job.id], document["jobs"][job.id]) for job in definition.jobs]
    return {
        **{name: document[name] for name in ("id", "title", "state", "created", "received")},
        "ended": max((job["ended"] or 0.0 for job in jobs), default=0.0) or None,
        "hint": interruption(store, progress),
        "driven": store.is_driven(),
        "tags": list(labels.tags),
        "note": labels.note,
        "archived": labels.archived,
        "jobs": jobs,
        "stages": _stages(definition),
        "sweep": bool(_sweeps(store)),
    }


def _stored(store: ExperimentStore, job: JobDefinition) -> JobProgress:
    try:
        return store.read_progress(job)
    except NemoRunError as error:
        return JobProgress([TaskProgress(reason=str(error)) for _ in job.tasks])


def _sweeps(store: ExperimentStore) -> Sequence[Any]:
    try:
        return read_sweeps(store)
    except NemoRunError:
        return ()


def _job(job: JobDefinition, progress: JobProgress, status: Mapping[str, Any]) -> Document:
    shown = (
        "executor", "exit_code", "reason", "tries", "restarts", "cause",
        "expected", "started", "ended", "node", "handle",
    )  # fmt: skip
    return {
        "id": job.id,
        "state": status["status"],
        **{name: status[name] for name in shown},
        "after": list(job.dependencies),
        "waits_for": job.waits_for,
        "exception": _said(status.get("exception")),
        "tasks": [
            {"name": task.name, "executor": task.executor, "gpus": task.gpus, "attempts": _attempts(found)}
            for task, found in zip(job.tasks, progress.tasks, strict=False)
        ],
    }


def _said(exception: Mapping[str, Any] | None) -> str:
    return f"{exception['type']}: {exception['message']}" if exception else ""


def _attempts(task: TaskProgress) -> list[Document]:
    """Return the attempts of a task, the earliest first, as far as they are known."""
    last = {
        "attempt": task.attempt, "state": task.state.name, "exit_code": task.exit_code, "reason": task.reason,
        "submitted": task.submitted, "started": task.started, "ended": task.ended, "node": task.node,
        "handle": task.handle,
    }  # fmt: skip
    earlier = [{name: plain(entry.get(name)) for name in last} for entry in task.history]
    for number, entry in enumerate(earlier, 1):
        entry["attempt"] = entry["attempt"] or number
    return [*earlier, last] if task.handle or not earlier else earlier


def _stages(definition: Definition) -> list[list[Document]]:
    """Return the jobs in columns from left to right; many of the same kind as one node, with their ids.

    Jobs are of the same kind if they wait for the same jobs, and the same jobs wait for them.
    """
    after: dict[str, list[str]] = {job.id: [] for job in definition.jobs}
    for job in definition.jobs:
        for other in job.dependencies:
            after.setdefault(other, []).append(job.id)
    column: dict[str, int] = {}
    for job in definition.jobs:  # a job comes after its dependencies
        column[job.id] = 1 + max((column.get(other, -1) for other in job.dependencies), default=-1)
    kinds: dict[tuple[int, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for job in definition.jobs:
        kinds.setdefault((column[job.id], tuple(sorted(job.dependencies)), tuple(after[job.id])), []).append(job.id)
    stages: list[list[Document]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    for (place, dependencies, _), ids in kinds.items():
        alone = len(ids) < _FOLDED
        for one in [[job_id] for job_id in ids] if alone else [ids]:
            stages[place].append({"jobs": one, "after": list(dependencies)})
    return stages


_FOLDED = 5  # so many jobs of one kind are one node of the graph


def outcomes(store: ExperimentStore) -> Document:
    """Return results, exceptions and the last values of metrics of all jobs."""
    definition = store.read_definition()
    found = results_document(store, definition.jobs)
    for job in definition.jobs:
        numbers = {name: _of_metric(one) for name, one in job_metrics(store, job).items()}
        found[job.id]["metrics"] = numbers
    return plain(found)  # type: ignore[no-any-return]


def _of_metric(metric: Metric) -> Document:
    return {"last": metric.last, "min": metric.min, "max": metric.max, "steps": len(metric)}


def metrics(store: ExperimentStore, jobs: Iterable[str] = ()) -> Document:
    """Return the curves of metrics of jobs, thinned out where they have very many points."""
    definition = store.read_definition()
    chosen = [definition.job(name) for name in jobs] or definition.jobs
    return {
        job.id: {
            name: {**plain(_of_metric(one)), **_thinned(one)}
            for name, one in job_metrics(store, job).items()
        }
        for job in chosen
    }  # fmt: skip


def _thinned(metric: Metric) -> Document:
    steps, values = metric.steps, metric.values
    if len(steps) > MOST_POINTS:
        stretch = math.ceil(len(steps) / (MOST_POINTS // 2))
        kept: list[int] = []
        for start in range(0, len(steps), stretch):
            places = range(start, min(start + stretch, len(steps)))
            kept += sorted({min(places, key=lambda i: values[i]), max(places, key=lambda i: values[i])})
        steps, values = [steps[i] for i in kept], [values[i] for i in kept]
    return {"x": list(steps), "y": plain(list(values))}


def trials(store: ExperimentStore) -> Document:
    """Return the jobs with the parameters in which they differ, and what they led to, the best first."""
    definition, sweeps = store.read_definition(), _sweeps(store)
    return {
        "objective": next((sweep.objective for sweep in sweeps), "") or "result",
        "direction": next((sweep.direction for sweep in sweeps), "maximize"),
        "trials": [plain(dataclasses.asdict(trial)) for trial in trials_of(store, definition)],
    }


def provenance(store: ExperimentStore) -> Document:
    """Return who launched an experiment, where, and with which code; not the environment."""
    found = store.read_provenance()
    code = [one for one in found.get("code", []) if isinstance(one, dict)]
    return {
        **{name: plain(found[name]) for name in _PROVENANCE if found.get(name)},
        "code": [{name: plain(one[name]) for name in _CODE if one.get(name)} | _patch(store, one) for one in code],
        "directory": str(store.path),
    }


def _patch(store: ExperimentStore, code: Mapping[str, Any]) -> Document:
    """Return the changes that were not committed, where they are kept."""
    name = code.get("patch")
    if not isinstance(name, str):
        return {}
    try:
        with read_inside(store.path, name) as file:
            return {"diff": file.read(_LARGEST_TEXT).decode("utf-8", "replace")}
    except OSError:
        return {}


def configuration(store: ExperimentStore, job_id: str) -> list[Document]:
    """Return the configuration of every task of a job and of its executor; secrets are masked where it is stored."""
    job = store.read_definition().job(job_id)
    found = [store.read_task(task) for task in job.tasks]
    return [{"config": plain(one["config"]), "executor": plain(one["executor"])} for one in found]


def artifact_list(store: ExperimentStore, job_id: str | None = None) -> list[Document]:
    """Return the files that tasks left."""
    found = artifacts.listing(store, store.read_definition(), job_id)
    return [{"task": one.task, "path": one.path, "size": one.size, "modified": one.modified} for one in found]


def artifact_file(store: ExperimentStore, job_id: str, task: str, path: str) -> tuple[Path, str]:
    """Return the folder and the name of an artifact, to be opened with ``read_inside``.

    Raises:
        FileNotFoundError: The job has no such artifact.
    """
    job = store.read_definition().job(job_id)
    for one in artifacts.listing(store, store.read_definition(), job.id):
        if (one.task, one.path) == (task, path):
            folder = next(artifacts.folder_of(store, other) for other in job.tasks if other.name == task)
            return folder, path
    raise FileNotFoundError(f"job {job_id!r} has no artifact {path!r}")


def differences(ids: Sequence[str], base: str | None = None) -> list[Document]:
    """Return how each experiment is different from the first: configuration, code and environment."""
    stores = [catalog.find(one, base) for one in ids]
    return [
        {
            "id": other.id,
            "changes": [
                {"kind": change.kind, "path": change.path, "old": repr(change.old), "new": repr(change.new)}
                for change in compare(other, stores[0]).changes
            ],
        }
        for other in stores[1:]
    ]


def plain(value: Any) -> Any:
    """Return a value as JSON can tell it: what is not a finite number, a text, a list or an object becomes a text.

    >>> plain({"a": float("nan"), 1: (2, b"x")})
    {'a': 'nan', '1': [2, "b'x'"]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    return repr(value)


def dumps(document: Any) -> bytes:
    """Return a document as JSON; lone surrogates, as names of files may have, are escaped."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # a number that JSON does not have, from a file
        document = plain(document)
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def of_all(base: str | None = None) -> Iterator[ExperimentStore]:
    """Yield all experiments that were launched, the newest first."""
    yield from reversed(catalog.launched(base=base))
