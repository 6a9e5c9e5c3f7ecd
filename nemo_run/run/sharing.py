"""One file with an experiment, to give to a colleague; see :mod:`nemo_run.run.receiving` for the other end.

It has what can be looked at: definition, configurations, states, logs, results, metrics, artifacts, recorded code. It
has nothing that acts: no plans, no environment, no pickled code, so no credentials that these hold.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from nemo_run.core.execution.backends import Backends
from nemo_run.core.inside import files_inside
from nemo_run.core.masking import MASK, is_secret, masked_arguments
from nemo_run.core.packaging.archive import Entry, write_archive
from nemo_run.errors import NemoRunError, StoreError
from nemo_run.run.records import Definition, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore

_OF_EXPERIMENT = ("experiment.json", "provenance.json", "summary.json", "sweeps.json", "labels.json")
_OF_TASK = ("artifacts.json",)
_BLOCK = 1 << 20


def export(store: ExperimentStore, file: Path) -> list[str]:
    """Write an experiment to a file, with the logs that its engines have.

    Args:
        store: The experiment.
        file: The file, a gzipped tar archive; it is replaced.

    Returns:
        What could not be brought, in words.

    Raises:
        StoreError: The file cannot be written, or the experiment is damaged.
    """
    definition, lacking = store.read_definition(), list[str]()
    with tempfile.TemporaryDirectory(prefix="nemo-run-") as scratch:
        try:
            write_archive(_entries(store, definition, Path(scratch), lacking), file)
        except OSError as e:
            raise StoreError(f"{file}: cannot be written: {e.strerror}") from e
    return lacking


def _entries(store: ExperimentStore, definition: Definition, scratch: Path, lacking: list[str]) -> Iterator[Entry]:
    yield from _files(store.path, store.id, lambda name: name in _OF_EXPERIMENT or name.startswith("code/"))
    with Backends() as backends:
        for job in definition.jobs:
            inside, progress = f"{store.id}/{job.directory}", store.read_progress(job)
            yield from _files(store.path / job.directory, inside, lambda name: name == "state.json")
            for task, now in zip(job.tasks, progress.tasks, strict=False):
                config = json.dumps(without_secrets(store.read_task(task)), indent=1)
                yield Entry.file(f"{store.id}/{task.directory}/task.json", config.encode("utf-8", "backslashreplace"))
                has_log = False
                for entry in _files(store.path / task.directory, f"{store.id}/{task.directory}", _is_shared):
                    has_log = has_log or entry.name.endswith("/log")
                    yield entry
                if now.handle and not has_log:
                    yield from _log(store, task, now, backends, scratch, lacking)


def _log(
    store: ExperimentStore,
    task: TaskDefinition,
    progress: TaskProgress,
    backends: Backends,
    scratch: Path,
    lacking: list[str],
) -> Iterator[Entry]:
    """Yield the log of a task that its engine has."""
    try:
        log = _fetched(store, task, progress, backends, scratch)
    except NemoRunError as e:
        lacking.append(f"the log of {task.name}: {e}")
        return
    with log.open("rb") as file:
        yield _entry(f"{store.id}/{task.directory}/attempts/{progress.attempt or 1}/log", file)


def without_secrets(document: Any) -> Any:
    """Return a configuration without what may be a secret: values of such names, and of such options."""
    if isinstance(document, list):
        if all(isinstance(part, str) for part in document):
            return masked_arguments(document)
        return [without_secrets(part) for part in document]
    if isinstance(document, dict):
        return {
            name: MASK if is_secret(name) and isinstance(part, str) and part else without_secrets(part)
            for name, part in document.items()
        }
    return document


def _is_shared(name: str) -> bool:
    parts = name.split("/")
    if parts[0] == "attempts":
        return len(parts) > 2 and parts[2].startswith("log")
    return name in _OF_TASK or parts[0] == "artifacts"


def _files(folder: Path, inside: str, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    for name, fd in files_inside(folder):
        with os.fdopen(fd, "rb") as file:
            if wanted(name):
                yield _entry(f"{inside}/{name}", file)


def _entry(name: str, file: IO[bytes]) -> Entry:
    size = os.fstat(file.fileno()).st_size
    return Entry(name, _pieces(file, size), size)


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes of a file, which may grow or shrink meanwhile."""
    while size > 0:
        piece = file.read(min(_BLOCK, size)) or bytes(min(_BLOCK, size))
        size -= len(piece)
        yield piece


def _fetched(
    store: ExperimentStore, task: TaskDefinition, progress: TaskProgress, backends: Backends, scratch: Path
) -> Path:
    """Return a file with the log of a task that its engine has."""
    reader = store.kept_log(task, progress.handle, None, None)
    if reader is None:
        reader = backends.of(store.read_plan(task)).open_log(progress.handle)
    target = scratch / "log"
    with target.open("wb") as file:
        while piece := reader.read():
            file.write(piece)
    reader.close()
    return target
