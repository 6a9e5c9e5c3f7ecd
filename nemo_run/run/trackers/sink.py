"""What trackers have in common: a run is begun, gets points, and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nemo_run.core.execution.jobs import JobState


class Point(NamedTuple):
    """What a task has logged for one step.

    Attributes:
        step: The step.
        time: When, in seconds since the epoch.
        metrics: Numbers by their names.
    """

    step: int
    time: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunDescription:
    """A task as a tracker shows it.

    Attributes:
        id: The experiment's id and the task's name; the same whenever forwarding begins anew.
        title: Title of the experiment.
        name: Name of the run.
        parameters: The configuration, by the paths of its values; secrets are masked.
        tags: Which experiment and task it is, and what people say about it.
        created: When the experiment was launched, in seconds since the epoch.
    """

    id: str
    title: str
    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    created: float


class TrackerSink:
    """A tracker. Every method may raise any exception: the caller tries again later."""

    MOST_POINTS = 1000
    """Points that are handed over at once."""

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Get ready; nothing is asked yet.

        Args:
            settings: The settings of the tracker's plugin.
            folder: Folder for files that the tracker needs on this machine.
        """
        self.settings = settings
        self.folder = folder

    def begin(self, run: RunDescription, known: str) -> str:
        """Begin a run, or go on with one that was begun before; its id with the tracker.

        Args:
            run: What it is.
            known: The id that an earlier process was given; empty where there was none.
        """
        raise NotImplementedError

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Hand points over; the tracker has them when this returns."""
        raise NotImplementedError

    def end(self, run: str, state: JobState) -> None:
        """Say how the run has ended."""
        raise NotImplementedError
