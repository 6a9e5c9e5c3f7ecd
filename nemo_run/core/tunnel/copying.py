"""Moving files through a process's pipes, as a tar file that is never stored."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from nemo_run.core.packaging.archive import unpack
from nemo_run.core.tunnel.answers import AnswerFrame
from nemo_run.errors import CommandError, PackagingError

_BLOCK = 1 << 16


def send(argv: Sequence[str], source: Path, name: str) -> None:
    """Write a file or a folder, as ``name``, to a process that reads a tar file.

    Raises:
        CommandError: The process failed; the message has what it said.
    """
    _stream(argv, "w|", lambda tar: tar.add(source.resolve(), arcname=name))


def receive(argv: Sequence[str], frame: AnswerFrame, name: str, target: Path) -> None:
    """Put the file or folder ``name`` of the tar file that a process writes at ``target``, when it is complete.

    Nothing in it can be written anywhere else.

    Raises:
        CommandError: The process failed, or the target cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".get-", dir=target.parent))
    except OSError as e:
        raise CommandError(f"{target}: cannot be written: {e.strerror}") from e
    try:
        _stream(argv, "r|", lambda tar: unpack(tar, temporary, target, foreign=True), frame=frame)
        (temporary / name).replace(target)
    except OSError as e:
        raise CommandError(f"{target}: cannot be written: {e.strerror}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def receive_into(argv: Sequence[str], frame: AnswerFrame, stdin: bytes, folder: Path) -> None:
    """Unpack the tar file that a process writes, which reads ``stdin``, into a folder; nothing is written beside it.

    Raises:
        CommandError: The process failed, or the folder cannot be written.
    """
    with tempfile.TemporaryFile() as question:
        question.write(stdin)
        question.seek(0)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _stream(argv, "r|", lambda tar: unpack(tar, folder, folder, foreign=True), question, frame)
        except OSError as e:
            raise CommandError(f"{folder}: cannot be written: {e.strerror}") from e


def receive_leftovers(argv: Sequence[str], frame: AnswerFrame, unpack: Callable[[IO[bytes]], None]) -> bytes:
    """Hand the output of a process to a function, and return what it said; its exit code does not matter."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        try:
            if process.stdout is not None and frame.skip(process.stdout):
                unpack(process.stdout)
        finally:
            if process.stdout is not None:
                process.stdout.close()
            process.wait()
        said.seek(0)
        return said.read()


def _stream(
    argv: Sequence[str],
    mode: Any,
    work: Callable[[tarfile.TarFile], object],
    question: int | IO[bytes] = subprocess.DEVNULL,
    frame: AnswerFrame | None = None,
) -> None:
    with tempfile.TemporaryFile() as said:
        stdin, stdout = (subprocess.PIPE, said) if mode == "w|" else (question, subprocess.PIPE)
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=said)
        is_silent = frame and process.stdout and not frame.skip(process.stdout)
        problem = "there was no answer" if is_silent else _work((process.stdin or process.stdout), mode, work)
        code = process.wait()
        if code != 0 or problem:
            said.seek(0)
            why = said.read().decode(errors="replace").strip() or problem or f"exit code {code}"
            raise CommandError(f"the copy failed: {why}")


def _work(pipe: IO[bytes] | None, mode: Any, work: Callable[[tarfile.TarFile], object]) -> str:
    """Do the work on a pipe; what went wrong with it."""
    if pipe is None:  # for the type checker: it was asked for
        return "there is no pipe"
    problem = ""
    try:
        with tarfile.open(fileobj=pipe, mode=mode) as tar:
            work(tar)
        while mode == "r|" and pipe.read(_BLOCK):
            pass
    except (BrokenPipeError, tarfile.TarError, PackagingError) as e:
        problem = str(e)
    finally:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
    return problem
