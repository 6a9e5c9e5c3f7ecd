"""Metrics of a task: numbers by step, in lines of JSON that any language can write.

The file is ``$NEMO_RUN_METRICS``, one line for each step::

    {"step": 10, "time": 1767225600.0, "metrics": {"loss": 0.31}}
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat

from nemo_run.core.runners.outcome import own_rank

_PATIENCE = 1.0  # seconds that a line may wait in memory
_MOST_LINES = 1000  # that wait in memory


class _MetricsFile:
    """Appends lines to a file, many at a time; a process that was forked has its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self._lines: list[str] = []
        self._written = 0.0
        self._lock = threading.Lock()
        atexit.register(self.flush)

    def add(self, line: str) -> None:
        """Add a line; it is in the file within a second, or with the next one after that."""
        with self._lock:
            self._lines.append(line)
            if len(self._lines) < _MOST_LINES and time.monotonic() - self._written < _PATIENCE:
                return
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        with self._lock:
            if not self._lines or self.pid != os.getpid():
                return
            text, self._lines, self._written = "".join(self._lines), [], time.monotonic()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)


_writers: dict[str, _MetricsFile] = {}


def log_metrics(metrics: Mapping[str, SupportsFloat], step: int | None = None, *, every_rank: bool = False) -> None:
    """Note numbers of the task that calls this, such as a loss, where the experiment finds them.

    Only rank 0 of a task notes anything, unless ``every_rank`` is set. Outside of a task nothing happens.

    Args:
        metrics: Numbers, by their names: also scalars of NumPy and tensors with one element.
        step: The step that they belong to; the number of the call by default.
        every_rank: Note those of every rank, each in a file of its own.

    Raises:
        TypeError: A value is no number.

    Example:
        >>> import nemo_run as run
        >>> run.log_metrics({"loss": 0.3, "lr": 1e-4}, step=10)
    """
    path = os.environ.get("NEMO_RUN_METRICS")
    numbers = {str(name): _number(name, value) for name, value in metrics.items()}
    rank = own_rank()
    if not path or (rank and not every_rank):
        return
    if rank:
        path = f"{path.removesuffix('.jsonl')}.{rank}.jsonl"
    writer = _writers.get(path)
    if writer is None or writer.pid != os.getpid():
        writer = _writers[path] = _MetricsFile(Path(path))
    where = {} if step is None else {"step": int(step)}
    writer.add(json.dumps({**where, "time": round(time.time(), 3), "metrics": numbers}) + "\n")


def flush_metrics() -> None:
    """Write what this process has logged and not written yet."""
    for writer in _writers.values():
        writer.flush()


def _number(name: str, value: SupportsFloat) -> float | str:
    try:
        number = float(value)
    except (TypeError, ValueError) as e:
        raise TypeError(f"metric {name!r} is {value!r}, which is no number") from e
    return number if math.isfinite(number) else str(number)  # JSON has no name for those
