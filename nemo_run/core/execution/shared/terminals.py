"""This terminal, handed to a program that runs elsewhere."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable, Iterator

SHELL = ("/bin/sh", "-c", "exec $(command -v bash || echo sh)")
"""The best shell that an image has."""
_PIECE = 1 << 14
_TICK = 0.5  # seconds between two looks at the size of the terminal, and at whether the program has ended


def is_terminal() -> bool:
    """Whether somebody sits at this process's terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def size() -> tuple[int, int]:
    """Return the columns and lines of the terminal."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


@contextlib.contextmanager
def handed_over(send: Callable[[bytes], None], resize: Callable[[int, int], None]) -> Iterator[None]:
    """Pass every key on as it is, and the size of the terminal, until the block ends.

    Args:
        send: Is given what was typed.
        resize: Is given the columns and lines, first and whenever they change.
    """
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    over = threading.Event()

    def pass_on() -> None:
        known = (0, 0)
        while not over.is_set():
            if size() != known:
                known = size()
                resize(*known)
            if select.select([fd], [], [], _TICK)[0]:
                send(os.read(fd, _PIECE))

    thread = threading.Thread(target=pass_on, daemon=True)
    try:
        tty.setraw(fd)
        thread.start()
        yield
    finally:
        over.set()
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def show(data: bytes) -> None:
    """Write what the program wrote."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
