"""Run an elastic launcher so that restarts get through it: sent along as text, as images need not have this package.

PyTorch's agent ends on SIGUSR1 and hands it to none of its workers, which have sessions of their own; and whatever exit
code they have, its own is 1. Needs only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_PASSED_ON = {85, -signal.SIGUSR1}  # "continue later", and the end of what did not expect the notice


def _children() -> Iterator[int]:
    if not Path("/proc/self").exists():  # macOS
        said = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        yield from (int(pid) for pid, parent in map(str.split, said.splitlines()) if int(parent) == os.getpid())
        return
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                yield int(folder.name)


def _pass_on(number: int, _: FrameType | None) -> None:
    os.environ["NEMO_RUN_STOPPING"] = "1"  # for workers that it has not started yet: a slow machine is still importing
    for pid in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main() -> None:
    """Run the module that the first argument names, with the arguments after it."""
    signal.signal(signal.SIGUSR1, _pass_on)
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except Exception as e:
        codes = {failure.exitcode for failure in getattr(e, "failures", {}).values()}
        code = max(codes & _PASSED_ON, default=None)
        if code is None:
            raise
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    main()
