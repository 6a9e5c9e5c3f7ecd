"""Files below a folder that others may have written to: no link on the way to one is followed.

A task in a container, a colleague who hands over an experiment, or a machine that answers with files can leave a link
in the place of any file or folder. What is opened here is below the folder it is said to be below, whatever is there,
and whatever is put there meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 20


def open_inside(top: Path, name: str | Path, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file below a folder; neither the folder nor anything below it may be a link.

    Args:
        top: The folder.
        name: Path of the file below it.
        flags: As for :func:`os.open`; with ``O_CREAT`` missing folders are made.
        mode: Permissions of a file that is created.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It is no regular file, or is behind a link; nothing was opened.
    """
    with _parent(top, Path(name), make=bool(flags & os.O_CREAT)) as (folder, last):
        try:
            fd = os.open(last, flags | _FILE, mode, dir_fd=folder)
        except OSError as e:
            raise _plainer(e, top / name) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is no regular file", str(top / name))
    return fd


def copy_inside(source: int, top: Path, name: str | Path) -> None:
    """Copy an open file, with its times, to below a folder; a link in the copy's place is replaced."""
    path, found = Path(name), os.fstat(source)
    with _parent(top, path, make=True) as (folder, last):
        temporary = f".{last[:100]}.{os.getpid()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE
        with os.fdopen(os.open(temporary, flags, found.st_mode & 0o700 | 0o600, dir_fd=folder), "wb") as copy:
            with os.fdopen(os.dup(source), "rb") as original:
                original.seek(0)
                shutil.copyfileobj(original, copy, _BLOCK)
            copy.flush()
            os.utime(copy.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
        try:
            os.replace(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(temporary, dir_fd=folder)
            raise


def copy_linked(path: Path, root: Path, top: Path, name: str | Path) -> None:
    """Copy a file to below a folder; links may lead to it, as long as it is below ``root``.

    Raises:
        OSError: It is not, or cannot be read or written; nothing was copied.
    """
    real, root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if not real.is_relative_to(root):
        raise OSError(errno.ELOOP, "is a link that leads out of the task's folder", str(path))
    with read_inside(root, real.relative_to(root)) as source:
        copy_inside(source.fileno(), top, name)


def copy_tree_inside(source: Path, top: Path) -> None:
    """Copy all files below a folder to below another. Links are left out."""
    for name, fd in files_inside(source):
        with os.fdopen(fd, "rb"):
            copy_inside(fd, top, name)


def files_inside(top: Path) -> Iterator[tuple[str, int]]:
    """Open all regular files below a folder, one after the other, sorted by their paths below it; links are left out.

    Yields:
        The path of each, and its descriptor, which the caller closes.
    """
    if not is_folder(top):
        return
    found = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
    for path in sorted(found):
        name = str(path.relative_to(top))
        with contextlib.suppress(OSError):  # a link, a pipe, or gone meanwhile
            yield name, open_inside(top, name)


def is_folder(path: Path) -> bool:
    """Check whether there is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def read_inside(top: Path, name: str | Path) -> IO[bytes]:
    """Return a file below a folder, opened to be read; see :func:`open_inside`."""
    return os.fdopen(open_inside(top, name), "rb")


@contextlib.contextmanager
def _parent(top: Path, path: Path, *, make: bool) -> Iterator[tuple[int, str]]:
    """Open the folder of a path below another, one name after the other; with it the last name of the path."""
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts:
        raise OSError(errno.EINVAL, "leads out of its folder", str(top / path))
    if make:
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
    here = top
    fd = _open_folder(here, str(top), None)
    try:
        for part in parts[:-1]:
            here = here / part
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
            below = _open_folder(here, part, fd)
            os.close(fd)
            fd = below
        yield fd, parts[-1]
    finally:
        os.close(fd)


def _open_folder(path: Path, name: str, above: int | None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except OSError as e:
        raise _plainer(e, path) from None


def _plainer(error: OSError, path: Path) -> OSError:
    """Return the error with the whole path, and with words for a link in the way."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK) and path.is_symlink():
        return OSError(errno.ELOOP, "is a link, which is not followed", str(path))
    return OSError(error.errno, error.strerror, str(path))
