"""Which code an experiment ran: recorded at its launch, and brought back when it is run again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import re
import site
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.shared import environments
from nemo_run.core.files import make_folder, write_text
from nemo_run.errors import PackagingError
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from nemo_run.core.packaging.provenance import CodeVersion

logger = logging.getLogger(__name__)

_MOST_FILES, _MOST_BYTES = 2000, 20 << 20  # a snapshot of code outside of git is no backup of a home folder


class Packages:
    """Packages the code for the executors of one experiment, once for every packager."""

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._archives: dict[str, str] = {}
        self._environments: dict[tuple[str, str, str], environments.Environment] = {}

    def archive(self, executor: Executor) -> str:
        """Return the path of the archive that the executor's packager makes; empty where it ships no code.

        Raises:
            PackagingError: The code cannot be packaged.
        """
        from nemo_run.core.packaging.base import Packager

        packager = executor.packager
        if type(packager) is Packager:
            return ""
        key = repr(packager)
        if key not in self._archives:
            folder = make_folder(self._store.path / "packages")
            self._archives[key] = packager.package(Path.cwd(), str(folder), f"code-{len(self._archives)}")
        return self._archives[key]

    def environment(self, executor: Executor, archive: str) -> environments.Environment | None:
        """Return what a task depends on whose code is in an archive; ``None`` where it is to have no environment.

        Raises:
            ExecutorError: That cannot be told.
        """
        if not executor.environment:
            return None
        key = (executor.environment, executor.wheels, archive)
        if key not in self._environments:
            self._environments[key] = environments.find(*key, Path.cwd())
        return self._environments[key]


def own_paths() -> list[str]:
    """Return the folders beyond those of its installation from which this process imports."""
    installed = _installation()
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  # without the ".." of `python ../launch.py`
    return [path for path in dict.fromkeys(paths) if path not in installed and Path(path).is_dir()]


@functools.cache
def _installation() -> frozenset[str]:
    """Return the folders from which any program of this interpreter imports."""
    folders = {os.path.dirname(os.__file__), *site.getsitepackages()}  # noqa: PTH120  # sysconfig loads all of a Makefile
    return frozenset({*folders, *(f"{folder}/lib-dynload" for folder in folders)})


def installed_packages() -> dict[str, str]:
    """Return the name and version of every installed distribution, as far as the names of its metadata folders tell."""
    found: dict[str, str] = {}
    for path in filter(os.path.isdir, sys.path):
        for name in os.listdir(path):  # noqa: PTH208  # thousands of names, in every launch
            if match := re.fullmatch(r"(.+?)-([^-]+)\.dist-info", name):
                found.setdefault(match[1].replace("_", "-").lower(), match[2])
    return dict(sorted(found.items()))


def record(store: ExperimentStore, scripts: Iterable[str]) -> list[dict[str, Any]]:
    """Record the code in the current folder and in all folders that this process imports from.

    What is in git is recorded as a commit and a patch with the changes since; of what is not, the files are kept.

    Args:
        store: The experiment.
        scripts: Further files that are part of the code.

    Returns:
        A JSON object for every place, with its ``root``.
    """
    tops = _tops(_folders())
    records: list[dict[str, Any]] = []
    for root in dict.fromkeys(filter(None, tops.values())):
        from nemo_run.core.packaging.provenance import code_version

        version = code_version(root)
        if version is not None:
            records.append(_git_record(store, root, version, len(records)))
    loaded, scripts = _loaded_files(), list(scripts)
    for root in dict.fromkeys(folder for folder, top in tops.items() if top is None):
        files = list(_code_files(root, loaded, scripts))
        if files:
            archive = f"code/{len(records)}.tar.gz"
            _keep(make_folder(store.path / "code") / f"{len(records)}.tar.gz", root, files)
            records.append({"root": str(root), "kind": "files", "archive": archive})
    return records


def _folders() -> list[Path]:
    """Return the current folder, and those that this process imports from, less this package and what pip installed."""
    package = str(Path(__file__).resolve().parents[2])
    return [Path.cwd(), *(Path(path) for path in own_paths() if path != package and not _is_installed(path))]


def _tops(folders: Iterable[Path]) -> dict[Path, Path | None]:
    """Return the repository that each folder is in; None where there is none, or git cannot tell (reported once)."""
    from nemo_run.core.packaging.repository import top_of

    tops: dict[Path, Path | None] = {}
    errors = []
    for folder in folders:
        try:
            tops[folder] = top_of(folder)
        except PackagingError as error:
            tops[folder] = None
            errors.append(error)
    if errors:
        logger.warning("the commit of the code is not recorded, its files are: %s", errors[0])
    return tops


def _git_record(store: ExperimentStore, root: Path, version: CodeVersion, number: int) -> dict[str, Any]:
    """Return the record of a repository; the changes since its commit are written beside the experiment."""
    entry = {"root": str(root), "kind": "git", **dataclasses.asdict(version)}
    patch = entry.pop("patch")
    if patch:
        entry["patch"] = f"code/{number}.patch"
        entry["patch_sha256"] = hashlib.sha256(patch).hexdigest()
        write_text(make_folder(store.path / "code") / f"{number}.patch", patch)
    return entry


def _loaded_files() -> list[str]:
    """Return the Python files that are loaded, less those of the installation, which may lie in a project's folder."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    found = [os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(".py")]  # noqa: PTH100
    installation = tuple(f"{folder}/" for folder in _installation())
    return [file for file in found if not file.startswith(installation) and not _is_installed(file)]


