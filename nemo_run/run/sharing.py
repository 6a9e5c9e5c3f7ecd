"""One file with an experiment, to give to a colleague; and the experiment that somebody got as such a file.

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
from nemo_run.core.packaging.archive import Entry, opened, unpack, write_archive
from nemo_run.errors import ExperimentError, NemoRunError, StoreError
from nemo_run.run import catalog
from nemo_run.run.records import Definition, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore

_OF_EXPERIMENT = ("experiment.json", "provenance.json", "summary.json", "sweeps.json", "labels.json")
_OF_TASK = ("artifacts.json",)
_BLOCK = 1 << 20
_BLOCK_OF_DISK = 4096
_LEAST, _MOST_TIMES = 1 << 30, 100  # bytes that any archive may take, and how many times its own size more


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


def receive(file: Path, base: str | None = None) -> ExperimentStore:
    """Put an experiment that :func:`export` has written among those of this home; it is looked at, and not acted on.

    Args:
        file: The file.
        base: Folder in place of the NeMo-Run home.

    Raises:
        ExperimentError: It is no experiment, or one with its id is there already.
        PackagingError: It is damaged, or would write outside of its folder.
    """
    root = catalog.experiments_root(base)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=root.parent) as scratch:
        _unpack(file, Path(scratch))
        folders = [path for path in Path(scratch).iterdir() if path.is_dir()]
        if len(folders) != 1:
            raise ExperimentError(f"{file}: is no experiment; write one with: nemorun experiment export ID FILE")
        definition = ExperimentStore(folders[0]).read_definition()
        if definition.id != folders[0].name:
            raise ExperimentError(f"{file}: says that it is {definition.id!r}, and has {folders[0].name!r}")
        return _placed(folders[0], definition, file, base)


def _unpack(file: Path, folder: Path) -> None:
    """Unpack an archive that anybody may have made: no links, and no more than such a file can have.

    Raises:
        ExperimentError: It cannot be unpacked, or is refused.
    """
    try:
        if not file.is_file():
            raise ExperimentError(f"{file}: there is no such file")
        most, found = _LEAST + _MOST_TIMES * file.stat().st_size, 0
        with opened(file) as tar:
            for member in tar:
                found += member.size + _BLOCK_OF_DISK
                if member.issym() or member.islnk():
                    raise ExperimentError(f"{file}: {member.name!r} is a link, which export never writes")
                if found > most:
                    raise ExperimentError(
                        f"{file}: would take more than {most >> 20} MiB, which is too much for an archive of its size; "
                        f"where you trust it, unpack it with tar below {catalog.experiments_root()}/TITLE"
                    )
        with opened(file) as tar:
            unpack(tar, folder, file)
    except NemoRunError:
        raise
    except (OSError, ValueError, OverflowError, MemoryError, RecursionError) as e:
        raise ExperimentError(f"{file}: cannot be unpacked: {e}") from e


def _placed(folder: Path, definition: Definition, file: Path, base: str | None) -> ExperimentStore:
    target = catalog.planned(definition.title, base, definition.id)
    if target.exists() or definition.id in catalog.ids(base=base):
        raise ExperimentError(f"{file}: experiment {definition.id!r} is here already; nothing was changed")
    for name in ("mark.json", "controller.lock"):  # an archive of somebody else's making
        (folder / name).unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.rename(target)
    return ExperimentStore(target)
