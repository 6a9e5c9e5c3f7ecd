"""The metrics that tasks have logged, read from the files that they write."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from nemo_run.core.inside import read_inside
from nemo_run.errors import MissingExtraError
from nemo_run.run import artifacts
from nemo_run.run.records import JobDefinition, TaskDefinition
from nemo_run.run.store import ExperimentStore

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"
"""The file of a task's metrics, below its artifacts."""

LONGEST_LINE = 1 << 20
"""Bytes of a line that are read."""

_LONGEST = 1 << 30  # bytes of a file that are read: some ten million points


@dataclass
class Metric:
    """One metric of a task, by step.

    Attributes:
        name: Its name.
        steps: The steps, in order; where one was logged again, as after a restart, the last value counts.
        values: Its values, one for each step.
        times: When each was logged, in seconds since the epoch.
    """

    name: str
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The value of the last step."""
        return self.values[-1]

    @property
    def min(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def max(self) -> float:
        """The largest value."""
        return max(self.values)

    def __len__(self) -> int:
        return len(self.steps)


class Metrics(Mapping[str, Metric]):
    """The metrics of a task, by their names.

    Example:
        >>> import nemo_run as run
        >>> metrics = run.Experiment.from_title("train").metrics("train")   # doctest: +SKIP
        >>> metrics["loss"].last                                            # doctest: +SKIP
        0.31
    """

    def __init__(self, metrics: Iterable[Metric] = ()) -> None:
        self._metrics = {metric.name: metric for metric in metrics}

    def __getitem__(self, name: str) -> Metric:
        try:
            return self._metrics[name]
        except KeyError:
            raise KeyError(f"no metric {name!r}; there are: {', '.join(self._metrics) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    def __repr__(self) -> str:
        return f"<Metrics {', '.join(f'{one.name}={one.last:g}' for one in self._metrics.values())}>"

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with a row for each step and a column for each metric.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped, unused-ignore]
        except ImportError as e:
            raise MissingExtraError("a DataFrame needs pandas: pip install pandas") from e
        columns = {one.name: pandas.Series(one.values, index=one.steps) for one in self._metrics.values()}
        return pandas.DataFrame(columns).rename_axis("step")


def job_metrics(store: ExperimentStore, job: JobDefinition, rank: int = 0, member: int = 0) -> Metrics:
    """Return the metrics of a job as far as they are here now.

    Args:
        store: The experiment.
        job: The job.
        rank: The rank that logged them.
        member: The member of a group.
    """
    return task_metrics(store, job.tasks[member], rank)


def task_metrics(
    store: ExperimentStore, task: TaskDefinition, rank: int = 0, known: int = _LONGEST, more: bytes = b""
) -> Metrics:
    """Return the metrics of a task; lines that cannot be read, such as one that is being written, are left out.

    Args:
        store: The experiment.
        task: The task.
        rank: The rank that logged them.
        known: How many bytes of the file here count; the first GiB by default.
        more: What follows these elsewhere.
    """
    name = FILE if rank == 0 else FILE.replace(".", f".{rank}.", 1)
    points: dict[str, dict[int, tuple[float, float]]] = {}
    here: IO[bytes] = io.BytesIO()
    with contextlib.suppress(OSError):  # there are none, or it is no file
        here = read_inside(artifacts.folder_of(store, task), name)
    with here as file:
        for number, line in enumerate(_lines(file, known, more)):
            _take(points, number, line)
        if file.tell() == _LONGEST and file.read(1):
            logger.warning("%s: %s is larger than 1 GiB, of which the rest is not read", task.name, name)
    return Metrics(_series(name, found) for name, found in points.items())


def _lines(file: IO[bytes], known: int, more: bytes) -> Iterator[bytes]:
    """Yield the lines of so many bytes of a file, and of what follows these."""
    begun = b""
    while line := file.readline(min(LONGEST_LINE, max(known - file.tell(), 0))):
        if more and not line.endswith(b"\n"):
            begun = line
        else:
            yield line
    yield from (begun + more).splitlines()


def _take(points: dict[str, dict[int, tuple[float, float]]], number: int, line: bytes) -> None:
    if (point := point_of(number, line)) is not None:
        step, time, numbers = point
        for name, value in numbers.items():
            points.setdefault(name, {})[step] = (value, time)


def point_of(number: int, line: bytes) -> tuple[int, float, dict[str, float]] | None:
    """Return the step, the time and the numbers in a line of a file of metrics; ``None`` where it cannot be read.

    Args:
        number: The number of the line, which is its step where it names none.
        line: The line.
    """
    try:
        document = json.loads(line)
        step, time = int(document.get("step", number)), float(document.get("time", 0.0))
        return step, time, dict(_numbers(document["metrics"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        with contextlib.suppress(ValueError, TypeError, OverflowError):  # what is no number is left out
            yield name, float(value)


def _series(name: str, points: Mapping[int, tuple[float, float]]) -> Metric:
    steps = sorted(points)
    return Metric(name, steps, [points[step][0] for step in steps], [points[step][1] for step in steps])


def last_values(store: ExperimentStore, job: JobDefinition) -> dict[str, Any]:
    """Return the last, smallest and largest value of every metric of a job, for programs."""
    found = job_metrics(store, job)
    return {name: {"last": one.last, "min": one.min, "max": one.max, "steps": len(one)} for name, one in found.items()}
