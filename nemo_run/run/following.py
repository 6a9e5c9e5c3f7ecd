"""Metrics of tasks that write them elsewhere, brought here while they run: by the way that leads to where a task is."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.core.execution.backends import Backends
from nemo_run.core.inside import open_inside
from nemo_run.core.tunnel.answers import posix
from nemo_run.errors import ExecutorError, NemoRunError
from nemo_run.run import artifacts
from nemo_run.run.metrics import FILE, Metrics, task_metrics
from nemo_run.run.phases import DrivenTask, Phase
from nemo_run.run.records import JobDefinition, TaskDefinition
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from nemo_run.core.tunnel.client import Tunnel

    Way = tuple[Tunnel, str]  # how to get to where a task runs, and its folder there

_PAUSE = 2.0  # seconds between two rounds, at least
_SHARE = 4  # a round is followed by a pause that is longer than itself by this factor
_AT_ONCE = 100  # files of one command
_CONTEXT = 64  # bytes by which it is seen that a file goes on where it ended before
_MOST, _ALL = 4 << 20, 1 << 30  # bytes of a file that come in one round, and at once for somebody who looks
_READ = f"""\
most=$1
shift
while [ $# -gt 1 ]; do
  {{ tail -c +"$2" "$1/artifacts/{FILE}" | head -c "$most" | base64 | tr -d '\\n'; }} 2>/dev/null; echo
  shift 2
done"""


@dataclass(frozen=True)
class _Here:
    """What is here of a file.

    Attributes:
        size: Its size.
        end: Its last bytes.
    """

    size: int = 0
    end: bytes = b""

    def joined(self, piece: bytes) -> tuple[int, bytes] | None:
        """Return where a piece from ``position`` on is to be written, and what; ``None`` where it does not go on here.

        >>> _Here(3, b"abc").joined(b"abcdef"), _Here().joined(b"a"), _Here(3, b"abc").joined(b"xyz")
        ((3, b'def'), (0, b'a'), None)
        """
        return (self.size, piece[len(self.end) :]) if piece.startswith(self.end) else None

    @property
    def position(self) -> int:
        """Where reading goes on, as ``tail`` counts bytes."""
        return self.size - len(self.end) + 1


def fetch_running(wanted: Iterable[tuple[Way, Path]], most: int = _MOST) -> dict[Path, tuple[int, bytes]]:
    """Return what running tasks have added to their metrics.

    Args:
        wanted: The way to each task, and its folder of artifacts here.
        most: Bytes of each file.

    Returns:
        By that folder: from which byte on the file here is to be replaced, and by what. Nothing for those that have
        nothing new, or whose engine does not answer: they are asked again.
    """
    folders = {folder: way for way, folder in wanted}
    here = {folder: _what_is_here(folder) for folder in folders}
    found = _read(folders, here, most)
    joined = {folder: here[folder].joined(piece) for folder, piece in found.items()}
    begun_anew = [folder for folder, piece in joined.items() if piece is None]
    again = _read({folder: folders[folder] for folder in begun_anew}, dict.fromkeys(begun_anew, _Here()), most)
    pieces = {folder: piece for folder, piece in joined.items() if piece} | {
        name: (0, text) for name, text in again.items()
    }
    return {folder: (start, piece) for folder, (start, piece) in pieces.items() if piece}


def _read(ways: Mapping[Path, Way], here: Mapping[Path, _Here], most: int) -> dict[Path, bytes]:
    """Read files from where they end here, in one command for all that one way leads to."""
    by_way: dict[int, list[Path]] = {}
    for folder, (tunnel, _) in ways.items():
        by_way.setdefault(id(tunnel), []).append(folder)
    found: dict[Path, bytes] = {}
    for folders in by_way.values():
        for first in range(0, len(folders), _AT_ONCE):
            some = folders[first : first + _AT_ONCE]
            words = [word for name in some for word in (ways[name][1], str(here[name].position))]
            with contextlib.suppress(ExecutorError, OSError, binascii.Error):
                answers = ways[some[0]][0].execute(posix(_READ, str(most), *words)).split(b"\n")
                found |= {name: base64.b64decode(answer) for name, answer in zip(some, answers, strict=False)}
    return found


def _what_is_here(folder: Path) -> _Here:
    with contextlib.suppress(OSError), os.fdopen(open_inside(folder, FILE), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - _CONTEXT, 0))
        return _Here(size, file.read(size - file.tell()))
    return _Here()


def fetch_now(wanted: Iterable[tuple[Callable[[], Way], Path]], most: int = _MOST) -> dict[Path, tuple[int, bytes]]:
    """Find the ways, and return what running tasks have added; see :func:`fetch_running`.

    Tasks whose engine has no way to them, or that write into their folder here, are left out.
    """
    ways: list[tuple[Way, Path]] = []
    for find, folder in wanted:
        with contextlib.suppress(NemoRunError):
            tunnel, there = find()
            if Path(there) != folder.parent:
                ways.append(((tunnel, there), folder))
    return fetch_running(ways, most)


def take_in(folder: Path, start: int, piece: bytes) -> None:
    """Replace the file of metrics in a folder from a byte on."""
    with contextlib.suppress(OSError), os.fdopen(open_inside(folder, FILE, os.O_RDWR | os.O_CREAT), "r+b") as file:
        file.truncate(start)
        file.seek(start)
        file.write(piece)


def live_metrics(
    store: ExperimentStore, jobs: Sequence[JobDefinition], rank: int = 0, member: int = 0
) -> dict[str, Metrics]:
    """Return the metrics of jobs, by their ids; those of rank 0 of tasks that run elsewhere as they are there now.

    Args:
        store: The experiment.
        jobs: The jobs.
        rank: The rank that logged them.
        member: The member of a group.
    """
    tasks = {job.id: job.tasks[member] for job in jobs}
    folders = {name: artifacts.folder_of(store, task) for name, task in tasks.items()}
    with Backends() as backends:
        running = [job for job in jobs if not rank and store.is_ours and _has_begun(store, job, member)]
        wanted = [(_way(store, backends, tasks[job.id]), folders[job.id]) for job in running]
        found = fetch_now(wanted, _ALL) if wanted else {}
    return {name: task_metrics(store, task, rank, *found.get(folders[name], ())) for name, task in tasks.items()}


def _has_begun(store: ExperimentStore, job: JobDefinition, member: int) -> bool:
    """Check whether a task may run now."""
    progress = store.read_progress(job).tasks[member]
    return bool(progress.handle) and not progress.state.is_final


def _way(store: ExperimentStore, backends: Backends, task: TaskDefinition) -> Callable[[], Way]:
    def find() -> Way:
        plan = store.read_plan(task)
        return backends.of(plan).reach(plan)

    return find


class MetricsFollower:
    """Brings the metrics of some running tasks here, again and again, beside the controller's loop."""

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._threads: ThreadPoolExecutor | None = None
        self._round: Future[dict[Path, tuple[int, bytes]]] | None = None
        self._asked: dict[Path, tuple[DrivenTask, int]] = {}
        self._began = self._due = 0.0

    def follow(self, tasks: Iterable[DrivenTask], way: Callable[[DrivenTask], Callable[[], Way]]) -> None:
        """Take in what the last round has brought, if it is over, and begin another one when it is time.

        Args:
            tasks: The tasks that run now.
            way: Finds how to get to one of them.
        """
        now = time.monotonic()
        if self._round is not None and self._round.done():
            self._take(self._round.result())
            self._round, self._due = None, now + max(_PAUSE, _SHARE * (now - self._began))
        if self._round is None and now >= self._due and (some := list(tasks)):
            self._asked = {
                artifacts.folder_of(self._store, one.definition): (one, one.progress.attempt) for one in some
            }
            self._began = now
            wanted = [(way(task), folder) for folder, (task, _) in self._asked.items()]
            self._round = self._thread().submit(fetch_now, wanted)

    def _thread(self) -> ThreadPoolExecutor:
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(1, thread_name_prefix="nemo-run metrics")
        return self._threads

    def _take(self, found: Mapping[Path, tuple[int, bytes]]) -> None:
        """Take in what is new of tasks that still run; of others, all is collected."""
        for folder, (start, piece) in found.items():
            task, attempt = self._asked[folder]
            if task.phase is Phase.RUNNING and task.progress.attempt == attempt:
                take_in(folder, start, piece)

    def close(self) -> None:
        """Wait for what has begun."""
        if self._threads is not None:
            self._threads.shutdown()
