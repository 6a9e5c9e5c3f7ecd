"""What a task leaves in its folder of artifacts: all regular files arrive, and the rest is named.

A link to something in the folder is passed over in silence, for what it leads to arrives; any other link, and whatever
is no file, is named. That holds for folders of this machine, for archives made elsewhere, and for what ``tar`` says of
files that it could not read, so that all engines do the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nemo_run.core.execution.shared.attempt_files import copy_matching
from nemo_run.core.inside import copy_tree_inside, open_inside
from nemo_run.core.packaging.archive import leads_out
from nemo_run.errors import ArtifactsLeftOutError, EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    import tarfile

PACK = "LC_ALL=C tar -cf - ."
"""Words for ``sh`` that write an archive of the current folder; it is whole, but for what the error output names."""

_MARK = "nemo-run left out:"
PACK_ALL = f'exec 3>&1; l=$({PACK} 2>&1 >&3); exec 3>&-; echo; echo "{_MARK}"; printf "%s\\n" "$l"'
"""Words for ``sh`` that write such an archive, and behind it what it lacks; see :func:`unpack_all`."""

_KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_OUT, _NOWHERE, _CIRCLE = "a link that leads out of the folder", "a link to nothing", "a link in a circle"
_MOST_LINKS = 40
_BLOCK = 1 << 20

_COMPLAINTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"tar: can't open '(?P<name>.+)': (?P<why>.+)",
        r"tar: (?P<name>.+?): (?:Warning: )?Cannot (?:open|read|stat|savedir|readlink)[^:]*: (?P<why>.+)",
        r"tar: (?P<name>.+): (?P<why>socket|File removed|file changed|File shrank)[ ;].*",
    )
)
_WORDS = {"socket": "a socket", "File removed": "removed meanwhile"}
_CHANGED = "changed while it was read"
_OURS = ("Removing leading", "Exiting with failure", "error exit delayed", "had errors")


@contextlib.contextmanager
def gathered() -> Iterator[dict[str, str]]:
    """Yield what was left out so far, to be added to; at the end, raise the error that names it all."""
    left: dict[str, str] = {}
    try:
        yield left
    except ArtifactsLeftOutError as e:
        left |= e.left
    except EngineUnreachableError:
        raise
    except ExecutorError as e:
        raise ExecutorError(f"{e}; {ArtifactsLeftOutError(left)}" if left else str(e)) from e
    if left:
        raise ArtifactsLeftOutError(left)


def fetch_here(cwd: Path, patterns: Sequence[str], folder: Path) -> None:
    """Collect the artifacts of a task that had the rights of this user, and wrote them where they are to be.

    Args:
        cwd: Its working directory.
        patterns: Files there that are collected, too.
        folder: Its folder of artifacts.
    """
    with gathered() as left:
        left.update(left_out(folder))
        copy_matching(cwd, patterns, folder, within=Path("/"))


# --- links -----------------------------------------------------------------------------------------------------------


def link_problems(links: Mapping[str, str], others: Iterable[str], seen_as: str = "") -> dict[str, str]:
    """Return the links that lead to nothing in their folder, each with the reason. Pure.

    Args:
        links: Where each link leads to, by its path in the folder.
        others: Paths of all files and folders in it.
        seen_as: The folder, where the task saw it.

    Example:
        >>> link_problems({"a": "b/c", "x": "/etc/passwd", "y": "y", "z": "/n/b/c"}, ["b", "b/c"], "/n")
        {'x': 'a link that leads out of the folder', 'y': 'a link in a circle'}
    """
    there = {"", *others}
    found = {name: _problem(name, links, there, seen_as) for name in links}
    return {name: why for name, why in found.items() if why}


def _problem(name: str, links: Mapping[str, str], there: set[str], seen_as: str) -> str:
    """Return why a link leads to nothing in its folder; empty if it leads to something."""
    rest, here, hops = name.split("/"), "", 0
    while rest:
        part = rest.pop(0)
        path = posixpath.join(here, part)
        if part == "..":
            if not here:
                return _OUT
            here = posixpath.dirname(here)
        elif path in links and part not in ("", "."):
            target, hops = _relative(links[path], seen_as), hops + 1
            if target is None or hops > _MOST_LINKS:
                return _OUT if target is None else _CIRCLE
            here = "" if links[path].startswith("/") else here
            rest = [*target.split("/"), *rest]
        elif part not in ("", "."):
            here = path
    return "" if here in there else _NOWHERE


def _relative(target: str, seen_as: str) -> str | None:
    """Return the target of a link without the folder, if that is in it; ``None`` if it leads elsewhere."""
    if not target.startswith("/"):
        return target
    if seen_as and (target == seen_as or target.startswith(f"{seen_as}/")):
        return target[len(seen_as) + 1 :] or "."
    return None


# --- a folder of this machine ----------------------------------------------------------------------------------------


def left_out(folder: Path, seen_as: str = "") -> dict[str, str]:
    """Return what is in a folder of this machine and is no artifact, each with the reason."""
    left: dict[str, str] = {}
    links: dict[str, str] = {}
    others: list[str] = []
    for path, name in _entries(folder, left):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            links[name] = str(path.readlink())
            continue
        others.append(name)
        if kind := _KINDS.get(stat.S_IFMT(mode)):
            left[name] = kind
        elif stat.S_ISREG(mode) and not os.access(path, os.R_OK):
            left[name] = "Permission denied"
    return {**left, **link_problems(links, others, seen_as or os.path.realpath(folder))}


def _entries(folder: Path, left: dict[str, str]) -> Iterator[tuple[Path, str]]:
    """Yield all that is below a folder with its path there; folders that cannot be read are noted."""

    def note(error: OSError) -> None:
        left[os.path.relpath(error.filename, folder)] = str(error.strerror)

    if folder.is_symlink():
        return
    for top, folders, files in os.walk(folder, onerror=note):
        for entry in (*folders, *files):
            path = Path(top, entry)
            with contextlib.suppress(FileNotFoundError):
                yield path, str(path.relative_to(folder))


# --- an archive from elsewhere ---------------------------------------------------------------------------------------


def unpack(archive: IO[bytes], folder: Path, seen_as: str = "", mode: str = "r|*") -> dict[str, str]:
    """Unpack the regular files of a tar file, and return what else is in it, each with the reason.

    Nothing is written outside of the folder, or through a link in it.

    Raises:
        ExecutorError: It is no archive, or ends early; what came before was unpacked.
    """
    import tarfile

    left: dict[str, str] = {}
    links: dict[str, str] = {}
    others: list[str] = []
    try:
        with tarfile.open(fileobj=archive, mode=mode) as tar:  # type: ignore[call-overload]
            for member in tar:
                name = posixpath.normpath(member.name)
                if name == ".":
                    continue
                if leads_out(name):
                    left[name] = "a name that leads out of the folder"
                elif member.issym():
                    links[name] = member.linkname
                else:
                    others.append(name)
                    if why := _unpack_one(tar, member, folder, name):
                        left[name] = why
    except (tarfile.TarError, EOFError, OSError) as e:
        raise ExecutorError(f"the artifacts came incompletely ({e}); those that arrived are kept") from e
    return {**left, **link_problems(links, others, seen_as)}


def unpack_all(packed: bytes, folder: Path, seen_as: str = "") -> dict[str, str]:
    """Unpack what :data:`PACK_ALL` has written; see :func:`unpack`."""
    archive, _, said = packed.rpartition(f"\n{_MARK}\n".encode())
    return unpack(io.BytesIO(archive or packed), folder, seen_as) | complaints(said if archive else b"")


def copy_left(source: Path, folder: Path, seen_as: str = "") -> dict[str, str]:
    """Copy the artifacts in a folder of this machine to another, unless that is the same; return what was left out."""
    if not (folder.exists() and source.exists() and folder.samefile(source)):
        copy_tree_inside(source, folder)
    return left_out(source, seen_as)


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> str:
    """Unpack a file; return why it was not, empty if it was."""
    if member.isdir():
        return ""
    try:
        if member.islnk():
            with os.fdopen(open_inside(folder, posixpath.normpath(member.linkname)), "rb") as original:
                return _write(original, member, folder, name)
        if not member.isfile():
            return "a pipe" if member.isfifo() else "a device"
        content = tar.extractfile(member)
        return "no file" if content is None else _write(content, member, folder, name)
    except OSError as e:
        return str(e.strerror or e)


def _write(content: IO[bytes], member: tarfile.TarInfo, folder: Path, name: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        if (folder / name).is_symlink():
            (folder / name).unlink()
    with os.fdopen(open_inside(folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        while block := content.read(_BLOCK):
            file.write(block)
        file.flush()
        os.fchmod(file.fileno(), member.mode & 0o755 | 0o600)
        os.utime(file.fileno(), (member.mtime, member.mtime))
    return ""


def complaints(said: bytes) -> dict[str, str]:
    r"""Return what ``tar`` says that it could not pack, each with the reason. Pure.

    >>> complaints(b"tar: ./locked: Cannot open: Permission denied\ntar: ./s: socket ignored\n")
    {'locked': 'Permission denied', 's': 'a socket'}
    """
    left: dict[str, str] = {}
    for line in said.decode("utf-8", "surrogateescape").splitlines():
        if not line.startswith("tar: ") or any(words in line for words in _OURS):
            continue
        match = next(filter(None, (pattern.fullmatch(line) for pattern in _COMPLAINTS)), None)
        if match:
            why = match["why"]
            changed = why in ("file changed", "File shrank")
            left[posixpath.normpath(match["name"])] = _CHANGED if changed else _WORDS.get(why, why)
        else:
            left[line.removeprefix("tar: ")] = "as tar says"
    return left
