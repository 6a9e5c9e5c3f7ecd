"""Making an experiment one's own that was received, after a look at what it would connect to and run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.files import parse_json, write_text
from nemo_run.core.masking import MASK, holds_secret, is_secret
from nemo_run.errors import ExperimentBusyError, ReceivedExperimentError, StoreError
from nemo_run.run.notifying import FILE as NOTIFICATIONS
from nemo_run.run.ownership import DEFINITION, content_of, digest
from nemo_run.run.records import Definition, JobProgress, TaskProgress
from nemo_run.run.rerun import renamed
from nemo_run.run.store import ExperimentStore
from nemo_run.run.trackers.tracking import FILE as TRACKERS

_MOVED = ("plan.json", "task.json")  # files of a task that name the experiment's folder


@dataclass(frozen=True)
class Adoption:
    """An experiment as it would be adopted.

    Attributes:
        store: Its files.
        definition: What it is.
        progress: How far it is, by its jobs.
        plans: What engines would be handed, by its tasks.
        files: Digests of the files that will be marked, by their paths.
        changes: New content of files that named the folder in which the experiment was launched.
    """

    store: ExperimentStore
    definition: Definition
    progress: Mapping[str, JobProgress]
    plans: Mapping[str, Plan]
    files: Mapping[str, str]
    changes: Mapping[str, bytes]


def prepare(store: ExperimentStore) -> Adoption:
    """Return what would be adopted. Nothing of it is asked, loaded or changed.

    Raises:
        ExperimentBusyError: A controller drives it.
        ReceivedExperimentError: Another user owns its folder.
        ForeignExperimentError: Another program made it.
        StoreError: A file is damaged, or a link.
    """
    store.must_be_of_this_program("adopted")
    store.ownership.must_be_own_folder()
    if store.is_driven():
        raise ExperimentBusyError(f"experiment {store.id!r} is being driven; adopt it when its controller has ended")
    definition = store.read_definition()
    files = store.ownership.survey(content_of(store.path / DEFINITION), definition.directories)
    origin, changes = _moved_here(store, definition, files)
    plans = {}
    for task in (task for job in definition.jobs for task in job.tasks):
        path = store.path / task.directory / "plan.json"
        content = changes.get(f"{task.directory}/plan.json") or _read(store, f"{task.directory}/plan.json", files)
        plans[task.name] = _plan(path, content)
        if plans[task.name].directory != str(path.parent):
            raise StoreError(f"{path}: is the plan for another folder: {plans[task.name].directory!r:.200}")
    progress = {job.id: store.read_progress(job) for job in definition.jobs}
    for state in (state for job in progress.values() for state in job.tasks):
        state.handle = _moved(state.handle, origin, store)
        for entry in state.history:
            entry["handle"] = _moved(entry["handle"], origin, store)
    return Adoption(store, definition, progress, plans, files, changes)


def _moved_here(
    store: ExperimentStore, definition: Definition, files: Mapping[str, str]
) -> tuple[str, dict[str, bytes]]:
    """Return the folder in which it was launched, and the files that name it, naming its folder here instead."""
    changes: dict[str, bytes] = {}
    origin = str(store.path)
    for directory in definition.directories:
        plan = _plan(store.path / directory / "plan.json", _read(store, f"{directory}/plan.json", files))
        origin = plan.directory.removesuffix(f"/{directory}")
        for path in (f"{directory}/{name}" for name in _MOVED):
            content = _read(store, path, files)
            moved = renamed(content.decode("utf-8", "surrogateescape"), {origin: str(store.path)})
            if (new := moved.encode("utf-8", "surrogateescape")) != content:
                changes[path] = new
    return origin, changes


def _moved(handle: str, origin: str, store: ExperimentStore) -> str:
    return handle.replace(f"{origin}/", f"{store.path}/", 1)


def _read(store: ExperimentStore, path: str, files: Mapping[str, str]) -> bytes:
    """Return the content of a file that was surveyed."""
    try:
        content = content_of(store.path / path)
    except FileNotFoundError:
        raise StoreError(f"{store.path / path}: there is no such file") from None
    if files.get(path) != digest(content):
        raise StoreError(f"{store.path / path}: is being changed")
    return content


def _plan(path: Path, content: bytes) -> Plan:
    try:
        plan = Plan.from_json(parse_json(path, content))
    except TypeError as e:
        raise StoreError(f"{path}: the file is damaged ({e})") from e
    texts, objects = (plan.engine, plan.job_id, plan.directory), (plan.spec, plan.connection)
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, dict) for one in objects):
        raise StoreError(f"{path}: the file is damaged: a value is of another type")
    return plan


# --- showing -------------------------------------------------------------------------------------------------------


def connections(adoption: Adoption) -> list[str]:
    """Return the engines that would be asked, each with its address, and each once."""
    return list(dict.fromkeys(f"{plan.engine} {_text(plan.connection)}".strip() for plan in adoption.plans.values()))


def description(adoption: Adoption) -> Iterator[str]:
    """Yield lines that say what the experiment would connect to, run and load. Secrets are masked in them."""
    for job in adoption.definition.jobs:
        for task, progress in zip(job.tasks, adoption.progress[job.id].tasks, strict=True):
            plan = adoption.plans[task.name]
            yield f"task {json.dumps(task.name)} on {json.dumps(plan.engine)}, {progress.state}"
            yield f"  connects to: {_text(plan.connection) or 'this machine'}"
            yield f"  attempt:     {json.dumps(progress.handle)}" if progress.handle else "  attempt:     none yet"
            yield from (f"  {line}" for line in f"runs:\n{_text(plan.spec, indent=1)}".splitlines())
    if tells := _stored(adoption, NOTIFICATIONS):
        yield f"at its end it tells: {json.dumps(tells)}"
    for tracker in _stored(adoption, TRACKERS) or []:
        yield f"forwards metrics to: {_text(tracker)}"
    if unseen := [path for path in adoption.files if _can_run_anything(path)]:
        yield f"and has files that are not shown, and can run anything: {', '.join(map(json.dumps, unseen))}"


def _can_run_anything(path: str) -> bool:
    """Check whether a file is a pickle, a script or a configuration, or is code."""
    inside = path.startswith(("code/", "packages/")) or "/scripts/" in path or "/configs/" in path
    return inside or path.endswith("main.pkl")


def _stored(adoption: Adoption, name: str) -> Any:
    """Return what is in a file of the experiment; nothing where there is no such file."""
    path = adoption.store.path / name
    return parse_json(path, _read(adoption.store, name, adoption.files)) if path.exists() else None


def _text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in which nothing reaches the terminal but printable ASCII characters."""
    return json.dumps(_masked(value), indent=indent) if value else ""


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked_entry(name, one) for name, one in value.items()}
    return [_masked(one) for one in value] if isinstance(value, list) else value


