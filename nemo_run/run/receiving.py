"""The experiment that somebody got as a file: unpacked strictly, and put among those of this home.

The file may come from anybody. It is read by a reader of its own, which knows the few kinds of entries that an export
writes and refuses all others: what ``tarfile`` would do for links, devices, sparse files and headers of any length is
not there to be abused.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from nemo_run.core.packaging.archive import leads_out
from nemo_run.errors import ExperimentError, NemoRunError, PackagingError
from nemo_run.run import catalog
from nemo_run.run.records import Definition
from nemo_run.run.store import ExperimentStore

_BLOCK = 512
_BLOCK_OF_DISK = 4096
_PIECE = 1 << 20
_LONGEST_NAME = 1 << 16
_LEAST, _MOST_TIMES = 1 << 30, 100  # bytes that any archive may take, and how many times its own size more
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


def receive(file: Path, base: str | None = None) -> ExperimentStore:
    """Put an experiment that an export has written among those of this home; it is looked at, and not acted on.

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


def _placed(folder: Path, definition: Definition, file: Path, base: str | None) -> ExperimentStore:
    target = catalog.planned(definition.title, base, definition.id)
    if os.path.lexists(target) or definition.id in catalog.ids(base=base):
        raise ExperimentError(f"{file}: experiment {definition.id!r} is here already; nothing was changed")
    for name in ("mark.json", "controller.lock"):  # of somebody else's making, whatever they are
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.rename(target)
    except OSError as e:
        raise ExperimentError(f"{file}: cannot be put to {target}: {e.strerror}; nothing was changed") from e
    return ExperimentStore(target)


def _unpack(file: Path, folder: Path) -> None:
    """Unpack an archive that anybody may have made.

    Raises:
        ExperimentError: It cannot be unpacked.
        PackagingError: It is damaged, or has something that no export writes.
    """
    try:
        if not file.is_file():
            raise ExperimentError(f"{file}: there is no such file")
        most = _LEAST + _MOST_TIMES * file.stat().st_size
        with gzip.open(file) as stream:
            for name, size in _entries(stream, file, most):
                path = folder / name
                if name.endswith("/"):
                    path.mkdir(parents=True, exist_ok=True, mode=0o700)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    _write(stream, path, size)
    except NemoRunError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.HeaderError) as e:
        raise PackagingError(f"{file}: is no experiment, or a damaged one: {e}; have it exported again") from e
    except (OSError, ValueError, OverflowError, MemoryError, RecursionError) as e:
        raise ExperimentError(f"{file}: cannot be unpacked: {e}") from e


def _entries(stream: BufferedIOBase, file: Path, most: int) -> Iterator[tuple[str, int]]:
    """Yield the name and the size of every file, whose content is to be read then, and of every folder.

    Raises:
        PackagingError: An entry is of a kind that no export writes, or there is more than the file can have.
    """
    found, longer = 0, ""
    while (block := stream.read(_BLOCK)).strip(b"\0"):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        found += max(member.size, 0) + _BLOCK_OF_DISK
        if member.size < 0 or found > most:
            raise PackagingError(
                f"{file}: would take more than {most >> 20} MiB, which is too much for an archive of its size; "
                f"where you trust it, unpack it with tar below {catalog.experiments_root()}/TITLE"
            )
        if member.type in _LONG_NAME and member.size <= _LONGEST_NAME:
            longer = os.fsdecode(_exactly(stream, member.size).split(b"\0")[0])
            continue
        name, longer = longer or member.name, ""
        _check(member, name, file)
        yield (name, member.size) if member.type in _FILES else (f"{name.rstrip('/')}/", 0)


def _check(member: tarfile.TarInfo, name: str, file: Path) -> None:
    if member.type not in _FILES and not (member.isdir() and member.size == 0):
        kind = "link" if member.issym() or member.islnk() else "device, a pipe or a header"
        raise PackagingError(f"{file}: {name!r} is a {kind}, which export never writes; have it exported again")
    if leads_out(name):
        raise PackagingError(f"{file}: {name!r} would be written outside of the folder it is unpacked to")


def _write(stream: BufferedIOBase, path: Path, size: int) -> None:
    """Write the content that comes next to a file, which is not there yet."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        left = size
        while left:
            piece = _exactly(stream, min(left, _PIECE), padded=False)
            file.write(piece)
            left -= len(piece)
    _exactly(stream, -size % _BLOCK, padded=False)


def _exactly(stream: BufferedIOBase, size: int, *, padded: bool = True) -> bytes:
    """Read so many bytes; with those that fill the last block."""
    content = stream.read(size + (-size % _BLOCK if padded else 0))
    if len(content) < size:
        raise EOFError("it ends too early")
    return content[:size]
