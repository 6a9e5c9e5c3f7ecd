"""Keeping what is printed in this process, while it is shown as ever."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.run.screen import write_out

_GRACE = 10.0  # seconds between the request to end and the kill
_PAUSE = 0.05  # seconds between two looks at a log with nothing new


class _Bytes:
    """A binary stream, of which a log is kept; all else is as with the stream itself: it may be a terminal."""

    def __init__(self, stream: Any, log: BinaryIO) -> None:
        self._stream = stream
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> Any:
        """Write to the stream and to the log."""
        self._keep(data)
        return self._stream.write(data)

    def _keep(self, data: bytes) -> None:
        if not self._log.closed:  # something may hold on to the stream after the task has ended
            self._log.write(data)


class _Text(_Bytes):
    """The same for text."""

    @property
    def buffer(self) -> _Bytes:
        """The binary stream below."""
        return _Bytes(self._stream.buffer, self._log)

    def write(self, text: Any) -> Any:
        """Write to the stream and to the log."""
        self._keep(str(text).encode("utf-8", "backslashreplace"))
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write lines to the stream and to the log."""
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Also write to a file what Python code of this process prints on standard output and standard error."""
    with path.open("ab", buffering=0) as log:
        path.chmod(0o600)
        out, err = _Text(sys.stdout, log), _Text(sys.stderr, log)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield


def run_shown(argv: Sequence[str], env: Mapping[str, str], cwd: str | None, path: Path) -> int:
    """Run a program whose output goes to a file, show that while it grows, and return the exit code."""
    with path.open("ab") as log:
        path.chmod(0o600)
        begin = log.tell()
        process = subprocess.Popen(argv, env=env, cwd=cwd, stdout=log, stderr=log)
    reader = FileLog(path, start=begin)
    try:
        _show_until_end(reader, process)
    finally:
        reader.close()
        process.terminate()  # it may run yet if this was interrupted
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        process.kill()
        process.wait()
    return process.returncode


def _show_until_end(reader: FileLog, process: subprocess.Popen[bytes]) -> None:
    while True:
        ended = process.poll() is not None
        if data := reader.read():
            write_out(data)
        elif ended:
            return
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE)
