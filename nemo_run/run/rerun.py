"""Running a past experiment again under a new id, with its configuration and the code that was recorded.

Nothing is loaded or imported for it.  What was stored is copied; what names the old experiment names the new one, and
what names code leads to the recorded code.  Tasks run in the same folder, so that they find the same data.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_run.core import files
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.core.execution.shared.relocation import moved
from nemo_run.core.inside import copy_inside, read_inside
from nemo_run.errors import ExperimentError, StoreError
from nemo_run.run import artifacts, catalog, code
from nemo_run.run.notifying import read_notifications, write_notifications
from nemo_run.run.provenance import collect
from nemo_run.run.records import Definition, JobProgress, TaskProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.sweep import sweeps_to_run, write_sweeps
from nemo_run.run.trackers.tracking import read_trackings, write_trackings

_COPIES = ("main.pkl", "scripts")


def copy_for_rerun(old: ExperimentStore, base: str | None = None) -> ExperimentStore:
    """Return a new experiment that is ready to be driven and does what the old one did.

    Args:
        old: The experiment to run again.
        base: Folder in place of the NeMo-Run home.

    Raises:
        PackagingError: The recorded code is no longer there.
    """
    old.must_be_ours("run again")
    old.must_be_as_launched()
    definition = old.read_definition()
    if not definition.jobs:
        raise ExperimentError(f"experiment {old.id!r} has no jobs to run again")
    new = catalog.create(definition.title, base)
    try:
        provenance = old.read_provenance()
        places = _bring_code(old, new, provenance)
        files.write_text(new.path / "environment.json", (old.path / "environment.json").read_text())
        _copy_marked(old, new, "packages")
        with Backends() as backends:
            for task in (task for job in definition.jobs for task in job.tasks):
                _copy_task(old, new, task.directory, places, backends)
        new.write_provenance({**collect(), "code": provenance.get("code", []), "rerun_of": old.id})
        write_sweeps(new, sweeps_to_run(old))
        write_notifications(new, read_notifications(old))
        write_trackings(new, read_trackings(old))
        new.write_definition(dataclasses.replace(definition, id=new.id, created=time.time()))
    except BaseException:
        new.delete()
        raise
    return new


def _bring_code(old: ExperimentStore, new: ExperimentStore, provenance: dict[str, Any]) -> dict[str, str]:
    """Bring the recorded code into the new experiment; where each place went."""
    places = {}
    for index, entry in enumerate(provenance.get("code", [])):
        folder = new.path / "code" / str(index)
        code.restore(old, entry, folder)
        places[entry["root"]] = str(folder)
        for kept in ("patch", "archive"):  # so that the copy can be run again, too
            if entry.get(kept):
                _copy(old, new, entry[kept])
    return places


def _copy_task(
    old: ExperimentStore, new: ExperimentStore, directory: str, places: dict[str, str], backends: Backends
) -> None:
    source, target = old.path / directory, new.folder(directory)
    names = {str(old.path): str(new.path), old.id: new.id}
    task = json.loads(renamed((source / "task.json").read_text(), names))
    task["sys_path"] = [moved(path, places) for path in task["sys_path"]]
    files.write_json(target / "task.json", task)
    plan = Plan.from_json(json.loads(renamed((source / "plan.json").read_text(), names)))
    files.write_json(target / "plan.json", backends.of(plan).relocated(plan, places).to_json())
    for name in _COPIES:
        _copy_marked(old, new, f"{directory}/{name}")
    files.make_folder(target / "artifacts")


def done_before(store: ExperimentStore, definition: Definition, progress: Mapping[str, JobProgress]) -> list[str]:
    """Return the jobs that have succeeded, and need not be run again: nothing that they depend on is.

    Raises:
        ExperimentError: The experiment has not ended, or every job has succeeded.
    """
    if not all(job.state.is_final for job in progress.values()):
        raise ExperimentError(
            f"experiment {store.id!r} has not ended; follow it: nemorun experiment attach {store.id}, or go on: "
            f"nemorun experiment resume {store.id}"
        )
    done: dict[str, None] = {}
    for job in definition.jobs:
        if progress[job.id].state is JobState.SUCCEEDED and done.keys() >= set(job.dependencies):
            done[job.id] = None
    if len(done) == len(definition.jobs):
        raise ExperimentError(f"every job of experiment {store.id!r} has succeeded: there is nothing to run again")
    return list(done)


def check_code_of_today(store: ExperimentStore, definition: Definition) -> None:
    """Check that no task is a function of a launching script, which is stored as it was.

    Raises:
        ExperimentError: One is.
    """
    for task in (task for job in definition.jobs for task in job.tasks):
        if "main" in store.read_task(task):
            raise ExperimentError(
                f"task {task.name!r} is a function of the launching script itself, which was stored as it was on that "
                "day; run that script again, or put the function into a module"
            )


def take_over(old: ExperimentStore, new: ExperimentStore, jobs: Sequence[str]) -> None:
    """Let jobs of a new experiment be done, as they are in the old one: with their results and artifacts."""
    if not jobs:
        return
    before, after = old.read_definition(), new.read_definition()
    for name in jobs:
        source, target = before.job(name), after.job(name)
        progress = old.read_progress(source)
        reason = f"as in {old.id}"
        tasks = [
            TaskProgress(JobState.SUCCEEDED, exit_code=0, reason=reason, started=t.started, ended=t.ended, node=t.node)
            for t in progress.tasks
        ]
        for one, other in zip(source.tasks, target.tasks, strict=True):
            artifacts.take_over(old, one, new, other)
        new.write_progress(target, JobProgress(tasks))


def _copy_marked(old: ExperimentStore, new: ExperimentStore, place: str) -> None:
    """Copy the files of a folder that were launched, and nothing that was put there since; no link is followed."""
    for path in old.ownership.marked_below(place):
        _copy(old, new, path)


def _copy(old: ExperimentStore, new: ExperimentStore, path: str) -> None:
    try:
        with read_inside(old.path, path) as source:
            copy_inside(source.fileno(), new.path, path)
    except OSError as e:
        raise StoreError(f"{old.path / path}: cannot be copied: {e.strerror}") from e


def renamed(text: str, names: dict[str, str]) -> str:
    """Return a JSON text in which every path and name that is a key of ``names``, as a whole, is its value instead."""
    quoted = {json.dumps(key, ensure_ascii=False)[1:-1]: value for key, value in names.items()}
    keys = sorted(quoted, key=len, reverse=True)
    pattern = rf"(?<![\w.-])({'|'.join(map(re.escape, keys))})(?![\w.-])"
    return re.sub(pattern, lambda match: json.dumps(quoted[match[1]], ensure_ascii=False)[1:-1], text)
