"""Archives of code: written fast and always the same way, unpacked safely.

An archive is a ``.tar.gz`` of :class:`Entry` objects. Owner, time and rights of the files are fixed, so the same tree
gives the same bytes, and :func:`package_digest` tells whether a machine already has them.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import logging
import os
import posixpath
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from nemo_run.core.files import replacing
from nemo_run.errors import PackagingError

if TYPE_CHECKING:
    import tarfile
    from concurrent.futures import Future, ThreadPoolExecutor

logger = logging.getLogger(__name__)

FILE, LINK, FOLDER = b"0", b"2", b"5"
READ_SIZE = 1 << 20

_BLOCK = 512
_LONG_NAME, _LONG_LINK = b"L", b"K"
# The fields of a header that are always the same, and what they add to its checksum, whose own field counts as blanks.
_NOBODY = b"0000000\0" * 2
_TIME = b"%011o\0" % 315619200  # 1980-01-02: in every time zone one that a zip file can hold, which 1979 is not
_REST = b"ustar  \0" + bytes(247)
_FIXED_SUM = sum(_NOBODY + _TIME + _REST) + 8 * ord(" ")

_CHUNK = 1 << 20
_LEVEL = 1  # for source code a tenth larger than level 6, in a third of the time
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # no name, no time, no operating system
_LAST_BLOCK = b"\x03\x00"


class Entry(NamedTuple):
    """A file, symbolic link or folder of an archive.

    Attributes:
        name: Path in the archive, relative, with ``/``.
        data: The content of a file, whole or in pieces; the target of a link; empty for a folder.
        size: Bytes of ``data``.
        executable: Whether a file may be executed; other rights are not kept.
        kind: ``FILE``, ``LINK`` or ``FOLDER``.

    Example:
        >>> Entry.file("hello.txt", b"hello").size
        5
    """

    name: str
    data: bytes | Iterable[bytes]
    size: int
    executable: bool = False
    kind: bytes = FILE

    @classmethod
    def file(cls, name: str, content: bytes, executable: bool = False) -> Entry:
        """Return a file with this content."""
        return cls(name, content, len(content), executable)


# ---------------------------------------------------------------- entries


def merge(sources: Iterable[Iterable[Entry]]) -> Iterator[Entry]:
    """Yield the entries of all sources; where two have the same name, the one of the later source.

    Example:
        >>> old, new = Entry.file("a", b"1"), Entry.file("a", b"2")
        >>> [entry.data for entry in merge([[old], [new]])]
        [b'2']
    """
    seen: set[str] = set()
    for source in reversed(list(sources)):
        for entry in source:
            if entry.name not in seen:
                seen.add(entry.name)
                yield entry


def placed(entries: Iterable[Entry], folder: str) -> Iterator[Entry]:
    """Return the entries, in a folder of the archive.

    Example:
        >>> [entry.name for entry in placed([Entry.file("a", b"")], "code")]
        ['code/a']
    """
    return (entry._replace(name=f"{folder}/{entry.name}") for entry in entries)


def without_escaping_links(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries less the links that lead out of the archive; these are named in one warning."""
    left_out = []
    for entry in entries:
        if entry.kind == LINK and _escapes(entry.name, os.fsdecode(_whole(entry))):
            left_out.append(entry.name)
        else:
            yield entry
    if left_out:
        logger.warning(
            "%d symbolic link(s) lead out of the packaged folder and were left out: %s", len(left_out), some(left_out)
        )


def some(names: list[str], limit: int = 5) -> str:
    """Return the first few names, to be shown.

    Example:
        >>> some(["a", "b", "c"], limit=2)
        "'a', 'b', …"
    """
    return ", ".join(map(repr, names[:limit])) + (", …" if len(names) > limit else "")


def leads_out(name: str) -> bool:
    """Check whether a name in an archive is not that of something below its top.

    Example:
        >>> [name for name in ("a/b", "/a", "a/../../b", "") if leads_out(name)]
        ['/a', 'a/../../b', '']
    """
    return not name or name[0] == "/" or "\0" in name or (".." in name and ".." in name.split("/"))


def _escapes(name: str, target: str) -> bool:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return path.startswith(("/", "../")) or path == ".."


def _whole(entry: Entry) -> bytes:
    return entry.data if isinstance(entry.data, bytes) else b"".join(entry.data)


