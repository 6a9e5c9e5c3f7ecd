"""The log of a container, read through the API of its cluster and resumed after interruptions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.errors import EngineUnreachableError

_PIECE = 1 << 18
_MOST_BREAKS = 10  # connections in a row that may break
_CHUNK = 16384  # bytes after which a container runtime cuts a line
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d) ")
_LONGEST_STAMP = 36


class ContainerLog:
    """The output of a container, byte for byte, as far as its node still has it.

    The node gives every line a time. The next piece is requested from the time of the last line that was read; as many
    bytes as were read of lines of that time are dropped, so that no line is lost and none comes twice.
    """

    def __init__(
        self, client: KubernetesClient, namespace: str, pod: str, container: str, tail: int | None = None
    ) -> None:
        """Read from the beginning, or from the last ``tail`` lines on."""
        self._client = client
        self._path = f"{client.path('v1', 'Pod', namespace, pod)}/log"
        self._container = container
        self._tail = tail
        self._open = contextlib.ExitStack()
        self._answer: Iterator[bytes] | None = None
        self._lines = _StampedLines()

    def read(self) -> bytes:
        """Return the next piece; empty if there is nothing new now.

        Raises:
            EngineUnreachableError: Connections break without any data between.
        """
        fresh: list[bytes] = []
        breaks = 0
        while sum(map(len, fresh)) < _PIECE and (self._answer or self._ask()):
            data = self._next_data()
            if data is None:  # it broke in the middle: the rest is requested again
                self._lines.begin_answer()
                self.close()
                breaks += 1
                if any(fresh):
                    break
                if breaks > _MOST_BREAKS:
                    raise EngineUnreachableError(f"the log of {self._path} breaks off again and again")
            elif data:
                fresh.append(self._lines.feed(data))
            else:
                fresh.append(self._lines.end_of_answer())
                self.close()
                break
        return b"".join(fresh)

    def _next_data(self) -> bytes | None:
        """Return the next data of the answer: empty at its end, ``None`` if the connection breaks."""
        import urllib3

        try:
            return next(self._answer, b"") if self._answer else b""
        except urllib3.exceptions.HTTPError:
            return None

    def _ask(self) -> bool:
        """Request the log from the last line on, and return whether there is one."""
        params = {"container": self._container, "timestamps": "true"}
        if self._lines.last:
            params["sinceTime"] = self._lines.last.decode()
        elif self._tail is not None:
            params["tailLines"] = str(self._tail)
        answer = self._open.enter_context(self._client.stream(self._path, params, absent=(400, 404)))
        if answer is None:
            self.close()
            return False
        self._answer = answer.stream(_PIECE)  # in pieces: if it breaks, the data before is not lost
        return True

    def close(self) -> None:
        """Close the connection."""
        self._open.close()
        self._answer = None


class _StampedLines:
    r"""Removes the times of lines, and drops bytes that were returned before.

    >>> lines = _StampedLines()
    >>> lines.feed(b"2030-01-01T00:00:00.1Z a\n2030-01-01T00:00:00.2Z b") + lines.end_of_answer()
    b'a\nb'
    >>> lines.feed(b"2030-01-01T00:00:00.1Z a\n2030-01-01T00:00:00.2Z b\n2030-01-01T00:00:00.2Z c\n")
    b'\nc\n'
    """

    def __init__(self) -> None:
        self.last = b""  # time of the last line that was returned, as it was written
        self._key = (b"", b"")  # the same, to be compared
        self._given = 0  # bytes of lines of that time that were returned
        self.begin_answer()

    def begin_answer(self) -> None:
        """Begin an answer, and drop the rest of the one before."""
        self._rest = b""
        self._column: int | None = None  # bytes since the line began; None before its time
        self._skip = self._given

    def end_of_answer(self) -> bytes:
        """Return the rest of the answer, which has ended, and begin the next one."""
        rest = self._emit(self._rest) if self._column is not None else b""  # half a time is requested again
        self.begin_answer()
        return rest

    def feed(self, data: bytes) -> bytes:
        """Return what is new in the next piece of an answer."""
        data, out, at = self._rest + data, [], 0
        while at < len(data):
            start = self._read_time(data, at)
            if start is None:
                break
            column = self._column or 0
            end = data.find(b"\n", start) + 1
            cut = start + _CHUNK - column % _CHUNK
            end, ended = (end, True) if 0 < end <= cut else (min(cut, len(data)), False)
            out.append(self._emit(data[start:end]))
            self._column = None if ended else column + end - start
            at = end
        self._rest = data[at:]
        return b"".join(out)

    def _read_time(self, data: bytes, at: int) -> int | None:
        """Read the time where a line begins or was cut; return where the text begins, ``None`` for half a time."""
        if self._column is not None and (self._column == 0 or self._column % _CHUNK):
            return at
        stamp = _STAMP.match(data, at)
        if stamp is None and len(data) - at < _LONGEST_STAMP:
            return None
        if stamp is not None:
            self._new_time(stamp)
        elif self._column is None:
            self._seen = True  # this is not of the container, but a message of the node
        self._column = self._column or 0
        return stamp.end() if stamp is not None else at

    def _new_time(self, stamp: re.Match[bytes]) -> None:
        key = (stamp[1], (stamp[2] or b"").ljust(9, b"0"))
        if key > self._key:
            self._key, self.last, self._given, self._skip = key, stamp[0].rstrip(), 0, 0
            self._seen = False
        else:
            self._seen = key < self._key

    _seen = False  # the current line is older than the last one that was returned

    def _emit(self, data: bytes) -> bytes:
        if self._seen:
            return b""
        fresh = data[self._skip :]
        self._skip -= len(data) - len(fresh)
        self._given += len(fresh)
        return fresh
