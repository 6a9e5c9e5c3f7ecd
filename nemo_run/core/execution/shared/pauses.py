"""Pauses between two questions to an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from nemo_run.errors import ExecutorError

T = TypeVar("T")


class Pauses:
    """Ever longer pauses between two questions, so that neither a person nor an engine waits long for the other."""

    def __init__(self, first: float = 0.1, longest: float = 2.0, until: float | None = None) -> None:
        """Pause.

        Args:
            first: Seconds of the first pause.
            longest: Seconds of the longest.
            until: When it is too late, on the monotonic clock.
        """
        self._pause, self._longest, self._until = first, longest, until

    @property
    def over(self) -> bool:
        """Whether it is too late."""
        return self._until is not None and time.monotonic() >= self._until

    def sleep(self) -> None:
        """Make a pause, not beyond the time when it is too late."""
        rest = self._longest if self._until is None else self._until - time.monotonic()
        time.sleep(max(min(self._pause, rest), 0))
        self._pause = min(self._pause * 1.5, self._longest)


def wait_until(ready: Callable[[], T], late: Callable[[float], str], *, within: float, pause: float = 0.5) -> T:
    """Ask again and again until the answer is true, and return that.

    Args:
        ready: What is asked.
        late: Says what is wrong where it takes longer than so many seconds.
        within: How many seconds it may take.
        pause: Seconds of the longest pause between two questions.

    Raises:
        ExecutorError: It takes longer.
    """
    pauses = Pauses(min(0.1, pause), pause, until=time.monotonic() + within)
    while not (answer := ready()):
        if pauses.over:
            raise ExecutorError(late(within))
        pauses.sleep()
    return answer
