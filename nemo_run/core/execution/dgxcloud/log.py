"""Reading the log of an attempt on DGX Cloud: from its files, or from its pods while these are there."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nemo_run.core.execution.shared.attempt_files import open_log
from nemo_run.core.execution.shared.follower import Follower
from nemo_run.core.execution.shared.log_reader import FileLog, LogReader, merged, tail_offset
from nemo_run.core.rest import Pieces
from nemo_run.errors import EngineUnreachableError, ExecutorError

_WAIT = 0.2  # seconds in which something new may come from a pod that runs
_FIRST = 60.0  # seconds in which the answer begins, or the rest comes of what has ended
_AGAIN = 1.0  # seconds before a pod is looked for, or a broken connection is made, again
_BLOCK = 1 << 18
_NOT_THERE = re.compile(r": (400|404) ")  # it waits to start, or is gone


def node_log(attempt: Path, node: int) -> Path:
    """Return the file with what one node wrote."""
    return attempt / (f"log.{node}" if node else "log")


def open_files(attempt: Path, nodes: int, rank: int | None, tail: int | None) -> LogReader:
    """Return the log of an attempt, or of one rank or node of it, from its files."""
    if nodes == 1:
        return open_log(attempt, rank, tail)
    return merged({node: FileLog(node_log(attempt, node), tail) for node in which_nodes(nodes, rank)})


def which_nodes(nodes: int, rank: int | None) -> Sequence[int]:
    """Return the nodes whose logs are wanted.

    Raises:
        ExecutorError: There is no such node.
    """
    if rank is None:
        return range(nodes)
    if not 0 <= rank < nodes:
        raise ExecutorError(f"rank {rank} has no log; ranks with one: {', '.join(map(str, range(nodes)))}")
    return [rank]


class LogToCome:
    """The log of an attempt that is being submitted."""

    def __init__(self, opened: Callable[[], LogReader | None]) -> None:
        self._opened = opened
        self._log: LogReader | None = None

    def read(self) -> bytes:
        """Return the next piece; empty while there is no log."""
        if self._log is None:
            self._log = self._opened()
        return self._log.read() if self._log else b""

    def close(self) -> None:
        """Close it, if it is there."""
        if self._log:
            self._log.close()


class Source(Protocol):
    """An attempt whose log is read."""

    def pod(self, node: int) -> str | None:
        """Return the name of the pod of a node, where there is one now."""
        ...

    def so_far(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod has written."""
        ...

    def follow(self, pod: str) -> AbstractContextManager[Pieces]:
        """Return what a pod writes, until it ends."""
        ...

    def has_ended(self) -> bool:
        """Return whether the attempt has ended."""
        ...

    def files(self) -> Path:
        """Bring the files of the attempt, which has ended, here; their folder."""
        ...


class PodLog:
    """What one node writes: from its pod while that is there, then from the files of the attempt.

    Where the connection to the pod breaks, another is made, and what came before is passed over.
    """

    def __init__(self, source: Source, node: int, tail: int | None) -> None:
        """Describe the log; nothing is asked for.

        Args:
            source: The attempt.
            node: Which node.
            tail: Begin with the last so many lines.
        """
        self._source, self._node, self._tail = source, node, tail
        self._follower: Follower | None = None
        self._connected = threading.Event()
        self._is_whole = False  # all that the pod has written was received
        self._offsets: dict[str, int] = {}  # by pod: how much of it has arrived here
        self._pieces: Pieces | None = None
        self._rest: LogReader | None = None
        self._again = 0.0

    def read(self) -> bytes:
        """Return the next piece; empty where there is nothing new now."""
        if self._rest is not None:
            return self._rest.read()
        if self._follower is None:
            if time.monotonic() < self._again and not self._source.has_ended():
                return b""
            self._follower = Follower(self._receive, f"log of node {self._node}")
        follower = self._follower
        piece = self._next(follower)
        if piece or not follower.is_over:
            return piece
        self._follower, self._again = None, time.monotonic() + _AGAIN
        if follower.error:
            raise follower.error
        if not self._source.has_ended():
            return b""  # it has not begun, or is going to begin again
        self._rest = _Nothing() if self._is_whole else self._files()
        return self._rest.read()

    def close(self) -> None:
        """Follow no longer."""
        if self._follower is not None:
            self._follower.close()
        if self._pieces is not None:
            self._pieces.cut()
        if self._rest is not None:
            self._rest.close()

    def _next(self, follower: Follower) -> bytes:
        """Return what arrives next; leave the thread time to connect, and to bring the rest of an ended attempt."""
        deadline = time.monotonic() + _FIRST
        while True:
            connected = self._connected.is_set()
            piece = follower.read(_WAIT)
            if piece or follower.is_over or time.monotonic() > deadline:
                return piece
            if connected and not self._source.has_ended():
                return b""

    def _files(self) -> LogReader:
        """Return what the pods did not tell before they were gone."""
        path, at = node_log(self._source.files(), self._node), sum(self._offsets.values())
        return FileLog(path, self._tail) if not at and self._tail is not None else _FileFrom(path, at)

    # in the thread

    def _receive(self, closed: threading.Event) -> Generator[bytes, None, None]:
        while not closed.is_set():
            try:
                self._is_whole = yield from self._receive_from_pod()
            except EngineUnreachableError:
                if not self._connected.is_set():
                    raise
                closed.wait(_AGAIN)
            except ExecutorError as e:
                if not _NOT_THERE.search(str(e)):
                    raise
                return
            else:
                return

    def _receive_from_pod(self) -> Generator[bytes, None, bool]:
        """Give all that the pod writes; whether there was a pod."""
        pod = self._source.pod(self._node)
        if pod is None:
            return False
        if self._tail is not None and pod not in self._offsets:
            yield from self._receive_tail(pod, self._tail)
        with self._source.follow(pod) as pieces:
            self._pieces = pieces
            skip = self._offsets.setdefault(pod, 0)
            self._connected.set()
            for piece in pieces:
                new, skip = piece[skip:], max(skip - len(piece), 0)
                self._offsets[pod] += len(new)
                yield new
        return True

    def _receive_tail(self, pod: str, lines: int) -> Generator[bytes, None, None]:
        with tempfile.TemporaryFile() as file:
            with self._source.so_far(pod) as pieces:
                for piece in pieces:
                    file.write(piece)
            file.flush()
            self._offsets[pod] = file.tell()
            file.seek(tail_offset(file.fileno(), lines))
            while piece := file.read(_BLOCK):
                yield piece


class _FileFrom:
    """A file that does not grow any more, from some place on."""

    def __init__(self, path: Path, at: int) -> None:
        self._file = path.open("rb") if path.exists() else None
        if self._file:
            self._file.seek(at)

    def read(self) -> bytes:
        """Return the next piece."""
        return self._file.read(_BLOCK) if self._file else b""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class _Nothing:
    """A log of which all has been read."""

    def read(self) -> bytes:
        """Return nothing."""
        return b""

    def close(self) -> None:
        """Do nothing."""
