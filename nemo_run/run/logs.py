"""Showing logs: of one job or of several at once, as they are or as they grow, in bounded memory."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nemo_run.config.escaping import escaped
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.shared.log_reader import LogReader
from nemo_run.errors import NemoRunError
from nemo_run.run.progress import current_progress, goes_on
from nemo_run.run.records import Definition, JobDefinition, TaskProgress
from nemo_run.run.screen import Screen, Write, Writer
from nemo_run.run.store import ExperimentStore

_LONGEST_LINE = 1 << 20  # bytes that are held back at most while a line has no end
_PAUSE = 0.05  # seconds between two looks at logs with nothing new
_TRUTH = 0.5  # seconds between two looks at states


class LineFilter:
    r"""Gives every line of a stream a prefix, and drops those that a pattern does not match.

    >>> LineFilter("job/0 ").feed(b"a\nb\n")
    b'job/0 a\njob/0 b\n'
    """

    def __init__(self, prefix: str = "", regex: str | None = None) -> None:
        self._prefix = escaped(prefix).encode("utf-8", "surrogateescape")
        self._pattern = re.compile(regex.encode()) if regex else None
        self._rest = b""
        self._inside = False  # the line that comes next has begun already
        self._wanted = True  # what that line is

    def feed(self, data: bytes) -> bytes:
        """Return whole lines that are ready to be shown; a progress bar's carriage return ends a line, too."""
        data = self._rest + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1  # the last byte may be half of \r\n
        if not end and len(data) > _LONGEST_LINE:
            end = len(data)
        self._rest = data[end:]
        return self._shown(data[:end])

    def flush(self) -> bytes:
        """Return the last line, if it has no end."""
        rest, self._rest = self._rest, b""
        return self._shown(rest + b"\n") if rest or self._inside else b""

    def _shown(self, data: bytes) -> bytes:
        if not self._pattern:
            if not self._prefix:
                return data
            if not self._inside and data.endswith(b"\n") and b"\r" not in data:
                return self._prefix + data[:-1].replace(b"\n", b"\n" + self._prefix) + b"\n"
        return b"".join(map(self._shown_line, data.splitlines(keepends=True)))

    def _shown_line(self, line: bytes) -> bytes:
        prefix = b"" if self._inside else self._prefix
        if not self._inside:
            self._wanted = not self._pattern or bool(self._pattern.search(line.rstrip(b"\r\n")))
        self._inside = not line.endswith((b"\n", b"\r"))
        return prefix + line if self._wanted else b""


class JsonLines(LineFilter):
    r"""Gives every line of a stream as a JSON object; of a progress bar, what it was at last.

    >>> JsonLines({"job": "a", "rank": 0}).feed(b"10%\r20%\r\nb\n").decode()
    '{"job": "a", "rank": 0, "line": "20%"}\n{"job": "a", "rank": 0, "line": "b"}\n'
    """

    def __init__(self, entry: Mapping[str, object], regex: str | None = None) -> None:
        super().__init__(regex=regex)
        self._entry = entry
        self._bar = b""

    def flush(self) -> bytes:
        """Return the last line, if it has no end, or what a progress bar was at last."""
        return super().flush() + (self._object(self._bar) if self._bar else b"")

    def _shown(self, data: bytes) -> bytes:
        shown = bytearray()
        for line in data.splitlines(keepends=True):
            bar, self._bar = self._bar, line if line.endswith(b"\r") else b""
            if not self._bar:
                shown += self._object(bar if bar and line == b"\n" else line)
        return bytes(shown)

    def _object(self, line: bytes) -> bytes:
        text = line.rstrip(b"\r\n")
        if self._pattern and not self._pattern.search(text):
            return b""
        return json.dumps({**self._entry, "line": text.decode("utf-8", "replace")}).encode() + b"\n"


@dataclass(frozen=True)
class LogRequest:
    """Which logs to show, and how.

    Attributes:
        jobs: The jobs; empty for all.
        regex: Show only lines that this pattern matches somewhere.
        tail: Begin with the last so many lines of every log.
        rank: Only the log of this rank.
        follow: Go on until the jobs have ended.
        json: Every line as a JSON object, with its job, task, attempt and rank.
    """

    jobs: tuple[str, ...] = ()
    regex: str | None = None
    tail: int | None = None
    rank: int | None = None
    follow: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.regex or "")
        except re.error as e:
            raise NemoRunError(f"{self.regex!r} is not a regular expression: {e}") from None


class _Stream:
    """The log of one attempt, on its way to the screen."""

    def __init__(self, reader: LogReader, filter_of: Callable[[int], LineFilter], write: Write) -> None:
        self._reader = reader
        self._filter_of = filter_of
        self._filters: dict[int, LineFilter] = {}  # the tasks of an array write into one log
        self._write = write

    def pump(self) -> bool:
        """Show the next piece; whether there was one."""
        data = self._reader.read()
        if data:
            source = getattr(self._reader, "source", 0)
            if source not in self._filters:
                self._filters[source] = self._filter_of(source)
            lines = self._filters[source].feed(data)
            if lines:
                self._write(lines)
        return bool(data)

    def close(self) -> None:
        """Show what is left."""
        while self.pump():
            pass
        for one in self._filters.values():
            if rest := one.flush():
                self._write(rest)
        if isinstance(self._write, Writer):
            self._write.close()
        self._reader.close()


