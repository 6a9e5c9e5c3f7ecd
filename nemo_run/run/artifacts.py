"""Files that tasks leave: collected when a task ends, listed with size and digest, copied out on demand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from nemo_run.core.execution.shared.leftovers import gathered
from nemo_run.core.files import folder_name, make_folder, read_json, write_json
from nemo_run.core.inside import copy_inside, files_inside, is_folder, read_inside
from nemo_run.core.packaging.archive import leads_out
from nemo_run.core.runners.outcome import FOLDER
from nemo_run.core.storage import Put, address_of, opened
from nemo_run.errors import ExperimentError, StoreError
from nemo_run.run.records import Definition, TaskDefinition, check_types
from nemo_run.run.store import ExperimentStore

_BLOCK = 1 << 20
_PATIENCE = 3  # files that a storage refuses, one after the other, before the rest is not tried


@dataclass(frozen=True)
class Artifact:
    """One file that a task left.

    Attributes:
        task: The task.
        path: Path of the file below the task's folder of artifacts.
        size: Its size in bytes.
        sha256: Digest of its content, in hexadecimal.
        modified: When it was written last, in seconds since the epoch.
        file: Where it is.
        copy: Address of its copy in the storage of ``artifacts_to``; empty where there is none.
    """

    task: str
    path: str
    size: int
    sha256: str
    modified: float
    file: str
    copy: str = ""


def folder_of(store: ExperimentStore, task: TaskDefinition) -> Path:
    """Return the folder in which a task's artifacts are kept."""
    return store.inside(task.directory) / "artifacts"


def anything_left(store: ExperimentStore, task: TaskDefinition) -> bool:
    """Check quickly whether a task that has ended here may have left artifacts."""
    folder = folder_of(store, task)
    return bool(task.artifacts) or (is_folder(folder) and any(folder.iterdir()))


def collect(store: ExperimentStore, task: TaskDefinition, fetch: Callable[[Path], None]) -> None:
    """Bring a task's artifacts into the store and write their manifest. May be done again.

    Args:
        store: The experiment.
        task: The task.
        fetch: Brings into a folder what the task left elsewhere.
    """
    folder = folder_of(store, task)
    with gathered() as left:
        try:
            fetch(folder)
        finally:  # some of it may be there
            found = list(_scan(task, folder))
            if found:
                write_json(_manifest(store, task), [asdict(artifact) for artifact in found])
            if found and task.artifacts_to:
                copies, refused = copied_elsewhere(found, address_of(task.artifacts_to, store.id))
                write_json(_manifest(store, task), [asdict(artifact) for artifact in copies])
                left.update(refused)


def take_over(old: ExperimentStore, source: TaskDefinition, new: ExperimentStore, target: TaskDefinition) -> None:
    """Give a task of a new experiment the artifacts of one of an old one: links to the same files, where possible.

    Symbolic links are left out, and none is followed.
    """
    before, after = folder_of(old, source), folder_of(new, target)
    for name, fd in files_inside(before):
        with os.fdopen(fd, "rb"):
            _take_over(before / name, fd, after, name)
    manifest = f"{source.directory}/artifacts.json"
    try:
        with read_inside(old.path, manifest) as file:
            copy_inside(file.fileno(), new.path, f"{target.directory}/artifacts.json")
    except FileNotFoundError:
        pass
    except OSError as e:
        raise StoreError(f"{old.path / manifest}: cannot be copied: {e.strerror}") from e


def _take_over(source: Path, fd: int, folder: Path, name: str) -> None:
    """Let a file be in another folder, too; a copy of what was opened where that cannot be, or is not that file."""
    copy = folder / name
    make_folder(copy.parent)
    try:
        os.link(source, copy, follow_symlinks=False)
        if os.path.samestat(copy.lstat(), os.fstat(fd)):
            return
    except OSError:
        pass
    copy_inside(fd, folder, name)


def copied_elsewhere(found: list[Artifact], address: str) -> tuple[list[Artifact], dict[str, str]]:
    """Copy artifacts to a storage; return them with the addresses of their copies, and why others have none.

    After a few that could not be copied, one after the other, the rest is not tried.
    """
    put = opened(address)
    copies: list[Artifact] = []
    refused: dict[str, str] = {}
    failures = 0
    for artifact in found:
        name = address_of(folder_name(artifact.task) if leads_out(artifact.task) else artifact.task, artifact.path)
        why = _copy(put, artifact, name) if failures < _PATIENCE else "as the others"
        failures = failures + 1 if why else 0
        if why:
            refused[artifact.path] = f"not copied to {address}: {why}"
        copies.append(artifact if why else replace(artifact, copy=address_of(address, name)))
    return copies, refused


