"""Reading a log that may still grow, in pieces of bounded size."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from nemo_run.config.escaping import escaped
from nemo_run.core.inside import open_inside
from nemo_run.errors import ExecutorError

_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 20  # bytes for whose end is waited


class LogReader(Protocol):
    """A log, read from where the last read ended.

    One that joins the logs of the tasks of an array has an attribute ``source``: which of them wrote the last piece.
    """

    def read(self) -> bytes:
        """Return the next piece, at most a megabyte; empty where there is nothing new now."""
        ...

    def close(self) -> None:
        """Close the log."""
        ...


class FileLog:
    """A log file, which need not exist yet."""

    def __init__(self, path: Path, tail: int | None = None, start: int = 0, top: Path | None = None) -> None:
        """Read a log file.

        Args:
            path: The file.
            tail: Begin with the last so many lines; with the first where it is ``None``.
            start: Begin with this byte, where ``tail`` says nothing.
            top: Folder below which no link is followed on the way to the file; by default the folder that it is in.
        """
        self._path = path
        self._top = top or path.parent
        self._tail = tail
        self._start = start
        self._fd: int | None = None

    def read(self) -> bytes:
        """Return the next piece; empty where there is nothing new now."""
        if self._fd is None:
            try:
                self._fd = self._opened()
            except FileNotFoundError:
                return b""
            start = self._start if self._tail is None else tail_offset(self._fd, self._tail)
            os.lseek(self._fd, start, os.SEEK_SET)
        return os.read(self._fd, 4 * _BLOCK)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _opened(self) -> int:
        """Open the file; a pipe or a device in its place might be waited for without end, a link leads elsewhere."""
        try:
            return open_inside(self._top, self._path.relative_to(self._top))
        except FileNotFoundError:
            raise
        except OSError as e:
            raise ExecutorError(f"{self._path}: {e.strerror}, and cannot be read as a log") from e


class EscapedLog:
    """The log of somebody else: what would act on a terminal is shown as escapes, but for ends of lines."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def read(self) -> bytes:
        """Return the next piece, at most ten times as long as in the log."""
        piece = self._log.read()
        text = self._decoder.decode(piece, final=not piece)
        return "\r".join(map(escaped, text.split("\r"))).encode()

    def close(self) -> None:
        """Close the log."""
        self._log.close()


def merged(logs: Mapping[int, LogReader]) -> LogReader:
    """Return the logs of nodes as one, each line with the number of its node; the log of a single node is as it is."""
    return MergedLog(logs) if len(logs) != 1 else next(iter(logs.values()))


class MergedLog:
    """The logs of nodes, line by line, each with the number of its node."""

    def __init__(self, logs: Mapping[int, LogReader]) -> None:
        """Begin with these logs, by the numbers of their nodes."""
        self._logs = list(logs.items())
        self._rests = dict.fromkeys(logs, b"")

    def read(self) -> bytes:
        """Return the next lines of one of them; those of each come in turn."""
        for turn, (node, log) in enumerate(self._logs):
            if lines := self._lines_of(node, log):
                self._logs = self._logs[turn + 1 :] + self._logs[: turn + 1]
                return lines
        return b""

    def _lines_of(self, node: int, log: LogReader) -> bytes:
        while True:
            piece = log.read()
            data = self._rests[node] + piece
            if not piece and data:
                data += b"\n"  # half a line: what comes of it later is a line of its own
            end = _end_of_lines(data)
            self._rests[node] = data[end:]
            if end or not piece:
                prefix = f"[{node}] ".encode()
                return b"".join(prefix + line for line in split_lines(data[:end]))

    def close(self) -> None:
        """Close them all."""
        for _, log in self._logs:
            log.close()


def _end_of_lines(data: bytes) -> int:
    """Return where the last whole line ends; a line that is too long to wait for its end is whole."""
    end = data.rfind(b"\n") + 1
    return len(data) if not end and len(data) > _LONGEST_LINE else end


def split_lines(data: bytes) -> list[bytes]:
    r"""Return the lines of a log, each with its end.

    >>> split_lines(b"a\r\nb")
    [b'a\r\n', b'b']
    """
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def tail_offset(fd: int, lines: int) -> int:
    """Return where the last so many lines of a file begin. Reads from its end, a block at a time."""
    position = os.fstat(fd).st_size
    wanted = lines + 1
    if lines <= 0:
        return position
    if position and os.pread(fd, 1, position - 1) != b"\n":
        wanted -= 1  # the last line has no end yet: one line end less belongs to those that are wanted
    while position:
        start = max(position - _BLOCK, 0)
        block = os.pread(fd, position - start, start)
        count = block.count(b"\n")
        if count >= wanted:
            index = len(block)
            for _ in range(wanted):
                index = block.rindex(b"\n", 0, index)
            return start + index + 1
        wanted -= count
        position = start
    return 0
