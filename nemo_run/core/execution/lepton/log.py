"""Logs on Lepton: followed while a job runs, and saved when it has ended.

The service gives the log of one replica, from its beginning, for as long as the connection holds. So who was cut off
asks again and skips what has come already.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from nemo_run.core.execution.lepton.client import LeptonClient, after, replica_id
from nemo_run.core.execution.lepton.script import Output, ReplicaEnd
from nemo_run.core.execution.shared.follower import Follower
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.files import replacing
from nemo_run.core.rest import Pieces
from nemo_run.errors import EngineUnreachableError, ExecutorError

_CALM = 0.3  # seconds without news, after which all is read that there is now
_SOON, _NOTHING = float("inf"), float("-inf")  # in place of the time of the last news: it is asked for; there is none
_PAUSE = 1.0  # seconds before a log is asked for again


def save(client: LeptonClient, name: str, rank: int, path: Path) -> ReplicaEnd | None:
    """Save all that a replica of an ended job wrote; what its last line says, where it had the time to write one.

    Raises:
        EngineUnreachableError: The service does not answer now.
    """
    output = Output(name)
    with replacing(path) as f:
        for piece in client.whole_log(name, rank, lambda: output.end is not None):
            f.write(output.feed(piece))
        f.write(output.rest())
    return output.end


class ReplicaLog:
    """The log of one replica of a job that may still run."""

    def __init__(
        self, client: LeptonClient, name: str, rank: int, saved: Callable[[], Path | None], tail: int | None
    ) -> None:
        """Describe the log; nothing is asked for.

        Args:
            client: The workspace of the job.
            name: The job.
            rank: Rank of the replica.
            saved: Gives the file with the whole log, once the job has ended.
            tail: Begin with the last so many lines.
        """
        self._client, self._name, self._rank, self._saved, self._tail = client, name, rank, saved, tail
        self._follower: Follower | None = None
        self._pieces: Pieces | None = None
        self._news = _SOON  # when something came last
        self._caught_up = False
        self._given = 0
        self._file: FileLog | None = None

    def read(self) -> bytes:
        """Return the next piece; empty where there is nothing new now."""
        if self._file is None and (path := self._saved()):
            self._stop()
            self._file = FileLog(path, None if self._given else self._tail, self._given)
        if self._file is not None:
            return self._file.read()
        if self._follower is None:
            self._follower = Follower(self._receive, f"log {self._name}")
        return self._next(self._follower) if self._tail is None else self._last_lines(self._follower, self._tail)

    def is_complete(self) -> bool:
        """Return whether all was read, and nothing more will come."""
        return self._follower is not None and self._follower.is_over

    def _next(self, follower: Follower) -> bytes:
        while True:
            data = follower.read(0 if self._caught_up else _CALM / 4)
            self._given += len(data)
            if data or self._caught_up or follower.is_over:
                return data
            self._caught_up = time.monotonic() - self._news > _CALM

    def _last_lines(self, follower: Follower, count: int) -> bytes:
        self._tail, kept = None, b""
        while piece := self._next(follower):
            lines = (kept + piece).splitlines(keepends=True) if count else []
            kept = b"".join(lines[-count:])
        return kept

    def _stop(self) -> None:
        if self._follower is not None:
            self._follower.close()
        if self._pieces is not None:
            self._pieces.cut()

    def close(self) -> None:
        """Follow no longer."""
        self._stop()
        if self._file is not None:
            self._file.close()

    # in the thread

    def _receive(self, closed: threading.Event) -> Generator[bytes, None, None]:
        output, got = Output(self._name), 0
        while output.end is None:
            self._news = _SOON
            with contextlib.suppress(ExecutorError):  # it goes on where it was, once the service answers again
                there = self._client.replicas(self._name).get(self._rank)
                if there:
                    got = yield from self._receive_from(replica_id(there), output, got)
            self._news = _NOTHING
            if output.end is None and closed.wait(_PAUSE):
                return

    def _receive_from(self, replica: str, output: Output, got: int) -> Generator[bytes, None, int]:
        """Give what comes after so many bytes, while the connection holds; the bytes there are then."""
        with self._client.log(self._name, replica) as pieces:
            self._pieces = pieces
            self._news = time.monotonic()
            with contextlib.suppress(EngineUnreachableError):
                for piece in after(pieces, got):
                    got += len(piece)
                    yield output.feed(piece)
                    self._news = time.monotonic()
                    if output.end:
                        break
            return got


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
