"""Logs on Lepton: followed while a job runs, and saved when it has ended.

The service gives the log of one replica, from its beginning, for as long as the connection holds. So who was cut off
asks again and skips what has come already.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nemo_run.core.execution.lepton.client import LeptonClient, after, replica_id
from nemo_run.core.execution.lepton.script import End, Output
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.rest import Pieces
from nemo_run.errors import EngineUnreachableError, ExecutorError

_PIECE = 1 << 16
_WAITING = 64  # pieces that wait to be read at most
_CALM = 0.3  # seconds without news, after which all is read that there is now
_SOON, _NOTHING = float("inf"), float("-inf")  # in place of the time of the last news: it is asked for; there is none
_PAUSE = 1.0  # seconds before a log is asked for again


def save(client: LeptonClient, name: str, rank: int, path: Path) -> End | None:
    """Save all that a replica of an ended job wrote; what its last line says, where it had the time to write one.

    Raises:
        EngineUnreachableError: The service does not answer now.
    """
    output = Output(name)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            for piece in client.whole_log(name, rank, lambda: output.end is not None):
                f.write(output.feed(piece))
            f.write(output.rest())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return output.end


class ReplicaLog:
    """The log of one replica of a job that may still run. A thread follows it; the bytes wait in a bounded queue."""

    def __init__(
        self, client: LeptonClient, name: str, rank: int, saved: Callable[[], Path | None], tail: int | None
    ) -> None:
        """Follow a log.

        Args:
            client: Where the job is.
            name: Its name.
            rank: Rank of the replica.
            saved: Gives the file with the whole log, once the job has ended.
            tail: Begin with the last so many lines.
        """
        self._client, self._name, self._rank, self._saved, self._tail = client, name, rank, saved, tail
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
                there = self._client.replicas(self._name).get(self._rank)
                if there:
                    got = self._pass_on(replica_id(there), output, got)
            self._news = _NOTHING
            if self._closed.wait(_PAUSE):
                return

    def _pass_on(self, replica: str, output: Output, got: int) -> int:
        """Pass on what comes after so many bytes, while the connection holds; the bytes there are then."""
        with self._client.log(self._name, replica) as pieces:
            self._pieces = pieces
            self._news = time.monotonic()
            with contextlib.suppress(EngineUnreachableError):
                for piece in after(pieces, got):
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


def print_log(client: LeptonClient, name: str) -> None:
    """Print the log of a job's first replica until it ends."""
    log = ReplicaLog(client, name, 0, lambda: None, None)
    try:
        while not log.is_complete():
            sys.stdout.write(log.read().decode("utf-8", "replace"))
            sys.stdout.flush()
            time.sleep(_CALM)
    finally:
        log.close()