def read_archive(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of any tar archive; hard links become files, names lose a leading ``./``."""
    with opened(Path(path)) as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if member.issym():
                target = os.fsencode(member.linkname)
                yield Entry(name, target, len(target), kind=LINK)
            elif member.isfile() or member.islnk():
                source = tar.extractfile(member)
                if source is None:
                    raise PackagingError(f"{path}: {member.name!r} is a link to a file that is not in the archive")
                size = source.seek(0, os.SEEK_END)
                source.seek(0)
                yield Entry(name, iter(lambda f=source: f.read(READ_SIZE), b""), size, bool(member.mode & 0o100))  # type: ignore[misc]
            elif member.isdir() and name != ".":
                yield Entry(name, b"", 0, kind=FOLDER)


# ---------------------------------------------------------------- writing


def write_archive(entries: Iterable[Entry], path: str | os.PathLike[str]) -> None:
    """Write the entries as a gzipped tar file; no reader ever sees half of it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_archive([Entry.file("a.txt", b"a")], folder / "code.tar.gz")
        >>> extract(folder / "code.tar.gz", folder / "code").joinpath("a.txt").read_text()
        'a'
    """
    target = Path(path)
    entries = iter(entries)
    first = list(itertools.islice(entries, 1))  # what to package is found before our own file appears, perhaps there
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, 0o666) as file, _Gzip(file) as out:
            for entry in itertools.chain(first, entries):
                _write(out, entry)
            out.write(bytes(2 * _BLOCK))
    except OSError as error:
        raise PackagingError(f"{target}: the package cannot be written: {error.strerror or error}") from error


def _write(out: _Gzip, entry: Entry) -> None:
    if leads_out(entry.name):
        raise PackagingError(f"{entry.name!r} cannot be in a package: names are relative and stay below its top")
    name = os.fsencode(entry.name)
    if entry.kind != FILE:
        is_folder = entry.kind == FOLDER
        name, mode = (name + b"/", 0o755) if is_folder else (name, 0o777)
        out.write(_headers(name, mode, 0, entry.kind, _whole(entry)))
        return
    header = _headers(name, 0o755 if entry.executable else 0o644, entry.size, FILE)
    if isinstance(entry.data, bytes):
        written = len(entry.data)
        out.write(b"".join((header, entry.data, bytes(-written % _BLOCK))))
    else:
        out.write(header)
        written = 0
        for piece in entry.data:
            out.write(piece)
            written += len(piece)
        out.write(bytes(-written % _BLOCK))
    if written != entry.size:
        raise PackagingError(f"{entry.name!r} changed while it was packaged: try again when nothing writes to it")


def _headers(name: bytes, mode: int, size: int, kind: bytes, link: bytes = b"") -> bytes:
    """Return the header block of a member, behind what a long name or link needs; ten times faster than ``tarfile``."""
    long = [(_LONG_NAME, name), (_LONG_LINK, link)]
    extra = b"".join(
        _header(b"././@LongLink", 0, len(text) + 1, code) + text + bytes(_BLOCK - len(text) % _BLOCK)
        for code, text in long
        if len(text) > 100
    )
    return extra + _header(name[:100], mode, size, kind, link[:100])


def _header(name: bytes, mode: int, size: int, kind: bytes, link: bytes = b"") -> bytes:
    rights = b"%07o\0" % mode
    length = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    checksum = _FIXED_SUM + sum(name) + sum(rights) + sum(length) + sum(kind) + sum(link)
    before = (name.ljust(100, b"\0"), rights, _NOBODY, length, _TIME)
    return b"".join((*before, b"%06o\0 " % checksum, kind, link.ljust(100, b"\0"), _REST))


class _Gzip:
    """A gzip file whose pieces are compressed side by side, each as hard as is worth it.

    The pieces end at fixed places of the content and are joined in its order, so the same content gives the same bytes.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._workers = min(4, os.cpu_count() or 1)
        self._pool: ThreadPoolExecutor | None = None  # made for the first whole piece
        self._compressed: collections.deque[Future[bytes]] = collections.deque()
        self._pending: list[bytes] = []
        self._pending_size = self._size = self._crc = 0

    def __enter__(self) -> _Gzip:
        self._out.write(_GZIP_HEADER)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                last = _deflate(self._counted(b"".join(self._pending)))
                self._write_compressed(leave=0)
                self._out.write(
                    last + _LAST_BLOCK + self._crc.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little")
                )
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size < _CHUNK:
            return
        content = b"".join(self._pending)
        whole = len(content) - len(content) % _CHUNK
        for start in range(0, whole, _CHUNK):
            self._submit(content[start : start + _CHUNK])
        self._pending = [content[whole:]]
        self._pending_size = len(content) - whole

    def _submit(self, chunk: bytes) -> None:
        from concurrent.futures import ThreadPoolExecutor  # zlib leaves the other threads running

        self._pool = self._pool or ThreadPoolExecutor(self._workers)
        self._compressed.append(self._pool.submit(_deflate, self._counted(chunk)))
        self._write_compressed(leave=2 * self._workers)

    def _counted(self, chunk: bytes) -> bytes:
        self._crc = zlib.crc32(chunk, self._crc)
        self._size += len(chunk)
        return chunk

    def _write_compressed(self, leave: int) -> None:
        while len(self._compressed) > leave:
            self._out.write(self._compressed.popleft().result())


def _deflate(chunk: bytes) -> bytes:
    """Return the chunk as deflate blocks that end on a byte and are not the last ones."""
    level = _LEVEL if _compressible(chunk) else 0
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _compressible(chunk: bytes) -> bool:
    """Check whether samples of it shrink; images, weights and archives do not, and cost most of the time."""
    length = 4096
    middle = len(chunk) // 2
    sample = chunk[:length] + chunk[middle : middle + length] + chunk[-length:]
    return len(zlib.compress(sample, 1)) < 0.95 * len(sample)


def package_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as hexadecimal digits: packages of the same code have the same.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     package_digest(file.name)[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(READ_SIZE):
            digest.update(piece)
    return digest.hexdigest()


# ---------------------------------------------------------------- unpacking


def extract(archive: str | os.PathLike[str], dest: str | os.PathLike[str]) -> Path:
    """Unpack an archive into the folder ``dest``, wholly or not at all.

    A folder that is already there and not empty is left as it is: it was unpacked before, here or by another process.
    Nothing in the archive can write outside of ``dest`` or lead out of it; only files, folders and links are accepted.

    Args:
        archive: A tar file, compressed or not.
        dest: The folder to make; its parents are made too.

    Returns:
        ``dest`` as a path.

    Raises:
        PackagingError: The archive is damaged, or has a member that is refused; ``dest`` is then not made.
    """
    source, target = Path(archive), Path(dest)
    with made_whole(target) as folder:
        if folder is not None:
            with opened(source) as tar:
                unpack(tar, folder, source)
    return target


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path | None]:
    """Yield a folder to fill, which becomes ``target`` on success; ``None`` where ``target`` has content already."""
    if _has_content(target):
        yield None
        return
    temporary = target.with_name(f".{target.name}.{os.urandom(16).hex()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not _has_content(target):  # else another process was faster
                raise
    except OSError as error:
        raise PackagingError(f"{target}: cannot be unpacked there: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _has_content(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is not None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar archive.

    Raises:
        PackagingError: It is none, or a damaged one.
    """
    import gzip
    import lzma
    import tarfile

    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise PackagingError(f"{path}: not a tar archive, or a damaged one: {error}; package the code again") from error


def unpack(tar: tarfile.TarFile, folder: Path, archive: Path, *, foreign: bool = False) -> None:
    """Unpack an open archive into a folder; nothing in it can write outside of that. ``archive`` is for messages.

    Links come last and are followed by nothing that is written; then none may lead out of the folder.

    Args:
        tar: The archive.
        folder: Where its content goes.
        archive: What it is called in messages.
        foreign: It was made elsewhere, and the folder may have content: times and rights of files are kept, but for
            those that let others write, and no link that is there is written through.
    """
    links: dict[Path, str] = {}
    for member in tar:
        path = folder / _safe_name(member.name, archive)
        if foreign:
            _refuse_links(path, folder, archive)
        if member.issym():
            links[path] = member.linkname
        elif member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.isfile():
            _unpack_file(tar, member, path)
            if foreign:
                path.chmod(member.mode & 0o755 | 0o600)
                os.utime(path, (member.mtime, member.mtime))
        elif member.islnk():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / _safe_name(member.linkname, archive), path)
        else:
            raise PackagingError(f"{archive}: {member.name!r} is a device or a pipe, which code has no need of")
    _make_links(links, folder, archive)


def _refuse_links(path: Path, folder: Path, archive: Path) -> None:
    """Take away a link that is in the place of a member; one on the way to it is an error."""
    for parent in path.relative_to(folder).parents:
        if parent != Path() and (folder / parent).is_symlink():
            raise PackagingError(f"{archive}: {str(path.relative_to(folder))!r} would be written through a link")
    if path != folder and path.is_symlink():
        path.unlink()


def _make_links(links: dict[Path, str], folder: Path, archive: Path) -> None:
    for path, link in links.items():
        if not links.keys().isdisjoint(path.parents):
            raise PackagingError(f"{archive}: {str(path.relative_to(folder))!r} would be written through a link")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise PackagingError(f"{archive}: {str(path.relative_to(folder))!r} is both a file and a link")
        path.symlink_to(link)
    root = os.path.realpath(folder)
    for path, link in links.items():
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            name = str(path.relative_to(folder))
            for made in links:
                made.unlink()  # nothing that comes later is written through it
            raise PackagingError(f"{archive}: link {name!r} leads out of the package, to {link!r}")


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, READ_SIZE)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _safe_name(name: str, archive: Path) -> str:
    if leads_out(name):
        raise PackagingError(f"{archive}: member {name!r} would be written outside of the folder it is unpacked to")
    return name
