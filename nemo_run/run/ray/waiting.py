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
