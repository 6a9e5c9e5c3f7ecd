"""What this machine remembers of Ray clusters and jobs, for any later process.

::

    $NEMORUN_HOME/ray/
        clusters/<engine>[-<place>]/<name>.json     StoredCluster; beside it a lock while it is started
        jobs/<engine>[-<place>]/<name>.json         StoredRayJob; beside it a lock while it is submitted
        ends/                                       how jobs ended: see :mod:`nemo_run.run.ray.ends`
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.files import folder_name, make_folder, open_lock, read_object, try_lock, write_json, write_text
from nemo_run.core.sealing import is_mark_of, made_key, mark_of, own_key
from nemo_run.errors import ExecutorError, ReceivedRecordError, StoreError
from nemo_run.run.ray.waiting import telling


@dataclass(frozen=True)
class StoredCluster:
    """A cluster that was started, or found, from this machine.

    Attributes:
        name: Its name.
        engine: Name of its engine.
        place: Where it is, in the engine's words.
        record: What the engine needs to find it.
        created: When it was started, in seconds since the epoch.
        until_job: Submission id of the one job that it is for.
    """

    name: str
    engine: str
    place: str
    record: dict[str, Any]
    created: float
    until_job: str = ""


@dataclass(frozen=True)
class StoredRayJob:
    """A job that was submitted from this machine.

    Attributes:
        name: Its name.
        engine: Name of the engine of its cluster.
        place: Where that is.
        cluster: Name of the cluster.
        record: What the engine needs to find the cluster that it was submitted to.
        submission_id: How Ray calls it.
        created: When it was started, in seconds since the epoch.
        own_cluster: Whether the cluster is there for this job only.
    """

    name: str
    engine: str
    place: str
    cluster: str
    record: dict[str, Any]
    submission_id: str
    created: float
    own_cluster: bool


Stored = TypeVar("Stored", StoredCluster, StoredRayJob)

logger = logging.getLogger(__name__)

_MARK = "mark"
_STARTING = 600.0  # seconds to wait for another process that starts the same cluster
_FOLDERS: dict[type, str] = {StoredCluster: "clusters", StoredRayJob: "jobs"}


def write(item: Stored) -> None:
    """Store the record of a cluster or a job."""
    path = _path(type(item), item.engine, item.place, item.name)
    _make_room(path)
    document = json.loads(json.dumps(dataclasses.asdict(item)))  # as it is read again
    key = made_key(make_folder(_root(type(item)).parent))
    write_json(path, {**document, _MARK: mark_of(key, document)}, durable=True)


def read(kind: type[Stored], engine: str, place: str, name: str) -> Stored | None:
    """Return the cluster or job of a name; ``None`` where there is no record."""
    with contextlib.suppress(FileNotFoundError):
        return _read(kind, _path(kind, engine, place, name))
    return None


def read_all(kind: type[Stored], name: str = "") -> list[Stored]:
    """Return all clusters or jobs, or those of a name, the oldest first; what was received is passed over."""
    found = []
    for path in _root(kind).glob(f"*/{folder_name(name) if name else '*'}.json"):
        try:
            found.append(_read(kind, path))
        except ReceivedRecordError as e:
            logger.warning("%s", e)
    return sorted(found, key=lambda item: item.created)


@contextlib.contextmanager
def starting(engine: str, place: str, name: str) -> Iterator[None]:
    """Start a cluster; no other process of this machine starts one of that name at the same time.

    Raises:
        ExecutorError: Another process does, and takes very long.
    """
    with _locked(_path(StoredCluster, engine, place, name), within=_STARTING) as locked:
        if not locked:
            raise ExecutorError(f"the Ray cluster {name!r} is being started by another process; wait for that")
        yield


@contextlib.contextmanager
def submitting(engine: str, place: str, name: str) -> Iterator[None]:
    """Submit a job; no other process of this machine submits one of that name at the same time.

    Raises:
        ExecutorError: Another process does.
    """
    with _locked(_path(StoredRayJob, engine, place, name), within=0) as locked:
        if not locked:
            raise ExecutorError(
                f"a Ray job {name!r} is being submitted by another process; give this one another name, or wait for "
                f"that one: nemorun ray logs {name} --follow"
            )
        yield


@contextlib.contextmanager
def _locked(path: Path, *, within: float) -> Iterator[bool]:
    """Hold the lock beside a record; gives whether it could be had in time."""
    path = path.with_suffix(".lock")
    _make_room(path)
    fd, pauses = open_lock(path), Pauses(until=time.monotonic() + within)
    try:
        with telling() as tell:
            while not (locked := try_lock(fd)) and not pauses.over:
                tell("another process starts it; waiting for that")
                pauses.sleep()
        yield locked
    finally:
        os.close(fd)


def _make_room(path: Path) -> None:
    make_folder(path.parent)
    ignore = path.parents[2] / ".gitignore"  # in a checkout, records are no part of its code
    if not ignore.exists():
        write_text(ignore, "*\n")


def _root(kind: type[Stored]) -> Path:
    return Path(get_nemorun_home(), "ray", _FOLDERS[kind])


def _path(kind: type[Stored], engine: str, place: str, name: str) -> Path:
    return _root(kind) / folder_name("-".join(filter(None, [engine, place]))) / f"{folder_name(name)}.json"


def _read(kind: type[Stored], path: Path) -> Stored:
    """Return a record that this user on this home has written.

    Raises:
        ReceivedRecordError: Somebody else has: nothing that it names is asked or connected to.
        StoreError: It is damaged.
    """
    document = read_object(path)
    if document is None:
        raise FileNotFoundError(path)
    mark, key = document.pop(_MARK, None), own_key(_root(kind).parent)
    if key is None or not is_mark_of(mark, key, document):
        raise ReceivedRecordError(
            f"{path}: was not written by this user on this home, so nothing that it names is asked or connected to; "
            "delete it, and start what it is about again"
        )
    try:
        return kind(**document)
    except TypeError as e:
        raise StoreError(f"{path}: the file is damaged, or was written by another version ({e}); delete it") from e
