"""Storage elsewhere for copies of files: a folder of this machine, or what fsspec reaches (``s3://``, ``gs://``, …)."""

from __future__ import annotations

import importlib.util
import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from nemo_run.core import extras
from nemo_run.core.inside import copy_inside
from nemo_run.errors import ExecutorError, MissingExtraError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_WITH_FOLDERS = ("file", "hdfs", "local", "memory", "sftp", "smb", "ssh", "webdav")
"""Kinds of storage in which a folder has to be made; in others, that would make a bucket."""

Put = Callable[[IO[bytes], str], None]
"""Copies an open file to a path below the storage's address."""


def check_storage(where: str, address: str) -> None:
    """Check, without a connection, that copies can go to an address.

    Raises:
        ExecutorError: There is no such kind of storage, or the address has a password, which would be stored.
        MissingExtraError: The package for it is not installed.
    """
    if "://" not in address:
        return
    parts = urlsplit(address)
    if parts.password:
        raise ExecutorError(f"{where} has a password, which would be stored; leave it to the environment")
    extra = _EXTRAS.get(parts.scheme, "s3")
    extras.require(("fsspec",), extra, where)
    from fsspec.registry import known_implementations, registry

    if parts.scheme in registry:
        return
    known = known_implementations.get(parts.scheme)
    if known is None:
        raise ExecutorError(
            f"{where}={address!r}: fsspec knows no storage {parts.scheme!r}; use s3://, gs://, or a path"
        )
    module = known["class"].partition(".")[0]
    if importlib.util.find_spec(module) is None:
        how = extras.command(_EXTRAS[parts.scheme]) if parts.scheme in _EXTRAS else str(known.get("err", ""))
        raise MissingExtraError(f"{where}={address!r} needs the package {module}: {how}")


def absolute(address: str) -> str:
    """Return an address that means the same from any folder.

    >>> absolute("s3://bucket/kept")
    's3://bucket/kept'
    """
    return address if "://" in address else str(Path(address).expanduser().absolute())


def address_of(address: str, *names: str) -> str:
    """Return the address of what is below another.

    >>> address_of("s3://bucket/kept/", "exp_1", "train/0", "model.pt")
    's3://bucket/kept/exp_1/train/0/model.pt'
    """
    return posixpath.join(address.rstrip("/") or "/", *names)


def opened(address: str) -> Put:
    """Return what copies open files to below an address.

    Raises:
        MissingExtraError: The package for it is not installed.
    """
    if "://" not in address:
        return lambda file, name: copy_inside(file.fileno(), Path(address), name)
    fsspec = extras.load("fsspec", _EXTRAS.get(urlsplit(address).scheme, "s3"), "this storage")
    try:
        system, base = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as e:
        raise MissingExtraError(f"{address}: {e}") from e
    return lambda file, name: _put(system, file, address_of(base, name))


def _put(system: Any, file: IO[bytes], path: str) -> None:
    if any(kind in _WITH_FOLDERS for kind in _kinds(system)):
        system.makedirs(posixpath.dirname(path), exist_ok=True)
    system.put_file(f"/dev/fd/{file.fileno()}", path)  # what was opened, whatever has its name by now


def _kinds(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
