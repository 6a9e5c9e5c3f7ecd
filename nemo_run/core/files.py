"""Files that are replaced as a whole, readable by their owner only: text, JSON, locks, and names for folders."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nemo_run.errors import StoreError

_LARGEST = 64 << 20  # bytes of a document; what is larger was not written by us
_DEEPEST = 200  # levels of a document


def write_text(path: Path, text: str | bytes, *, durable: bool = False) -> None:
    """Replace a file as a whole; readable by its owner only.

    Args:
        path: The file; its folder must exist.
        text: The new content.
        durable: Wait until it has reached the disk.

    Raises:
        StoreError: The file cannot be written; the message names it.
    """
    try:
        with replacing(path) as f:
            f.write(text.encode() if isinstance(text, str) else text)
            if durable:
                f.flush()
                os.fsync(f.fileno())
    except OSError as e:
        raise StoreError(f"{path}: cannot be written: {e.strerror}; nothing was changed") from e


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of another as a whole when the block ends without an error.

    Args:
        path: The file; its folder must exist.
        mode: Its permissions, less those that the umask takes away.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
            yield f
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_once(path: Path, content: bytes) -> None:
    """Write a file whose name tells its content, unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(path) as f:
            f.write(content)


def write_json(path: Path, doc: Any, *, durable: bool = False, indent: int | None = 1) -> None:
    """Replace a JSON file as a whole; see :func:`write_text`. Without indentation it takes a fraction of the time."""
    write_text(path, json_bytes(doc, indent), durable=durable)


def json_bytes(doc: Any, indent: int | None = 1) -> bytes:
    """Return the content of a JSON file."""
    text = json.dumps(doc, indent=indent, ensure_ascii=False) + "\n"
    # Bytes of a file name or a variable that are no UTF-8 are lone surrogates here; JSON writes those as escapes.
    return text.encode("utf-8", "backslashreplace")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It cannot be read or is damaged; the message names it.
    """
    try:
        content = _read_bytes(path)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StoreError(f"{path}: cannot be read: {e.strerror}") from e
    return parse_json(path, content)


def parse_json(path: str | Path, content: bytes) -> Any:
    """Return what is in a JSON file with this content.

    Raises:
        StoreError: It is damaged; the message names the file.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as e:
        raise StoreError(
            f"{path}: the file is damaged ({e}); restore it, or delete the experiment's folder. "
            "Other experiments are not affected"
        ) from e
    if content.count(b"[") + content.count(b"{") > _DEEPEST and _is_deeper(document):
        raise StoreError(f"{path}: the file is damaged: it is nested more than {_DEEPEST} deep")
    return document


def _is_deeper(document: Any) -> bool:
    """Check whether a document has more levels than any of ours; what walks through it would end in an error."""
    level = [document]
    for _ in range(_DEEPEST):
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _read_bytes(path: str | Path) -> bytes:
    """Read all of a regular file. There are thousands: it is opened as it is, but never waited for, and then looked at.

    Raises:
        OSError: It cannot be read, or is a pipe or a device, which may never answer or never end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        content = bytearray()
        while piece := os.read(fd, 1 << 16):
            content += piece
            if len(content) > _LARGEST:
                raise OSError(errno.EFBIG, f"it is larger than {_LARGEST >> 20} MiB")
        return bytes(content)
    finally:
        os.close(fd)


def read_object(path: str | Path) -> dict[str, Any] | None:
    """Read a JSON object; ``None`` where there is no such file."""
    try:
        doc = read_json(path)
    except FileNotFoundError:
        return None
    if not isinstance(doc, dict):
        raise StoreError(f"{path}: the file is damaged: it is no JSON object")
    return doc


def make_folder(path: Path) -> Path:
    """Create a folder, with its parents, that only its owner can enter."""
    try:
        if not path.is_dir():  # it mostly is: to look is faster than to try
            if not path.parent.is_dir():
                make_folder(path.parent)
            path.mkdir(exist_ok=True, mode=0o700)
    except StoreError:
        raise
    except OSError as e:
        raise StoreError(
            f"{path}: cannot be created: {e.strerror}; set NEMORUN_HOME to a folder you can write to"
        ) from e
    return path


def folder_name(name: str) -> str:
    """Return a safe name of a folder for any name a user may give; different names give different folders.

    >>> folder_name("my-job_1.a")
    'my-job_1.a'
    >>> folder_name("../etc")
    'etc-f7f912'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]
    if safe == name:
        return safe
    return f"{safe or 'x'}-{digest(name)}"


def digest(name: str) -> str:
    """Return a short digest that tells names apart."""
    return hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:6]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, which is created where it is missing, and hold it."""
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def open_lock(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file to lock it.

    Raises:
        FileNotFoundError: It is not there, and the flags do not create it.
        StoreError: It cannot be opened; the message names it.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)  # a link leads elsewhere, a FIFO waits
    except FileNotFoundError:
        raise
    except OSError as e:
        raise StoreError(f"{path}: cannot be opened: {e.strerror}") from e


def try_lock(fd: int) -> bool:
    """Lock a file, with some patience for those who hold it just to see whether it is locked."""
    for _ in range(50):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def is_locked(path: Path) -> bool:
    """Check whether a process holds the lock of a file, which may be missing."""
    try:
        fd = open_lock(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
