"""What a task asks and says about its own end. Needs only the standard library."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

CONTINUE = 85
"""Exit code with which a task says that it is to be continued."""

_told: list[int] = []
_listening: list[int] = []


def stopping() -> bool:
    """Return whether this task is about to be ended: by a time limit, or by preemption.

    From the first call on, SIGUSR1 and SIGTERM do not end the process, but make this ``True``. Call it in the main
    thread: first before what takes long to import, and then once in each step of the work.

    Example:
        >>> import nemo_run as run
        >>> run.stopping()
        False
    """
    if not _listening:
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, _take)
            _listening.append(number)
        if os.environ.pop("NEMO_RUN_STOPPING", ""):  # its launcher was told before it started this process
            _told.append(signal.SIGUSR1)
    return bool(_told)


def _take(number: int, _: FrameType | None) -> None:
    _told.append(number)


def checkpointed() -> None:
    """Say that what this task needs to go on is saved: a restart may follow.

    A task that is about to be ended, as :func:`stopping` says, ends here as with :func:`continue_later`; for any other
    this returns at once. With several ranks use those two: all of them have to decide the same.

    Example:
        >>> import nemo_run as run
        >>> run.checkpointed()
    """
    if stopping():
        continue_later()


def continue_later() -> NoReturn:
    """End this task; it is restarted, where its executor has ``restarts``. Save what it needs before.

    The process ends with exit code 85; a script can do the same.
    """
    sys.exit(CONTINUE)
