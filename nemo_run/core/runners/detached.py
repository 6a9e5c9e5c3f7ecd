"""Processes that outlive the one that starts them, such as a controller in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from nemo_run.core.runners.interpreter import import_environment

MARKER = "NEMO_RUN_ATTEMPT_DIR"
"""Environment variable by which the processes of a local attempt are recognised; empty in those that are of none.

The local supervisor, which stands alone, has a copy of it.
"""


def start_detached(
    module: str, args: Sequence[str], log: Path, pass_fds: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Run a module with this Python in a session of its own, without standard input.

    The process does not count as one of the task, if this is one, that starts it.

    Args:
        module: Name of the module.
        args: Its arguments.
        log: File to which its output is appended; readable by its owner only.
        pass_fds: File descriptors that the process inherits.
    """
    log.touch(mode=0o600)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, pass_fds=pass_fds,
            env={**os.environ, MARKER: "", **import_environment()},
        )  # fmt: skip
