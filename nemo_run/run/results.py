"""What function tasks returned, and the exceptions that ended them, from the files that their runner left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.core.files import parse_json
from nemo_run.core.inside import read_inside
from nemo_run.core.runners.outcome import FOLDER, LARGEST_VALUE
from nemo_run.errors import Frame, ResultError, SerializationError, StoreError, TaskException
from nemo_run.run import artifacts
from nemo_run.run.records import JobDefinition, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore

_LARGEST_FILE = 2 * LARGEST_VALUE


def _read(folder: Path, name: str) -> bytes:
    """Read a file that a task left, and no other one, whatever links there are."""
    try:
        with read_inside(folder, name) as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as e:
        raise StoreError(f"{folder / name}: cannot be read: {e.strerror}") from e
    if len(content) > _LARGEST_FILE:
        raise StoreError(f"{folder / name}: larger than any result; it is not read")
    return content


def _read_json(folder: Path, name: str) -> Any:
    return parse_json(folder / name, _read(folder, name))


def exception(store: ExperimentStore, task: TaskDefinition, attempt: int) -> TaskException | None:
    """Return the exception that ended an attempt of a task: of all ranks, the first; ``None`` where there is none."""
    folder = artifacts.folder_of(store, task) / FOLDER
    found = []
    for path in sorted(folder.glob("exception*.json")) if folder.is_dir() else ():
        try:
            document = _read_json(folder, path.name)
            if document["attempt"] == attempt:
                found.append((float(document["time"]), _exception(document)))
        except (StoreError, TypeError, KeyError, ValueError, AttributeError, OverflowError):
            continue  # a damaged file says nothing
    return min(found, key=lambda one: one[0])[1] if found else None


def _exception(document: Mapping[str, Any]) -> TaskException:
    frames = tuple(
        Frame(str(one["file"]), int(one["line"] or 0), str(one["function"]), str(one["source"] or ""), bool(one["own"]))
        for one in document["frames"]
    )
    notes = tuple(map(str, document["notes"]))
    texts = {name: str(document[name]) for name in ("type", "module", "message", "traceback")}
    return TaskException(**texts, rank=int(document["rank"]), notes=notes, frames=frames)


def job_exception(store: ExperimentStore, job: JobDefinition, tasks: list[TaskProgress]) -> TaskException | None:
    """Return the exception of the first task of a job that failed and left one."""
    for task, progress in zip(job.tasks, tasks, strict=False):
        if progress.state is JobState.FAILED and (found := exception(store, task, progress.attempt or 1)):
            return found
    return None


def job_value(store: ExperimentStore, job: JobDefinition, *, unpickle: bool = False) -> Any:
    """Return what the task of a job returned; for a group, a list of what its members returned.

    Args:
        store: The experiment.
        job: The job, which has succeeded.
        unpickle: Read also what was stored as a pickle, which can run any code.

    Raises:
        ResultError: It was too large or could not be stored, or is a pickle and ``unpickle`` is not set.
        StoreError: Its file is damaged.
    """
    open_pickle = _unpickled if unpickle else _refused
    return _of_job(store, job, lambda task, path: _value(store, task, path, open_pickle), dict)


def job_document(store: ExperimentStore, job: JobDefinition) -> Any:
    """Return what stands for a job's value in JSON, as its task has left it; nothing of it is built.

    Raises:
        ResultError: It was too large or could not be stored, or is a pickle.
        StoreError: Its file is damaged.
    """

    def of_array(parts: dict[int, Any]) -> dict[str, Any]:
        return {"$": "dict", "items": [[number, part] for number, part in parts.items()]}

    return _of_job(store, job, lambda task, path: _plain(store, task, path), of_array)


def _of_job(
    store: ExperimentStore,
    job: JobDefinition,
    read: Callable[[TaskDefinition, Path], Any],
    of_array: Callable[[dict[int, Any]], Any],
) -> Any:
    """Read the file of every task of a job: of an array, one for each index; ``None`` where a task left none."""
    found = []
    for task in job.tasks:
        folder = artifacts.folder_of(store, task) / FOLDER
        if os.path.lexists(whole := folder / "value.json"):
            found.append(read(task, whole))
        else:
            parts = {number: read(task, path) for number, path in _values_of_array(folder)}
            found.append(of_array(parts) if parts else None)
    return found if job.group else found[0]


def _values_of_array(folder: Path) -> list[tuple[int, Path]]:
    """Return the files of the tasks of an array, by their indices."""
    found = [(path.name.split(".")[1], path) for path in folder.glob("value.*.json")] if folder.is_dir() else []
    return sorted((int(number), path) for number, path in found if number.isdecimal() and len(number) < 10)


_OpenPickle = Callable[[ExperimentStore, str, Path, str], Any]


def _document(task: TaskDefinition, path: Path) -> dict[str, Any]:
    document = _read_json(path.parent, path.name)
    if not isinstance(document, dict):
        raise StoreError(f"{path}: the file is damaged: it is no JSON object")
    if problem := document.get("problem"):
        raise ResultError(f"task {task.name!r}: {problem}")
    return document


def _value(store: ExperimentStore, task: TaskDefinition, path: Path, open_pickle: _OpenPickle) -> Any:
    from nemo_run.core import values

    document = _document(task, path)
    if document.get("is_pickled"):
        return open_pickle(store, task.name, path.with_suffix(".pkl"), str(document.get("type")))
    try:
        return values.decode(document.get("value"), may_import=store.is_ours)
    except SerializationError as e:
        raise StoreError(f"{path}: {e}") from e


def _plain(store: ExperimentStore, task: TaskDefinition, path: Path) -> Any:
    document = _document(task, path)
    if document.get("is_pickled"):
        _refused(store, task.name, path, str(document.get("type")))
    return document.get("value")


def _refused(_store: ExperimentStore, task: str, _path: Path, kind: str) -> Any:
    raise ResultError(
        f"task {task!r} returned a {kind}, which is no plain data and was stored as a pickle; reading one can run any "
        f'code: exp.result("{task}", unpickle=True)'
    )


def _unpickled(store: ExperimentStore, task: str, path: Path, kind: str) -> Any:
    import pickle

    store.must_be_ours("unpickled")
    try:
        return pickle.loads(_read(path.parent, path.name))  # noqa: S301  (of an own experiment, and asked for)
    except Exception as e:
        raise ResultError(f"{path}: the {kind} of task {task!r} cannot be read: {type(e).__name__}: {e}") from e


def results_document(store: ExperimentStore, jobs: Iterable[JobDefinition]) -> dict[str, dict[str, Any]]:
    """Return what is kept of the ends of jobs, by their ids, for programs: values as they are stored, and as text."""
    found = {}
    for job in jobs:
        progress = store.read_progress(job)
        one: dict[str, Any] = {"state": progress.state.name, "value": None, "shown": "", "problem": ""}
        if progress.state is JobState.SUCCEEDED:
            one |= _shown_value(store, job)
        error = job_exception(store, job, progress.tasks)
        found[job.id] = one | {"exception": asdict(error) if error else None}
    return found


def _shown_value(store: ExperimentStore, job: JobDefinition) -> dict[str, Any]:
    from nemo_run.core import values

    try:
        document = job_document(store, job)
        return {"value": document, "shown": repr(values.decode(document))}
    except (ResultError, StoreError, SerializationError) as e:
        return {"problem": str(e)}
    except (ValueError, RecursionError, MemoryError) as e:  # a number of a million digits, say
        return {"problem": f"its result cannot be shown: {e}"}
