"""A time limit for what runs in this process."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from nemo_run.errors import ExecutorError


class TimeLimitReached(BaseException):
    """The time is over; raised in the middle of what runs."""


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise :class:`TimeLimitReached` in the block when it has run for so long.

    Raises:
        ExecutorError: This is not the main thread, which alone can be interrupted.
    """
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise ExecutorError("timeout with direct=True needs the main thread of the process; leave one of them out")

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TimeLimitReached

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