def _is_installed(path: str) -> bool:
    """Check whether a path is in a folder for packages: of this user, or of another environment."""
    return any(name in ("site-packages", "dist-packages") for name in path.split("/"))


def _code_files(root: Path, loaded: Iterable[str], scripts: Iterable[str]) -> Iterator[Path]:
    """Yield the Python files beside the launching script, in packages imported from there, and scripts."""
    found = _imported_code(root, loaded)
    found += [path for path in map(Path, scripts) if path.is_relative_to(root)]
    size = 0
    for path in list(dict.fromkeys(filter(os.path.isfile, found)))[:_MOST_FILES]:
        size += path.stat().st_size
        if size > _MOST_BYTES:
            return
        yield path


def _imported_code(root: Path, loaded: Iterable[str]) -> list[Path]:
    """Return the Python files of the packages below a folder that are loaded, and those in it if one of them is."""
    below = [Path(file).relative_to(root).parts for file in loaded if file.startswith(f"{root}/")]
    packages = {root / parts[0] for parts in below if len(parts) > 1}
    found = [path for package in sorted(packages) for path in sorted(package.rglob("*.py"))]
    beside = sorted(root.glob("*.py")) if 1 in map(len, below) else []
    return found + beside


def _keep(archive: Path, root: Path, files: list[Path]) -> None:
    """Keep the files; one that cannot be read is no code that has been run."""
    from nemo_run.core.packaging.archive import Entry, write_archive

    entries = []
    for path in files:
        with contextlib.suppress(OSError):
            entries.append(Entry.file(str(path.relative_to(root)), path.read_bytes()))
    write_archive(entries, archive)
    archive.chmod(0o600)


def restore(store: ExperimentStore, entry: dict[str, Any], folder: Path) -> None:
    """Bring recorded code back.

    Args:
        store: The experiment that it was recorded for.
        entry: One of what :func:`record` returned.
        folder: Where to; must not exist.

    Raises:
        PackagingError: The commit is not there any more, or the patch does not apply.
    """
    from nemo_run.core.packaging import provenance
    from nemo_run.core.packaging.archive import extract

    if entry["kind"] == "files":
        extract(store.path / entry["archive"], folder)
        return
    names = {field.name for field in dataclasses.fields(provenance.CodeVersion)}
    known = {name: value for name, value in entry.items() if name in names}
    known["patch"] = (store.path / entry["patch"]).read_bytes() if entry.get("patch") else b""
    known["omitted"] = tuple(known["omitted"])
    provenance.restore(provenance.CodeVersion(**known), Path(entry["root"]), folder)
