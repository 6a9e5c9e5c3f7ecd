"""The key of a user in a home, and texts that only its owner can read: they are worth nothing where the key is not.

A text is encrypted with a keystream (SHAKE-256 of a derived key and a random nonce) and then authenticated
(HMAC-SHA-256 under another derived key), as the standard library has no cipher.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import stat
from pathlib import Path
from typing import Any

from nemo_run.errors import StoreError

_LENGTH = 32  # bytes of the key
_NONCE, _TAG = 32, 32


def key_file(root: Path) -> Path:
    """Return the file with this user's key of a folder."""
    return root / f".key-{os.geteuid()}"


def own_key(root: Path) -> bytes | None:
    """Return this user's key of a folder; ``None`` where there is none, or it is not a file of this user alone."""
    try:
        fd = os.open(key_file(root), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        key = os.read(fd, _LENGTH + 1) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(fd)
    is_private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return key if is_private and len(key) == _LENGTH else None


def made_key(root: Path) -> bytes:
    """Return this user's key of a folder; it is made where there is none. Of several at once, one makes it.

    Raises:
        StoreError: It cannot be made, or another file is in its place.
    """
    if (key := own_key(root)) is None:
        path = key_file(root)
        temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, os.urandom(_LENGTH))
                os.fsync(fd)
            finally:
                os.close(fd)
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, path)  # whole or not at all, and never over another one
                temporary.unlink()
        except OSError as e:
            raise StoreError(f"{path}: cannot be made: {e.strerror}") from e
        key = own_key(root)
    if key is None:
        raise StoreError(
            f"{key_file(root)}: must be a file of {_LENGTH} bytes that only this user can read; remove it, and a new "
            "one is made: earlier experiments are then adopted again with nemorun experiment adopt --all"
        )
    return key


def seal(key: bytes, content: bytes) -> str:
    """Return a content as a text that only who has the key can read.

    >>> unseal(bytes(32), seal(bytes(32), b"secret"))
    b'secret'
    """
    nonce = os.urandom(_NONCE)
    hidden = nonce + _xor(content, _derived(key, b"encrypt"), nonce)
    return base64.b64encode(hidden + _mac(key, hidden)).decode()


def unseal(key: bytes, text: str) -> bytes | None:
    """Return what :func:`seal` was given; ``None`` where this is another key, or the text was changed."""
    try:
        whole = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    hidden, tag = whole[:-_TAG], whole[-_TAG:]
    if len(hidden) < _NONCE or not hmac.compare_digest(tag, _mac(key, hidden)):
        return None
    return _xor(hidden[_NONCE:], _derived(key, b"encrypt"), hidden[:_NONCE])


def mark_of(key: bytes, document: Any) -> str:
    """Return the mark of a document of JSON, which only who has the key can make."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_mark_of(mark: object, key: bytes, document: Any) -> bool:
    """Check whether this is the mark of a document."""
    return isinstance(mark, str) and hmac.compare_digest(
        mark.encode("utf-8", "replace"), mark_of(key, document).encode()
    )


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, b"nemo-run seal: " + purpose, hashlib.sha256).digest()


def _mac(key: bytes, hidden: bytes) -> bytes:
    return hmac.new(_derived(key, b"authenticate"), hidden, hashlib.sha256).digest()


def _xor(content: bytes, key: bytes, nonce: bytes) -> bytes:
    stream = hashlib.shake_256(key + nonce).digest(len(content))
    return (int.from_bytes(content, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(content), "big")
