"""Reading the log of an attempt on DGX Cloud: from its files, or from its pods while these are there."""

from __future__ import annotations

import contextlib
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemo_run.core.execution.shared.attempt_files import open_log
from nemo_run.core.execution.shared.log_reader import FileLog, LogReader, merged, tail_offset
from nemo_run.core.rest import Pieces
from nemo_run.errors import EngineUnreachableError, ExecutorError

_WAIT = 0.2  # seconds in which something new may come from a pod that runs
_FIRST = 60.0  # seconds in which the answer begins, or the rest comes of what has ended
_AGAIN = 1.0  # seconds before a pod is looked for, or a broken connection is made, again
_PIECES = 64  # that wait to be read; the pod's log is read no faster than we are
_BLOCK = 1 << 18
_NOT_THERE = re.compile(r": (400|404) ")  # it waits to start, or is gone


def node_log(attempt: Path, node: int) -> Path:
    """The file with what one node wrote."""
    return attempt / (f"log.{node}" if node else "log")


def open_files(attempt: Path, nodes: int, rank: int | None, tail: int | None) -> LogReader:
    """The log of an attempt, or of one rank or node of it, from its files."""
    if nodes == 1:
        return open_log(attempt, rank, tail)
    return merged({node: FileLog(node_log(attempt, node), tail) for node in which_nodes(nodes, rank)})


def which_nodes(nodes: int, rank: int | None) -> Sequence[int]:
    """The nodes whose logs are wanted.

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
        """The next piece; empty while there is no log."""
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
        """Name of the pod of a node, where there is one now."""
        ...

    def stream(self, pod: str, *, follow: bool) -> AbstractContextManager[Pieces]:
        """What a pod has written; with ``follow``, until it ends."""
        ...

    def has_ended(self) -> bool:
        """Whether the attempt has ended."""
        ...

    def files(self) -> Path:
        """Bring the files of the attempt, which has ended, here; their folder."""
        ...


@dataclass(frozen=True)
class _End:
    """The end of what a pod tells.

    Attributes:
        complete: It is all that the pod has written.
        error: Why it could not be asked.
    """

    complete: bool = False
    error: Exception | None = None


class PodLog:
    """What one node writes: from its pod while that is there, then from the files of the attempt.

    A thread follows the pod. Where its connection breaks, another is made, and what came before is passed over.
    """

    def __init__(self, source: Source, node: int, tail: int | None) -> None:
        """Describe the log; nothing is asked for.

        Args:
            source: The attempt.
            node: Which node.
            tail: Begin with the last so many lines.
        """
        self._source, self._node, self._tail = source, node, tail
        self._arrived: queue.Queue[bytes | _End] = queue.Queue(_PIECES)
        self._thread: threading.Thread | None = None
        self._closed, self._connected = threading.Event(), threading.Event()
        self._offsets: dict[str, int] = {}  # by pod: how much of it has arrived here
        self._pieces: Pieces | None = None
        self._rest: LogReader | None = None
        self._again = 0.0

    def read(self) -> bytes:
        """The next piece; empty where there is nothing new now."""
        if self._rest is not None:
            return self._rest.read()
        if self._thread is None:
            if time.monotonic() < self._again and not self._source.has_ended():
                return b""
            self._thread = threading.Thread(target=self._follow, name=f"log of node {self._node}", daemon=True)
            self._thread.start()
        arrived = self._next()
        if isinstance(arrived, bytes):
            return arrived
        self._thread, self._again = None, time.monotonic() + _AGAIN
        if arrived.error:
            raise arrived.error
        if not self._source.has_ended():
            return b""  # it has not begun, or is going to begin again
        self._rest = _Nothing() if arrived.complete else self._files()
        return self._rest.read()

    def close(self) -> None:
        """Follow no longer."""
        self._closed.set()
        if self._pieces is not None:
            self._pieces.cut()
        with contextlib.suppress(queue.Empty):
            while True:
                self._arrived.get_nowait()
        if self._rest is not None:
            self._rest.close()

    def _next(self) -> bytes | _End:
        """What arrives next; the thread has time to connect, and to bring the rest where the attempt has ended."""
        deadline = time.monotonic() + _FIRST
        while True:
            connected = self._connected.is_set()
            try:
                return self._arrived.get(timeout=_WAIT)
            except queue.Empty:
                if time.monotonic() > deadline or (connected and not self._source.has_ended()):
                    return b""

    def _files(self) -> LogReader:
        """What the pods did not tell before they were gone."""
        path, at = node_log(self._source.files(), self._node), sum(self._offsets.values())
        return FileLog(path, self._tail) if not at and self._tail is not None else _FileFrom(path, at)

    # in the thread

    def _follow(self) -> None:
        while not self._closed.is_set():
            end = _End()
            try:
                end = _End(complete=self._follow_pod())
            except EngineUnreachableError as e:
                if self._connected.is_set():
                    self._closed.wait(_AGAIN)
                    continue
                end = _End(error=e)
            except ExecutorError as e:
                if not _NOT_THERE.search(str(e)):
                    end = _End(error=e)
            self._put(end)
            return

    def _follow_pod(self) -> bool:
        """Pass on all that the pod writes; whether that is all that there is."""
        pod = self._source.pod(self._node)
        if pod is None:
            return False
        if self._tail is not None and pod not in self._offsets:
            self._pass_tail(pod, self._tail)
        with self._source.stream(pod, follow=True) as pieces:
            self._pieces = pieces
            skip = self._offsets.setdefault(pod, 0)
            self._connected.set()
            for piece in pieces:
                new, skip = piece[skip:], max(skip - len(piece), 0)
                if new and not self._put(new):
                    return False
                self._offsets[pod] += len(new)
        return True

    def _pass_tail(self, pod: str, lines: int) -> None:
        with tempfile.TemporaryFile() as file:
            with self._source.stream(pod, follow=False) as pieces:
                for piece in pieces:
                    file.write(piece)
            file.flush()
            size = file.tell()
            file.seek(tail_offset(file.fileno(), lines))
            while piece := file.read(_BLOCK):
                self._put(piece)
        self._offsets[pod] = size

    def _put(self, what: bytes | _End) -> bool:
        """Hand something over, once there is room; not when nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._arrived.put(what, timeout=_WAIT)
            except queue.Full:
                continue
            return True
        return False


class _FileFrom:
    """A file that does not grow any more, from some place on."""

    def __init__(self, path: Path, at: int) -> None:
        self._file = path.open("rb") if path.exists() else None
        if self._file:
            self._file.seek(at)

    def read(self) -> bytes:
        """The next piece."""
        return self._file.read(_BLOCK) if self._file else b""

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


class _Nothing:
    """A log of which all has been read."""

    def read(self) -> bytes:
        """Nothing."""
        return b""

    def close(self) -> None:
        """Nothing to let go of."""