class LogFollower:
    """Shows the logs of the jobs of an experiment, those of every attempt in turn."""

    def __init__(
        self,
        store: ExperimentStore,
        definition: Definition,
        request: LogRequest,
        write: Write | None = None,
        screen: Screen | None = None,
    ) -> None:
        """Show logs.

        Args:
            store: The experiment.
            definition: What is stored of it.
            request: Which logs, and how.
            write: Takes the lines as they are.
            screen: Where they are shown, without ``write``; standard output by default.
        """
        self._screen = screen or Screen()
        self._write = write
        self._store = store
        self._definition = definition
        self._request = request
        self._jobs = [definition.job(name) for name in request.jobs] or list(definition.jobs)
        self._streams: dict[str, _Stream] = {}
        self._backends = Backends()
        self._looked = 0.0
        self._active = True

    def show(self, stop: threading.Event | None = None) -> None:
        """Show the logs; when following, until the jobs or, where it is given, ``stop`` says that it is the end.

        Args:
            stop: Set by the caller when all jobs have ended.
        """
        ended = stop or threading.Event()
        while True:
            last_round = ended.is_set()
            active = self._look(now=last_round)
            if self._pump():
                continue
            if last_round or not self._request.follow or (stop is None and not active):
                break
            ended.wait(_PAUSE)
        for stream in self._streams.values():
            stream.close()
        self._backends.close()

    def _look(self, *, now: bool) -> bool:
        """Look for new logs, now or when it is time again; whether anything may still write to a log."""
        if now or not self._streams or time.monotonic() - self._looked > _TRUTH:
            self._looked = time.monotonic()
            self._active = self._open_new()
        return self._active

    def _pump(self) -> bool:
        """Show the next piece of every log; whether there was one."""
        moved = [stream.pump() for stream in self._streams.values()]
        return any(moved)

    def _open_new(self) -> bool:
        """Open the logs of attempts that are new; whether anything may still write to a log."""
        driven = self._store.goes_on()
        progress = current_progress(self._store, self._definition, [job.id for job in self._jobs])
        tasks = [(job, index, task) for job in self._jobs for index, task in enumerate(progress[job.id].tasks)]
        for job, index, task in tasks:
            for handle in _handles(task):
                if handle not in self._streams and (stream := self._open(job, index, handle, task)):
                    self._streams[handle] = stream
        return any(goes_on(task, driven=driven) for _, _, task in tasks)

    def _open(self, job: JobDefinition, index: int, handle: str, task: TaskProgress) -> _Stream | None:
        """Return the log of an attempt; ``None`` where it has no log of the wanted rank yet."""
        request = self._request
        definition = job.tasks[index]
        rank = request.rank or 0
        try:
            reader = self._store.kept_log(definition, handle, request.rank, request.tail)
            if reader is None:
                backend = self._backends.of(self._store.read_plan(definition))
                may_come = request.follow and request.rank and not task.state.is_final
                if may_come and request.rank not in backend.ranks(handle):
                    return None
                reader = backend.open_log(handle, rank=request.rank, tail=request.tail)
            if restart := _restart(task, handle):
                reader = _Headed(restart, reader)
        except NemoRunError as e:
            if len(self._jobs) == 1:
                raise
            reader = _Note(f"(its log cannot be shown: {e})\n")  # the others can

        def filter_of(source: int) -> LineFilter:
            number = rank or source
            if request.json:
                attempt = _handles(task).index(handle) + 1
                entry = {"job": job.id, "task": definition.name, "attempt": attempt, "rank": number}
                return JsonLines(entry, request.regex)
            shown = f"{definition.name}/{number} " if self._write else self._screen.prefix(definition.name, number)
            return LineFilter(shown, request.regex)

        return _Stream(reader, filter_of, self._write or self._screen.writer())


def _handles(task: TaskProgress) -> list[str]:
    """Return the handles of all attempts of a task, the earliest first."""
    return [*(entry["handle"] for entry in task.history), *filter(None, [task.handle])]


def _restart(task: TaskProgress, handle: str) -> str:
    """Return the line that begins the log of an attempt that is a restart; empty for any other."""
    before = list(itertools.takewhile(lambda entry: entry["handle"] != handle, task.history))
    if not before or not before[-1].get("cause"):
        return ""
    return f"(restart {sum(bool(entry.get('cause')) for entry in before)}, {before[-1]['cause']})\n"


class _Headed:
    """A log with a line of ours before it."""

    def __init__(self, text: str, reader: LogReader) -> None:
        self._text = text.encode()
        self._reader = reader

    @property
    def source(self) -> int:
        """Which task of an array wrote what was read last."""
        return int(getattr(self._reader, "source", 0))

    def read(self) -> bytes:
        """Return the next piece, with our line before the first."""
        data = self._reader.read()
        if not data:
            return b""
        text, self._text = self._text, b""
        return text + data

    def close(self) -> None:
        """Close the log."""
        self._reader.close()


class _Note:
    """A text in place of a log."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()

    def read(self) -> bytes:
        text, self._text = self._text, b""
        return text

    def close(self) -> None:
        pass


def last_lines(
    store: ExperimentStore, job: JobDefinition, progress: Sequence[TaskProgress], count: int = 10
) -> list[str]:
    """Return the last lines of the log of the task that decided how a job ended."""
    failed = [i for i, task in enumerate(progress) if task.state.name == "FAILED"] or [0]
    index = failed[0]
    if not progress[index].handle:
        return []
    try:
        with Backends() as backends:
            task, handle = job.tasks[index], progress[index].handle
            reader = store.kept_log(task, handle, None, count)
            if reader is None:
                backend = backends.of(store.read_plan(task))
                reader = backend.open_log(handle, rank=backend.rank_that_failed(handle), tail=count)
            data = b""
            while piece := reader.read():
                data = (data + piece)[-_LONGEST_LINE:]
            reader.close()
    except NemoRunError as e:  # how the job ended is known all the same
        return [f"(its log cannot be read: {e})"]
    return [line.decode("utf-8", "replace")[:1000] for line in data.splitlines()[-count:]]
