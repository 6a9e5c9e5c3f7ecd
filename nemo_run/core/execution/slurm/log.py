"""Reading logs on a cluster: all that are open with one command, again and again, from where the last one ended."""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field

from nemo_run.core.execution.launcher import RANK_LOGS
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel
from nemo_run.errors import CommandError, ExecutorError, TunnelError

_MOST, _MOST_OF_ALL = 1 << 24, 1 << 25  # bytes of one file in one answer, and of all files
_PIECE = 1 << 20  # bytes that are handed on at once
_SOON, _LATE = 0.3, 2.0  # seconds between two commands: while logs grow, and when they have not for a while
_ALL = "log.*"
_OF_LAUNCHER = f"node.{{}}.{{}}/{RANK_LOGS}/*/attempt_*/{{}}/stdout.log"  # node, processes of a node, which of them
_RANK_OF_LAUNCHER = re.compile(rf"node\.(\d+)\.(\d+)/{RANK_LOGS}/.*/(\d+)/stdout\.log")
_LABEL = re.compile(rb"^ *(\d+): ?", re.MULTILINE)

# Four lines for every log: its number, its folder, what matches its files, and the offsets known, as "name:offset".
# A name that is not known begins at 0, or, with "*:n", with its last n lines. A path in place of a name
# in an answer says that this folder or file is gone.
_READ = r"""
left=ALL
while IFS= read -r id && IFS= read -r folder && IFS= read -r pattern && IFS= read -r known; do
  [ -d "$folder" ] || printf '%s 0 0 0 %s\n' "$id" "$folder"
  for f in "$folder"/$pattern; do
    [ -e "$f" ] || { [ ! -L "$f" ] || printf '%s 0 0 0 %s\n' "$id" "$(readlink -- "$f")"; continue; }
    name=${f#"$folder"/} at='' lines=''
    for k in $known; do
      case $k in "$name":*) at=${k##*:} ;; '*':*) lines=${k##*:} ;; esac
    done
    size=$(stat -Lc %s -- "$f") || continue
    if [ -z "$at" ]; then
      at=0
      if [ -n "$lines" ]; then at=$((size - $(head -c "$size" -- "$f" | tail -n "$lines" | wc -c))); fi
    fi
    count=$((size - at))
    [ "$count" -le MOST ] || count=MOST
    [ "$count" -le "$left" ] || count=$left
    [ "$count" -le 0 ] || left=$((left - count))
    printf '%s %s %s %s %s\n' "$id" "$at" "$count" "$((size - at - count))" "$name"
    [ "$count" -le 0 ] || tail -c "+$((at + 1))" -- "$f" | head -c "$count"
  done
done""".replace("MOST", str(_MOST)).replace("ALL", str(_MOST_OF_ALL))


@dataclass(eq=False)
class SlurmLog:
    """The log of an attempt, or of one rank of it."""

    feed: Feed
    folder: str
    rank: int | None
    tail: int | None
    pattern: str = _ALL
    offsets: dict[str, int] = field(default_factory=dict)
    ready: deque[tuple[int, bytes]] = field(default_factory=deque)
    rests: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    answer: int = 0  # number of the last answer that was found to have nothing more
    more: bool = True
    source: int = 0

    def read(self) -> bytes:
        """Return the next piece; empty where there is nothing new now."""
        while True:
            if self.ready:
                self.source, piece = self.ready.popleft()
                return piece
            if not self.more and self.feed.answers > self.answer:
                self.answer = self.feed.answers
                return b""
            if not self.feed.ask():
                return b""

    def close(self) -> None:
        """Let go of the log."""
        self.feed.drop(self)

    def take(self, name: str, at: int, data: bytes, rest: int) -> None:
        """Take over a piece of one of its files, which has so many more bytes."""
        if name.startswith("/"):
            if name not in self.gone:
                self.gone.add(name)
                self.ready.append((0, f"(gone from the cluster: {name})\n".encode("utf-8", "surrogateescape")))
            return
        self.offsets[name] = at + len(data)
        self.more = self.more or rest > 0
        if data:
            self._add(name, data)

    def _add(self, name: str, data: bytes) -> None:
        element, ranks = _labels(name)
        if ranks <= 1:
            if self.rank in (None, element) or self.pattern != _ALL:
                self._put(element, data)
            return
        data = self.rests.pop(name, b"") + data  # labels are at the beginning of lines: only whole ones are passed on
        end = data.rfind(b"\n") + 1
        if data[end:]:
            self.rests[name] = data[end:]
        lines = data[:end]
        if self.rank is None:
            lines = _LABEL.sub(b"", lines)
        else:
            lines = b"".join(
                line[match.end() :]
                for line in lines.splitlines(keepends=True)
                if (match := _LABEL.match(line)) and int(match[1]) == self.rank
            )
        if lines:
            self._put(self.rank or 0, lines)

    def _put(self, source: int, data: bytes) -> None:
        self.ready.extend((source, data[start : start + _PIECE]) for start in range(0, len(data), _PIECE))


