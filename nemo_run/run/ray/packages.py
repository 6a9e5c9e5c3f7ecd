"""Code that goes along with a Ray job, packed as Ray's own client does it; here it is done without Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core import extras
from nemo_run.core.packaging.archive import READ_SIZE, extract, package_digest
from nemo_run.core.packaging.base import Packager
from nemo_run.core.ray.jobs_api import EXTRA
from nemo_run.errors import ConfigError, PackagingError

LARGEST = 100 << 20
"""Bytes of a package that the dashboard of a cluster accepts."""

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar.xz")
"""Of these Ray makes a working directory, or modules, by itself."""

_WHEEL = ".whl"
_TIME = (1980, 1, 1, 0, 0, 0)  # the same code gives the same package
_IGNORE_FILES = (".gitignore", ".rayignore")
_EXCLUDED = ".git,.venv,venv,__pycache__"  # from a working directory, unless Ray's variable says otherwise

Excluded = Callable[[str], bool]


def is_uri(text: str) -> bool:
    """Check whether a working directory or a module is none of this machine."""
    return "://" in text


@contextlib.contextmanager
def packed(path: Path, packager: Packager, env: Mapping[str, Any], name: str) -> Iterator[Path]:
    """Return a folder or a file as a package whose name says what is in it, for as long as the context is open.

    Args:
        path: The folder; or an archive or a wheel, which is sent as it is; or a module that is one file.
        packager: Says which code goes along; a plain one sends the folder as Ray does.
        env: The runtime environment; its ``excludes`` are further patterns of what is left out, as in ``.gitignore``.
        name: How the folder is named there. Of a module, the folder itself is part of the package.

    Raises:
        PackagingError: The code cannot be packaged, or Ray would not accept it.
    """
    is_module = name in (env.get("py_modules") or ())
    excludes = [*([] if is_module else _excluded_by_default()), *(env.get("excludes") or ())]
    with tempfile.TemporaryDirectory(prefix="nemo-run-ray-") as scratch:
        if path.is_file() and path.suffix != ".py":
            yield _as_it_is(path, Path(scratch))
            return
        source, files = _source(path, packager, excludes, Path(scratch))
        package = Path(scratch, "package.zip")
        _write_zip(source, files, package, path.name if is_module and path.is_dir() else "")
        named = package.with_name(f"_ray_pkg_{package_digest(package)[:32]}.zip")
        package.rename(named)
        yield named


def check_local(name: str, path: Path) -> None:
    """Raise where Ray can do nothing with what is to be sent.

    Raises:
        ConfigError: It is not there, or is no folder, archive, wheel or module.
    """
    if not path.exists():
        raise ConfigError(f"there is no folder {name!r} to send to the Ray cluster; correct `workdir`, or create it")
    if not path.is_dir() and not path.name.endswith((*ARCHIVES, _WHEEL, ".py")):
        kinds = ", ".join((*ARCHIVES, _WHEEL))
        raise ConfigError(f"{name!r} is no folder, and no file that Ray unpacks ({kinds}); give a folder")


def _as_it_is(path: Path, scratch: Path) -> Path:
    """Return a file under the name by which Ray knows it: of a wheel its own, which says what is in it."""
    if path.stat().st_size >= LARGEST:
        raise PackagingError(_too_large(path.parent, [path.name]))
    ending = next((end for end in ARCHIVES if path.name.endswith(end)), "")
    copy = scratch / (path.name if path.suffix == _WHEEL else f"_ray_pkg_{package_digest(path)[:32]}{ending}")
    shutil.copyfile(path, copy)
    return copy


def _excluded_by_default() -> list[str]:
    """Return the patterns of what is left out of working directories, as Ray's variable has them."""
    patterns = os.environ.get("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", _EXCLUDED).split(",")
    return [pattern.strip() for pattern in patterns if pattern.strip()]


