"""Logs as files, from which any part can be read: those of experiments, and copies of those that engines keep."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, NamedTuple

from nemo_run.core.execution.backends import Backends
from nemo_run.core.inside import open_inside
from nemo_run.errors import NemoRunError
from nemo_run.run.progress import goes_on
from nemo_run.run.store import ExperimentStore

LARGEST_PIECE = 1 << 20
"""Bytes that are read at a time."""
_PAUSE = 0.3  # seconds between two reads of a log with nothing new
_MOST_FOUND = 500  # lines


class LogName(NamedTuple):
    """Which log is meant."""

    experiment: str
    job: str
    task: int
    attempt: int
    rank: int | None


class Piece(NamedTuple):
    """A part of a log."""

    start: int
    end: int
    size: int
    content: bytes


class Log:
    """One log of a task; a copy of it is made where an engine keeps it."""

    def __init__(self, store: ExperimentStore, name: LogName) -> None:
        """Find a log.

        Raises:
            NemoRunError: There is no such task or attempt.
        """
        definition = store.read_definition()
        job = definition.job(name.job)
        if not 0 <= name.task < len(job.tasks):
            raise NemoRunError(f"job {name.job!r} has no task {name.task}")
        self._store, self._job, self._name = store, job, name
        self._task = job.tasks[name.task]
        self._folder = store.inside(f"{self._task.directory}/attempts/{name.attempt:d}")
        self._copy: IO[bytes] | None = None
        self._stop, self._ended = threading.Event(), threading.Event()
        self.problem = ""

    def close(self) -> None:
        """End the copying."""
        self._stop.set()
        if self._copy is not None:
            self._copy.close()

    def read(self, start: int, count: int = LARGEST_PIECE) -> Piece:
        """Return a part of the log.

        Args:
            start: The byte it begins with; a negative number counts from the end.
            count: How many bytes, at most.
        """
        with self._opened() as fd:
            if fd is None:
                return Piece(0, 0, 0, b"")
            size = os.fstat(fd).st_size
            begin = max(0, size + start) if start < 0 else min(start, size)
            content = _whole(os.pread(fd, max(0, min(count, LARGEST_PIECE)), begin))
            return Piece(begin, begin + len(content), size, content)

    def read_lines(self, start: int, count: int = LARGEST_PIECE) -> Piece:
        """Return a part of the log that begins with a line, where one begins in it."""
        piece = self.read(start, count)
        cut = piece.content.find(b"\n") + 1
        if piece.start == 0 or cut in (0, len(piece.content)) or self.read(piece.start - 1, 1).content == b"\n":
            return piece
        return piece._replace(start=piece.start + cut, content=piece.content[cut:])

    def find(self, text: str, start: int = 0) -> list[tuple[int, str]]:
        """Return where lines begin that contain a text, in capitals or not, and these lines; so many at most.

        Args:
            text: The text.
            start: The byte to begin with.
        """
        wanted, found = text.encode("utf-8", "replace").lower(), []
        with self._opened() as fd:
            if fd is None or not wanted:
                return []
            with os.fdopen(os.dup(fd), "rb") as file:
                file.seek(start)
                place = start
                for line in iter(lambda: file.readline(LARGEST_PIECE), b""):
                    if wanted in line.lower():
                        found.append((place, line[:500].decode("utf-8", "replace").rstrip("\r\n")))
                        if len(found) == _MOST_FOUND:
                            break
                    place += len(line)
        return found

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Open the file; ``None`` where there is none yet."""
        if self._copy is None:
            try:
                fd = open_inside(self._folder, "log") if self._name.rank is None else None
            except OSError:
                fd = None
            if fd is not None:
                try:
                    yield fd
                finally:
                    os.close(fd)
                return
            self._begin_copying()
        yield self._copy.fileno() if self._copy is not None and not self._copy.closed else None

    def _begin_copying(self) -> None:
        progress = self._store.read_progress(self._job).tasks[self._name.task]
        handles = {entry.get("attempt", number): entry["handle"] for number, entry in enumerate(progress.history, 1)}
        handle = {**handles, progress.attempt: progress.handle}.get(self._name.attempt, "")
        if not handle:
            return  # not launched yet
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        if not goes_on(progress, driven=self._store.is_driven()) or handle != progress.handle:
            self._ended.set()
        threading.Thread(target=self._copy_all, args=(handle,), daemon=True).start()

    def _copy_all(self, handle: str) -> None:
        try:
            with Backends() as backends:
                reader = self._store.kept_log(self._task, handle, self._name.rank, None)
                if reader is None:
                    backend = backends.of(self._store.read_plan(self._task))
                    reader = backend.open_log(handle, rank=self._name.rank)
                try:
                    while not self._stop.is_set():
                        if piece := reader.read():
                            self._append(piece)
                        elif self._ended.is_set() or self._stop.wait(_PAUSE):
                            break
                finally:
                    reader.close()
        except (NemoRunError, OSError, ValueError) as error:  # a file that was closed meanwhile is a ValueError
            self.problem = str(error)

    def _append(self, piece: bytes) -> None:
        if self._copy is not None:
            os.write(self._copy.fileno(), piece)


def _whole(content: bytes) -> bytes:
    """Return a piece without the first bytes of a character whose last bytes are yet to come."""
    for back in range(1, min(4, len(content))):
        byte = content[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        return content[:-back] if length > back else content
    return content


class KeptLog(Log):
    """A log among the files of an experiment; engines are not asked for others."""

    def _begin_copying(self) -> None:
        """Do without."""


class Logs:
    """The logs that pages have open; the oldest are closed where there are many."""

    _MOST = 32

    def __init__(self) -> None:
        """Begin with none."""
        self._open: dict[LogName, Log] = {}
        self._lock = threading.Lock()

    def get(self, store: ExperimentStore, name: LogName) -> Log:
        """Return a log, the same one each time."""
        with self._lock:
            log = self._open.pop(name, None) or Log(store, name)
            self._open[name] = log
            while len(self._open) > self._MOST:
                self._open.pop(next(iter(self._open))).close()
            return log

    def close(self) -> None:
        """Close all."""
        for log in self._open.values():
            log.close()
