"""A process that forwards the metrics of an experiment to one tracker: beside the tasks, and longer than its starter.

It reads what tasks write, so that no task waits for a tracker or needs its package. How far it is it writes down after
every step: it can be killed, and another one goes on.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_run.core.execution.shared.inherited import read_environment
from nemo_run.core.files import locked
from nemo_run.core.masking import MASK, is_secret, masked
from nemo_run.errors import StoreError
from nemo_run.run.progress import current_progress, goes_on
from nemo_run.run.records import JobDefinition, JobProgress, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.trackers.describing import description
from nemo_run.run.trackers.following import next_points
from nemo_run.run.trackers.sink import TrackerSink
from nemo_run.run.trackers.tracking import Forwarded, Marks, Tracking, read_trackings

_TICK = 0.5  # seconds between two looks
_ALONE = 5.0  # seconds between two, where no controller writes down how far tasks are
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds before a tracker that is away is asked again
_PATIENCE = 300.0  # seconds for which a tracker that is away is waited for when all tasks have ended
_VARIABLES = ("MLFLOW_", "WANDB_")  # with which trackers are reached: as they were at the launch
_SINKS = {"mlflow": "MLflowSink", "tensorboard": "TensorBoardSink", "wandb": "WandbSink"}


class Forwarder:
    """Forwards to one tracker until all of its tasks have ended, and it has everything."""

    def __init__(self, store: ExperimentStore, tracking: Tracking, sink: TrackerSink, marks: Marks) -> None:
        self._store = store
        self._tracking = tracking
        self._sink = sink
        self._marks = marks
        self._definition = store.read_definition()
        self._open = [job for job in self._definition.jobs if job.id in tracking.jobs]
        self._known: dict[str, Forwarded] = {}
        self._begun: set[str] = set()  # by this process

    def run(self) -> None:
        """Forward until nothing more can come, or the tracker is away for too long after that."""
        failures, since = 0, time.monotonic()
        while self._store.path.is_dir():
            is_driven = self._store.is_driven()
            goes_on = self._goes_on(is_driven=is_driven)
            problem = self._forward_all()
            self._marks.problem = problem
            failures = failures + 1 if problem else 0
            since = time.monotonic() if goes_on else since
            if not goes_on and (not problem or time.monotonic() - since > _PATIENCE):
                return
            time.sleep(_PAUSES[min(failures, len(_PAUSES)) - 1] if problem else _TICK if is_driven else _ALONE)

    def _goes_on(self, *, is_driven: bool) -> bool:
        """Look how far the tasks are, and return whether anything more may come of one."""
        self._progress = self._states(is_driven=is_driven)
        return any(goes_on(task, driven=is_driven) for job in self._progress.values() for task in job.tasks)

    def _states(self, *, is_driven: bool) -> Mapping[str, JobProgress]:
        if is_driven:  # its controller writes down what engines say
            return {job.id: self._store.read_progress(job) for job in self._open}
        return current_progress(self._store, self._definition, [job.id for job in self._open])

    def _forward_all(self) -> str:
        """Forward what is new, of every task; why that was not possible, or empty."""
        for job, task, progress in self._begun_tasks():
            try:
                self._forward(job, task, progress)
            except Exception as e:  # noqa: BLE001  (trackers raise errors of many packages)
                traceback.print_exc()
                return shown_problem(e)
        self._open = [job for job in self._open if not self._is_done(job)]
        return ""

    def _begun_tasks(self) -> Iterator[tuple[JobDefinition, TaskDefinition, TaskProgress]]:
        for job in self._open:
            for task, progress in zip(job.tasks, self._progress[job.id].tasks, strict=True):
                if progress.attempt:
                    yield job, task, progress

    def _is_done(self, job: JobDefinition) -> bool:
        return all(task.state.is_final for task in self._progress[job.id].tasks)

    def _forward(self, job: JobDefinition, task: TaskDefinition, progress: TaskProgress) -> None:
        """Forward what is new of a task, in the order: it begins, its points, its end."""
        known = self._known.get(task.name) or self._marks.read(task.name)
        self._known[task.name] = known
        has_ended = progress.state.is_final
        if has_ended and known.ended == progress.attempt:
            return
        if task.name not in self._begun:
            about = description(self._store, self._definition, job, task, self._tracking.settings)
            known.run = self._sink.begin(about, known.run)
            self._note(task, known)
            self._begun.add(task.name)
        while True:
            points, later = next_points(self._store, task, known, self._sink.MOST_POINTS, ended=has_ended)
            if points:
                self._sink.log(known.run, points)
            if later == known:
                break
            known = later
            self._note(task, known)
        if has_ended:
            self._sink.end(known.run, progress.state)
            self._begun.discard(task.name)
            known.ended = progress.attempt
            self._note(task, known)

    def _note(self, task: TaskDefinition, known: Forwarded) -> None:
        self._known[task.name] = known
        self._marks.write(task.name, known)


def shown_problem(error: BaseException) -> str:
    """Return an error in one line, without the secrets of the environment."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    for name, value in os.environ.items():
        if is_secret(name) and value:
            text = text.replace(value, MASK)
    return masked({"problem": text})["problem"]


def _take_variables(store: ExperimentStore) -> None:
    """Take the variables with which trackers are reached from the environment of the launch."""
    try:
        found = read_environment(store.path / "environment.json")
    except StoreError:
        return
    os.environ.update({name: value for name, value in found.items() if name.startswith(_VARIABLES)})


def sink_of(tracking: Tracking, folder: Path) -> TrackerSink:
    """Return the tracker of stored settings."""
    module = importlib.import_module(f"nemo_run.run.trackers.{tracking.kind}")
    sink: TrackerSink = getattr(module, _SINKS[tracking.kind])(tracking.settings, folder)
    return sink


def main() -> None:
    """Forward for the experiment in the folder of the first argument, to its tracker with the number of the second."""
    store, index = ExperimentStore(Path(sys.argv[1])), int(sys.argv[2])
    marks = Marks(store, index)
    with locked(marks.folder / "lock"):
        _take_variables(store)
        tracking = read_trackings(store)[index]
        if tracking.kind not in _SINKS:
            raise StoreError(f"{store.path}: there is no tracker {tracking.kind!r}")
        Forwarder(store, tracking, sink_of(tracking, marks.folder), marks).run()


if __name__ == "__main__":
    main()
