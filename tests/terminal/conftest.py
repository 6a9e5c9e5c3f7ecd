"""A terminal of a given width; what it shows is compared with a file that a person can read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

from tests.support import eventually, no_process_left as no_process_left, work as work

CAPTURES = Path(__file__).parent / "captures"
_TIME = r"(?:\d\n?){8}_\n?(?:\d\n?){5}\d"  # in an id, which may go on in the next line
_CHANGING = (
    (r"(?m)^\d\d:\d\d:\d\d ", "12:34:56 "),
    (r"(?m)(?<=  )(\d+:\d\d):\d\d", r"\1:07"),
)


# makes the terminal that of the program's session, so that Ctrl-C reaches it
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, argv: list[str], columns: int, lines: int = 60) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(theirs)

    def look(self) -> str:
        """What the terminal shows now."""
        while select.select([self._ours], [], [], 0)[0]:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the program has ended
                break
            if not data:
                break
            self._stream.feed(data)
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip() + "\n"

    def shows(self, pattern: str) -> str:
        """Wait until something is shown; the whole screen then."""
        return eventually(lambda: re.search(pattern, shown := self.look()) and shown, f"{pattern!r} is not shown")

    def type(self, keys: str) -> None:
        """Type something."""
        os.write(self._ours, keys.encode())

    def end(self) -> str:
        """Wait for the end of the program; the screen then."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            self.look()
            time.sleep(0.01)
        return self.look()

    def close(self) -> None:
        """Take the terminal away."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(work: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals."""
    opened: list[Terminal] = []

    def start(*argv: str, columns: int, lines: int = 60) -> Terminal:
        program = argv if argv[0] != "nemorun" else (sys.executable, "-m", "nemo_run", *argv[1:])
        opened.append(Terminal(list(program), columns, lines))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def _same_time(found: re.Match[str]) -> str:
    digits = iter("20260102_030405")
    return "".join("\n" if c == "\n" else next(digits) for c in found[0])


def same_as_captured(name: str, shown: str) -> None:
    """Compare a screen with the file of this name; ``UPDATE_CAPTURES=1`` writes it anew, for a person to read."""
    shown = re.sub(_TIME, _same_time, shown)
    for pattern, text in _CHANGING:
        shown = re.sub(pattern, text, shown)
    file = CAPTURES / f"{name}.txt"
    if os.environ.get("UPDATE_CAPTURES"):
        file.write_text(shown)
    assert shown == file.read_text()