class Feed:
    """All logs of one cluster that are being read."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._open: weakref.WeakSet[SlurmLog] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._asked = float("-inf")
        self._grew = time.monotonic()
        self.answers = 0
        self._has_more = False  # the last answer was full

    def open(self, folder: str, rank: int | None, tail: int | None) -> SlurmLog:
        """Return a log to read.

        Raises:
            ExecutorError: There is no such rank.
        """
        pattern = _ALL
        if rank is not None:
            there = self._patterns(folder) or {0: _ALL}
            if rank not in there:
                raise ExecutorError(f"rank {rank} has no log; ranks with one: {', '.join(map(str, there))}")
            pattern = there[rank]
        log = SlurmLog(self, folder, rank, tail, pattern)
        with self._lock:
            self._open.add(log)
            self._asked = float("-inf")
        return log

    def drop(self, log: SlurmLog) -> None:
        """Read a log no more."""
        with self._lock:
            self._open.discard(log)

    def ranks(self, folder: str) -> list[int]:
        """Return the ranks, or tasks of an array, that have a log of their own."""
        return list(self._patterns(folder))

    def _patterns(self, folder: str) -> dict[int, str]:
        """Return what matches the files of every rank that has a log of its own."""
        script = f'cd -- "$1" 2>/dev/null && ls -d log.* {_OF_LAUNCHER.format("*", "*", "*")} 2>/dev/null; true'
        names = self._tunnel.execute(posix(script, folder)).decode().split()
        found = [match.groups() for name in names if (match := _RANK_OF_LAUNCHER.match(name))]
        if found:
            ranks = {int(node) * int(count) + int(local): (node, count, local) for node, count, local in found}
            return {rank: _OF_LAUNCHER.format(*ranks[rank]) for rank in sorted(ranks)}
        elements = {_labels(name) for name in names}
        numbers = {element for element, _ in elements}
        if len(numbers) <= 1:
            most = max((ranks for _, ranks in elements), default=1)
            numbers = set(range(most if most > 1 else 0))
        return dict.fromkeys(sorted(numbers), _ALL)

    def ask(self) -> bool:
        """Ask for all that is new in all logs; not too often. Whether there was an answer."""
        with self._lock:
            quiet = time.monotonic() - self._grew
            pause = self._asked + min(_LATE, max(_SOON, 0.1 * quiet)) - time.monotonic()
            if pause > 0 and not self._has_more:
                time.sleep(pause)
            self._asked = time.monotonic()
            logs = dict(enumerate(self._open))
            for log in logs.values():
                log.more = False
            question = "".join(_question(number, log) for number, log in logs.items())
            try:
                answer = self._tunnel.execute(posix(_READ), question.encode("utf-8", "surrogateescape"))
            except (TunnelError, CommandError):
                self._grew = self._asked  # the connection was lost: it goes on where it was
                for log in logs.values():
                    log.more = True
                return False
            self.answers += 1
            self._has_more = False
            if self._hand_out(logs, answer):
                self._grew = time.monotonic()
            return True

    def _hand_out(self, logs: dict[int, SlurmLog], answer: bytes) -> bool:
        position, any_data = 0, False
        while position < len(answer):
            end = answer.index(b"\n", position)
            number, at, count, rest, name = answer[position:end].split(b" ", 4)
            data = answer[end + 1 : end + 1 + max(int(count), 0)]
            position = end + 1 + len(data)
            logs[int(number)].take(name.decode("utf-8", "surrogateescape"), int(at), data, int(rest))
            self._has_more = self._has_more or int(rest) > 0
            any_data = any_data or bool(data)
        return any_data


def _question(number: int, log: SlurmLog) -> str:
    known = [f"{name}:{offset}" for name, offset in log.offsets.items()]
    if log.tail is not None and not log.offsets:
        known.append(f"*:{log.tail}")
    return f"{number}\n{log.folder}\n{log.pattern}\n{' '.join(known)}\n"


def _labels(name: str) -> tuple[int, int]:
    """Task of the array and number of ranks that the name of a log, ``log.<task>.<restart>.<ranks>``, tells."""
    parts = name.split(".")
    return (int(parts[1]), int(parts[3])) if name.startswith("log.") and len(parts) == 4 else (0, 1)