def _masked_entry(name: str, value: Any) -> Any:
    """Return a value of JSON by its name; one that is a secret as a whole, masked."""
    is_masked = holds_secret(name, value) if isinstance(value, str) else is_secret(name)
    return MASK if is_masked else _masked(value)


# --- doing ---------------------------------------------------------------------------------------------------------


def adopt(adoption: Adoption) -> None:
    """Mark the experiment, as it was shown, as this user's on this home.

    Raises:
        ReceivedExperimentError: A handle leads to something that is no attempt of its task.
    """
    store = adoption.store
    with Backends() as backends:
        for job in adoption.definition.jobs:
            for task, progress in zip(job.tasks, adoption.progress[job.id].tasks, strict=True):
                for attempt, handle in _attempts(progress):
                    _check_handle(backends, adoption.plans[task.name], attempt, handle)
    for path, content in adoption.changes.items():
        write_text(store.path / path, content)
    store.ownership.mark({**adoption.files, **{path: digest(content) for path, content in adoption.changes.items()}})
    for job in adoption.definition.jobs:
        if (store.path / job.directory / "state.json").exists():
            store.write_progress(job, adoption.progress[job.id])


def _attempts(progress: TaskProgress) -> Iterator[tuple[int, str]]:
    for entry in progress.history:
        yield entry["attempt"], entry["handle"]
    if progress.handle:
        yield progress.attempt, progress.handle


def _check_handle(backends: Backends, plan: Plan, attempt: int, handle: str) -> None:
    expected = backends.of(plan).expected_handle(plan, attempt)
    if not handle.startswith(f"{plan.engine}://") or (expected and handle != expected):
        raise ReceivedExperimentError(
            f"task {plan.job_id!r}: {handle!r:.300} is not the handle of its attempt {attempt} "
            f"({expected or 'unknown'}); nothing was adopted"
        )