def _copy(put: Put, artifact: Artifact, name: str) -> str:
    """Copy an artifact; return why it was not copied, empty if it was."""
    try:
        with read_inside(*_place(artifact)) as file:
            put(file, name)
    except Exception as e:  # noqa: BLE001  (storages raise errors of many packages)
        words = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
        return " ".join(words.split())[:200] or type(e).__name__
    return ""


def listing(store: ExperimentStore, definition: Definition, job_id: str | None = None) -> list[Artifact]:
    """Return the artifacts of an experiment, or of one job: from the manifests, or as they are while a task runs."""
    jobs = definition.jobs if job_id is None else [definition.job(job_id)]
    found: list[Artifact] = []
    for task in (task for job in jobs for task in job.tasks):
        folder = folder_of(store, task)
        try:
            found += [_listed(task, folder, entry) for entry in read_json(_manifest(store, task))]
        except FileNotFoundError:
            found += _scan(task, folder)
        except (TypeError, KeyError) as e:
            raise StoreError(f"{_manifest(store, task)}: the file is damaged ({e!r})") from e
    return found


def _listed(task: TaskDefinition, folder: Path, entry: dict[str, Any]) -> Artifact:
    """Return an artifact of a manifest. Where it is says the experiment's folder, which may have been moved."""
    artifact = Artifact(**{**entry, "task": task.name, "file": str(folder / entry["path"])})
    check_types(artifact)
    return artifact


def copy_out(artifacts: list[Artifact], target: Path) -> list[Path]:
    """Copy artifacts to ``target/<task>/<path>`` and check their digests; the copies.

    Raises:
        ExperimentError: A file is not what its manifest says, or would be written outside of the target.
    """
    copies = [_inside(target, artifact) for artifact in artifacts]  # all or none
    real = Path(os.path.realpath(target))
    for artifact, copy in zip(artifacts, copies, strict=True):
        try:
            with read_inside(*_place(artifact)) as source:
                copy_inside(source.fileno(), real, copy.relative_to(target))
            with read_inside(real, copy.relative_to(target)) as copied:
                changed = _digest(copied) != artifact.sha256
        except FileNotFoundError:
            raise ExperimentError(f"{artifact.file}: listed as an artifact, but no longer there") from None
        except OSError as e:
            raise ExperimentError(f"{e.filename or artifact.file}: cannot be copied: {e.strerror}") from e
        if changed:
            raise ExperimentError(f"{artifact.file}: changed since it was collected; the copy is in {copy}")
    return copies


def _place(artifact: Artifact) -> tuple[Path, str]:
    """Return the folder of artifacts that an artifact is in, and its path below that."""
    return Path(artifact.file).parents[len(Path(artifact.path).parts) - 1], artifact.path


def _inside(target: Path, artifact: Artifact) -> Path:
    """Return where a copy of an artifact goes: below the target. Neither it nor the file is behind a link."""
    name = artifact.path
    if leads_out(name):
        raise ExperimentError(
            f"artifact {name!r} of task {artifact.task!r} would be copied outside of {target}; nothing was copied: "
            "the experiment's files are damaged, or not to be trusted"
        )
    task = folder_name(artifact.task) if leads_out(artifact.task) else artifact.task
    for top, below in ((target, Path(task, name)), (_place(artifact)[0], Path(name))):
        for path in (top / part for part in (below, *below.parents) if part != Path()):
            if path.is_symlink():
                raise ExperimentError(f"{path}: is a link, through which no artifact is copied; nothing was copied")
    return target / task / name


def _manifest(store: ExperimentStore, task: TaskDefinition) -> Path:
    return store.path / task.directory / "artifacts.json"


def _scan(task: TaskDefinition, folder: Path) -> Iterator[Artifact]:
    for name, fd in files_inside(folder):
        with os.fdopen(fd, "rb") as file:
            if name.startswith(f"{FOLDER}/"):  # what the runner leaves
                continue
            found = os.fstat(fd)
            yield Artifact(task.name, name, found.st_size, _digest(file), found.st_mtime, str(folder / name))


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
