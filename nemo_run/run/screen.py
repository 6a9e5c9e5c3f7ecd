"""The screen that several writers share: logs of tasks, of which some draw progress bars, and our own lines."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from nemo_run.run.terminal import columns_of, cut_middle, in_terminal, say

_AGAIN = 10.0  # seconds after which a progress bar is a line of its own again, where it cannot be drawn over
_ERASE = b"\r\x1b[K"

Write = Callable[[bytes], None]


def write_out(data: bytes) -> None:
    """Write to standard output, whatever stands in for it."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        sys.stdout.flush()
        buffer.write(data)
    sys.stdout.flush()


class Screen:
    """Keeps progress bars of tasks, which end in a carriage return, from running into the lines of others.

    In a terminal, a bar is the last line, and is erased before anything else is written. Elsewhere only what a bar was
    at last is written, as a line; while it moves, again now and then.
    """

    def __init__(self, write: Write = write_out, room: int | None = None) -> None:
        """Share the screen.

        Args:
            write: Writes to standard output.
            room: Columns of the terminal; those of standard output by default.
        """
        self._write = write
        self._room = columns_of(sys.stdout) if room is None else room
        self._lock = threading.Lock()
        self._bar = False  # the last line of the terminal is a progress bar

    def say(self, text: str, stream: TextIO) -> None:
        """Print a line of our own."""
        with self._lock:
            if self._bar and in_terminal(stream):
                self._write(_ERASE)
                self._bar = False
            say(text, stream)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody else write for a while: a question is not drawn over."""
        with self._lock:
            yield
            self._bar = False

    def prefix(self, task: str, rank: int) -> str:
        """Return what the lines of a task begin with; in a terminal, its name takes a third of the room at most."""
        name = task if self._room is None else cut_middle(task, max(self._room // 3, 12))
        return f"{name}/{rank} "

    def writer(self) -> Writer:
        """Return what writes the log of one task."""
        return Writer(self.show, draws=self._room is not None)

    def show(self, lines: bytes, bar: bytes) -> None:
        """Write whole lines, and draw what a progress bar is now, if anything."""
        with self._lock:
            data = (_ERASE if self._bar else b"") + lines
            if bar and self._room is not None:
                text = bar.decode("utf-8", "replace")
                data += (b"" if self._bar and not lines else _ERASE) + cut_middle(text, self._room - 1).encode()
            self._bar = bool(bar)
            if data:
                self._write(data)


class Writer:
    """Writes the log of one task, which comes in whole lines and whole states of a progress bar."""

    def __init__(self, show: Callable[[bytes, bytes], None], *, draws: bool) -> None:
        self._show = show
        self._draws = draws
        self._bar = b""
        self._shown = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Write more of the log."""
        if b"\r" not in data and not self._bar:
            self._show(data, b"")
            return
        lines = bytearray()
        for line in data.splitlines(keepends=True):
            if line.endswith(b"\r"):
                self._bar = line[:-1]
            else:
                lines += line
                self._bar = b""
        if self._draws:
            self._show(bytes(lines), self._bar)
        else:
            self._show(bytes(lines) + self._due(), b"")

    def _due(self) -> bytes:
        """Return the progress bar as a line, when it is time again."""
        now = time.monotonic()
        if not self._bar or now - self._shown < _AGAIN:
            return b""
        self._shown, bar, self._bar = now, self._bar, b""
        return bar + b"\n"

    def close(self) -> None:
        """Write what a progress bar was at last."""
        if self._bar:
            self._show(self._bar + b"\n", b"")
            self._bar = b""