def _source(path: Path, packager: Packager, excludes: Sequence[str], scratch: Path) -> tuple[Path, list[str]]:
    """Return a folder, and what of it goes along; names of empty folders end with a slash."""
    if path.is_file():
        return path.parent, [path.name]
    if archive := packager.package(path, str(scratch), "code"):
        source = extract(archive, scratch / "code")
        return source, [str(file.relative_to(source)) for file in source.rglob("*")]
    return path, files_of(path, excludes)


def files_of(folder: Path, excludes: Sequence[str]) -> list[str]:
    """Return what Ray sends of a folder: what neither the patterns nor the ignore files in it leave out.

    Links are followed, also those to folders.  Names of empty folders end with a slash.

    Args:
        folder: The folder.
        excludes: Patterns of what is left out, as in ``.gitignore``.
    """
    return sorted(_walk(folder, "", [_matcher(excludes, "")], ()))


def _walk(top: Path, name: str, excluded: Sequence[Excluded], above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    path = top / name
    excluded = [*excluded, *_ignore_files(path, name)]
    if any(matches(name or ".") for matches in excluded):
        return
    if not path.is_dir():
        if path.is_file():
            yield name
        return
    status = path.stat()
    if (status.st_dev, status.st_ino) in above:
        raise PackagingError(f"{path} leads to a folder above itself; delete the link, or exclude it (.rayignore)")
    try:
        below = sorted(entry.name for entry in path.iterdir())
    except OSError as e:
        raise PackagingError(f"{path}: cannot be packaged: {e.strerror}") from e
    if not below and name:
        yield f"{name}/"
    for entry in below:
        yield from _walk(top, f"{name}/{entry}".lstrip("/"), excluded, (*above, (status.st_dev, status.st_ino)))


def _ignore_files(path: Path, name: str) -> list[Excluded]:
    """Return what the ignore files of a folder leave out, which is below it."""
    wanted = _IGNORE_FILES[1:] if os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") == "1" else _IGNORE_FILES
    files = [path / file for file in wanted if (path / file).is_file()]
    return [_matcher(file.read_text(errors="replace").splitlines(), name) for file in files]


def _matcher(patterns: Sequence[str], below: str) -> Excluded:
    """Return what tells whether patterns leave out a name; they are relative to the folder ``below``."""
    spec = extras.load("pathspec", EXTRA, "the working directory of a Ray job").PathSpec
    known = spec.from_lines("gitignore", patterns)
    start = len(f"{below}/") if below else 0
    return lambda name: known.match_file(name[start:] or ".")


def _write_zip(source: Path, files: Sequence[str], target: Path, top: str) -> None:
    """Write files as a zip file, in one order and with one time; links become what they lead to."""
    prefix = f"{top}/" if top else ""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name in sorted(files):
            path = source / name
            try:
                if name.endswith("/"):
                    out.writestr(_entry(f"{prefix}{name}", path), b"")
                elif path.is_file():
                    with path.open("rb") as file, out.open(_entry(f"{prefix}{name}", path), "w") as into:
                        while (piece := file.read(READ_SIZE)) and target.stat().st_size < LARGEST:
                            into.write(piece)
            except OSError as e:
                raise PackagingError(f"{path}: cannot be packaged: {e.strerror}") from e
            if target.stat().st_size >= LARGEST:  # soon, however large the rest is
                raise PackagingError(_too_large(source, files))


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    mode = path.stat().st_mode
    entry.external_attr = (stat.S_IFMT(mode) | stat.S_IMODE(mode)) << 16
    return entry


def _too_large(source: Path, files: Sequence[str]) -> str:
    """Return the message for code that Ray does not accept, with the files that make it so large."""
    sizes = sorted(((source / name).stat().st_size, name) for name in files if (source / name).is_file())
    largest = ", ".join(f"{name} ({size >> 20} MiB)" for size, name in reversed(sizes[-5:]))
    return (
        f"{source} is too large to be sent: Ray accepts {LARGEST >> 20} MiB, packed. Largest files: {largest}. Leave "
        "them out (.rayignore, .gitignore, `excludes` in the runtime environment), or put them where the cluster reads "
        "them"
    )
