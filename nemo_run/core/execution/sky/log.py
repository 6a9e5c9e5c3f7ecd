"""Logs as SkyPilot gives them: lines of the tasks, each with a word on whose it is, between lines of its own."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from nemo_run.core.execution.launcher import RANK_LOGS
from nemo_run.core.execution.shared.attempt_files import open_log
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.follower import Follower
from nemo_run.core.execution.shared.log_reader import FileLog

_LINE = re.compile(r"\x1b\[36m\((?P<whose>[^)\n]*)\)\x1b\[0m ?(?P<text>.*)", re.DOTALL)
_RANK = re.compile(r"\brank=(\d+)")
_GLUED = re.compile(r"(?:\x1b\[0m)?\x1b\[32m✓ Job finished \(|ERROR: (?:\x1b\[31m)?Job \d+")
_CODES = re.compile(r"failed with return code(?: list)?:?(?:\x1b\[0m)? *\[?(?P<codes>\d+(?:, *\d+)*)")
_PATIENCE = 30.0  # seconds in which the rest of a log comes, once its job has ended
_FIRST = 3.0  # seconds in which the part of a log that is there begins to come
_RETRY = 1.0  # seconds between two questions whether a job has a log yet

Stream: TypeAlias = "Callable[[], Iterator[str | None] | None]"
"""Gives what SkyPilot says of a job while it runs, as it comes; ``None`` where it has no log yet."""


def task_line(line: str, rank: int | None = None) -> str | None:
    r"""Return what the tasks, or one node's task, wrote in a line; ``None`` where it is SkyPilot's own.

    >>> task_line("\x1b[36m(train, pid=7)\x1b[0m loss 3"), task_line("Job started. Streaming logs...")
    ('loss 3', None)
    """
    match = _LINE.match(line)
    if not match:
        return None
    found = _RANK.search(match["whose"])
    if rank is not None and int(found.group(1) if found else 0) != rank:
        return None
    own = _GLUED.search(match["text"])  # what SkyPilot says follows at once where a task ended no line
    return match["text"][: own.start()] if own else match["text"]


def task_text(said: str, rank: int | None = None) -> str:
    """Return all that the tasks, or one node's task, wrote."""
    lines = (task_line(line, rank) for line in io.StringIO(said, newline="\n"))
    return "".join(line for line in lines if line is not None)


class OwnLines:
    r"""Passes on the lines that SkyPilot gives, and nothing of the artifacts with which the first node ends its log.

    Example:
        >>> lines = OwnLines()
        >>> lines.of(["\x1b[36m(t, pid=1)\x1b[0m \x1enemo-run t artifacts\n", "\x1b[36m(t, pid=1)\x1b[0m +\n"])
        []
    """

    def __init__(self) -> None:
        self._blank = ""  # an empty line, which may be there for the artifacts only
        self._leaving = False

    def of(self, lines: Iterable[str]) -> list[str]:
        """Return those of these lines, and of one that was held back before, that are the tasks' own."""
        return [one for line in lines for one in self._take(line)]

    def rest(self) -> list[str]:
        """Return what is held back, when no line follows."""
        return [self._blank] if self._blank else []

    def _take(self, line: str) -> list[str]:
        text = task_line(line, 0)
        if text is None:
            return [line]
        if self._leaving:
            self._leaving = text.strip() != "end"
            return []
        held, self._blank = self.rest(), ""
        if text.startswith("\x1enemo-run "):
            self._leaving = True
            return []
        if not text.strip("\r\n"):
            self._blank = line
            return held
        return [*held, line]


def without_artifacts(said: str) -> str:
    """Return what SkyPilot gave, without the artifacts at the end of the first node's log."""
    lines = OwnLines()
    return "".join([*lines.of(io.StringIO(said, newline="\n")), *lines.rest()])


def ranks_in(said: str) -> list[int]:
    """Return the nodes that wrote something, where there are several."""
    matches = (_LINE.match(line) for line in said.splitlines())
    found = (_RANK.search(match["whose"]) for match in matches if match)
    return sorted({int(rank.group(1)) for rank in found if rank})


def exit_code(said: str) -> int | None:
    r"""Return the exit code that SkyPilot tells at the end of a log: that of the node that failed first.

    >>> exit_code("ERROR: Job 2 failed with return code list:\x1b[0m [0, 3] "), exit_code("done")
    (3, None)
    """
    matches = list(_CODES.finditer(said))
    if not matches:
        return None
    codes = [int(code) for code in matches[-1]["codes"].split(",")]
    # When one node fails, SkyPilot kills the others.
    return next((code for code in codes if code not in (0, 137)), max(codes))


def save(attempt: Path, said: str, exact: str | None = None) -> None:
    """Keep the log of an ended attempt, and those of its nodes where there are several.

    Args:
        attempt: The attempt's folder.
        said: Its log as SkyPilot gives it.
        exact: The output of its one node as it was, if that is known.
    """
    for rank in ranks_in(said):
        path = attempt / RANK_LOGS / "nodes" / "attempt_0" / str(rank) / "stdout.log"
        _write(path, task_text(said, rank))
    if exact is None:
        _write(attempt / "log", task_text(said))
    else:
        lines = (line for line in io.StringIO(said, newline="\n") if re.match(r"\x1b\[36m\(setup\b", line))
        _write(attempt / "log", "".join(task_line(line) or "" for line in lines) + exact)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


class SkypilotLog:
    """The log of an attempt: as it comes from SkyPilot while it runs, from its file when it has ended."""

    def __init__(self, attempt: Path, stream: Stream, rank: int | None, tail: int | None) -> None:
        """Read the log of an attempt.

        Args:
            attempt: The attempt's folder; it has the whole log when the attempt has ended.
            stream: Gives what SkyPilot says while it runs.
            rank: Only what this node wrote.
            tail: Begin with the last so many lines.
        """
        self._attempt, self._stream, self._rank, self._tail = attempt, stream, rank, tail
        self._file: FileLog | None = None
        self._follower: Follower | None = None
        self._asked = float("-inf")

    def read(self) -> bytes:
        """Return the next piece; empty where there is nothing new now."""
        ended = AttemptFolder(self._attempt).has_ended
        if self._follower is not None:
            return self._follower.read(_PATIENCE if ended else 0)
        if self._file is None and ended:
            self._file = open_log(self._attempt, self._rank, self._tail)
        return self._file.read() if self._file else self._begin()

    def _begin(self) -> bytes:
        """Ask for the log, and return what there is of it already."""
        now = time.monotonic()
        if now - self._asked < _RETRY:
            return b""
        self._asked = now
        chunks = self._stream()
        if chunks is None:
            return b""
        self._follower = Follower(lambda _: self._receive(chunks), f"log of {self._attempt}", at_most=1000)
        return self._follower.read(_FIRST)

    def _receive(self, chunks: Iterator[str | None]) -> Generator[bytes, None, None]:
        left, own = "", OwnLines()
        with contextlib.closing(chunks) if hasattr(chunks, "close") else contextlib.nullcontext():  # type: ignore[type-var]
            for chunk in chunks:
                if chunk is None:
                    break
                *lines, left = (left + chunk).split("\n")
                written = (task_line(line, self._rank) for line in own.of(f"{line}\n" for line in lines))
                yield "".join(line for line in written if line is not None).encode("utf-8", "surrogateescape")

    def close(self) -> None:
        """Follow no longer."""
        if self._follower is not None:
            self._follower.close()
        if self._file is not None:
            self._file.close()
