"""What a command on another machine answered."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import IO, Any

_BLOCK = 1 << 16  # bytes read at once


@dataclass(frozen=True)
class RunResult:
    """What a command said, and how it ended.

    Attributes:
        command: The command.
        exited: Its exit code.
        stdout: What it wrote to its standard output.
        stderr: What it wrote to its standard error.
    """

    command: str
    exited: int
    stdout: str = ""
    stderr: str = ""

    @property
    def return_code(self) -> int:
        """The exit code."""
        return self.exited

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.exited == 0

    @property
    def failed(self) -> bool:
        """Whether the exit code is not 0."""
        return self.exited != 0

    def __bool__(self) -> bool:
        return self.ok


def as_text(data: bytes) -> str:
    """Return bytes as text that can be turned back into them."""
    return data.decode("utf-8", "surrogateescape")


def run_shown(argv: list[str], timeout: float | None, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a process and show what it writes while it does."""
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(argv, stdin=given, stdout=pipe, stderr=pipe)
    kept: list[bytearray] = [bytearray(), bytearray()]

    def copy(source: IO[bytes], shown: Any, keep: bytearray) -> None:
        while data := os.read(source.fileno(), _BLOCK):
            keep += data
            shown.write(data.decode(errors="replace"))
            shown.flush()

    threads = [
        threading.Thread(target=copy, args=(source, shown, keep), daemon=True)
        for source, shown, keep in zip((process.stdout, process.stderr), (sys.stdout, sys.stderr), kept, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        for thread in threads:
            thread.join()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return code, bytes(kept[0]), bytes(kept[1])
