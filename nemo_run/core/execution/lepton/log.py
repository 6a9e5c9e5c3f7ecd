"""Logs on Lepton: followed while a job runs, and saved when it has ended.

The service gives the log of one replica, from its beginning, for as long as the connection holds. So who was cut off
asks again and skips what has come already.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.execution.lepton.client import Workspace, replica_id
from nemo_run.core.execution.lepton.spec import end_mark
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.rest import Pieces
from nemo_run.errors import EngineUnreachableError, ExecutorError

_PIECE = 1 << 16
_WAITING = 64  # pieces that wait to be read at most
_CALM = 0.3  # seconds without news, after which all is read that there is now
_SOON, _NOTHING = float("inf"), float("-inf")  # in place of the time of the last news: it is asked for; there is none
_SILENCE = 20.0  # seconds to wait for more of a log that is complete
_IN_VAIN = 2  # times that nothing more came, after which a log without a last line is taken to be complete
_PAUSE = 1.0  # seconds before a log is asked for again
_END = re.compile(rb"(\d+) (\d+) (\d+) (\d+)\]")


@dataclass(frozen=True)
class End:
    """What the last line of a replica's log says.

    Attributes:
        exit_code: Exit code of the task.
        started: When it began, in seconds since the epoch.
        ended: When it ended.
        left_artifacts: Whether there are files in the folder of artifacts.
    """

    exit_code: int
    started: float
    ended: float
    left_artifacts: bool


class Output:
    """What a task wrote, taken out of the log of its replica: without the last line, which is ours."""

    def __init__(self, name: str) -> None:
        self._mark = end_mark(name)
        self._held = b""
        self._last: bytes | None = None

    @property
    def end(self) -> End | None:
        """What the last line says, once it has come."""
        match = _END.match(self._last or b"")
        if not match:
            return None
        code, started, ended, left = map(int, match.groups())
        return End(code, started, ended, bool(left))

    def feed(self, data: bytes) -> bytes:
        """What is the task's own of the next piece."""
        if self._last is not None:
            self._last += data
            return b""
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self._held, self._last = b"", data[at + len(self._mark) :]
            return data[:at]
        # The mark may come in two pieces.
        keep = next(
            (n for n in range(min(len(self._mark) - 1, len(data)), 0, -1) if self._mark.startswith(data[-n:])), 0
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held


def _without(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """What comes after so many bytes."""
    for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(0, count - len(piece))


def save(workspace: Workspace, name: str, rank: int, path: Path) -> End | None:
    """Save all that a replica of an ended job wrote; what its last line says, where it had the time to write one.

    Raises:
        EngineUnreachableError: The service does not answer now.
    """
    there = workspace.replicas(name).get(rank)
    output = Output(name)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            if there:
                for piece in _all_pieces(workspace, name, replica_id(there), output):
                    f.write(piece)
            f.write(output.rest())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return output.end


def _all_pieces(workspace: Workspace, name: str, replica: str, output: Output) -> Iterator[bytes]:
    """What an ended replica wrote, however often the connection breaks."""
    got, in_vain = 0, 0
    while output.end is None and in_vain < _IN_VAIN:
        before = got
        with workspace.log(name, replica, _SILENCE) as pieces, contextlib.suppress(EngineUnreachableError):
            for piece in _without(pieces, got):
                got += len(piece)
                yield output.feed(piece)
        in_vain = in_vain + 1 if got == before else 0


class ReplicaLog:
    """The log of one replica of a job that may still run. A thread follows it; the bytes wait in a bounded queue."""

    def __init__(
        self, workspace: Workspace, name: str, rank: int, saved: Callable[[], Path | None], tail: int | None
    ) -> None:
        """Follow a log.

        Args:
            workspace: Where the job is.
            name: Its name.
            rank: Rank of the replica.
            saved: Gives the file with the whole log, once the job has ended.
            tail: Begin with the last so many lines.
        """
        self._workspace, self._name, self._rank, self._saved, self._tail = workspace, name, rank, saved, tail
        self._queue: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._pieces: Pieces | None = None
        self._news = _SOON  # when something came last
        self._caught_up = False
        self._given = 0
        self._file: FileLog | None = None
        self._thread: threading.Thread | None = None

    def read(self) -> bytes:
        """The next piece; empty where there is nothing new now."""
        if self._file is None and (path := self._saved()):
            self._stop()
            self._file = FileLog(path, None if self._given else self._tail, self._given)
        if self._file is not None:
            return self._file.read()
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name=f"nemo-run log {self._name}", daemon=True)
            self._thread.start()
        return self._next() if self._tail is None else self._last_lines(self._tail)

    def is_complete(self) -> bool:
        """Whether all was read, and nothing more will come."""
        return self._thread is not None and not self._thread.is_alive() and self._queue.empty()

    def _next(self) -> bytes:
        while True:
            try:
                data = self._queue.get(block=not self._caught_up, timeout=_CALM / 4)
            except queue.Empty:
                self._caught_up = self._caught_up or time.monotonic() - self._news > _CALM
                if self._caught_up:
                    return b""
            else:
                self._given += len(data)
                return data

    def _last_lines(self, count: int) -> bytes:
        self._tail, kept = None, b""
        while piece := self._next():
            lines = (kept + piece).splitlines(keepends=True) if count else []
            kept = b"".join(lines[-count:])
        return kept

    def _follow(self) -> None:
        output, got = Output(self._name), 0
        while output.end is None:
            self._news = _SOON
            with contextlib.suppress(ExecutorError):  # it goes on where it was, once the service answers again
                there = self._workspace.replicas(self._name).get(self._rank)
                if there:
                    got = self._pass_on(replica_id(there), output, got)
            self._news = _NOTHING
            if self._closed.wait(_PAUSE):
                return

    def _pass_on(self, replica: str, output: Output, got: int) -> int:
        """Pass on what comes after so many bytes, while the connection holds; the bytes there are then."""
        with self._workspace.log(self._name, replica) as pieces:
            self._pieces = pieces
            self._news = time.monotonic()
            with contextlib.suppress(EngineUnreachableError):
                for piece in _without(pieces, got):
                    got += len(piece)
                    self._put(output.feed(piece))
                    self._news = time.monotonic()
                    if output.end or self._closed.is_set():
                        break
            return got

    def _put(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            while not self._closed.is_set():
                try:
                    self._queue.put(data[start : start + _PIECE], timeout=0.2)
                    break
                except queue.Full:
                    continue

    def _stop(self) -> None:
        self._closed.set()
        if self._pieces is not None:
            self._pieces.cut()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def close(self) -> None:
        """Let go of the log."""
        self._stop()
        if self._file is not None:
            self._file.close()


def print_log(workspace: Workspace, name: str) -> None:
    """Print the log of a job's first replica until it ends."""
    log = ReplicaLog(workspace, name, 0, lambda: None, None)
    try:
        while not log.is_complete():
            sys.stdout.write(log.read().decode("utf-8", "replace"))
            sys.stdout.flush()
            time.sleep(_CALM)
    finally:
        log.close()
