"""Telling people what is being waited for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nemo_run.run.terminal import in_terminal, say

if TYPE_CHECKING:
    from rich.status import Status

_SILENT = 1.0  # seconds in which nothing is told: most waits are over by then


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


@contextlib.contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Give a function that tells what is being waited for: one changing line in a terminal, lines elsewhere."""
    begin, last = time.monotonic(), ""
    with contextlib.ExitStack() as stack:
        spinner: Status | None = None

        def tell(text: str) -> None:
            nonlocal last, spinner
            if text == last or time.monotonic() - begin < _SILENT:
                return
            last = text
            if not in_terminal(sys.stderr):
                say(text, sys.stderr)
            elif spinner is None:
                from rich.console import Console
                from rich.markup import escape

                spinner = stack.enter_context(Console(stderr=True).status(escape(text)))
            else:
                from rich.markup import escape

                spinner.update(escape(text))

        yield tell
