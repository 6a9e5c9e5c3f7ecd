"""Artifacts of ended tasks are brought into the store beside the controller's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.errors import ArtifactsLeftOutError
from nemo_run.run import artifacts, results
from nemo_run.run.phases import DrivenTask
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor


class Collector:
    """Collects the artifacts of tasks, two at a time. A task's end is passed on when that is done."""

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._threads: ThreadPoolExecutor | None = None
        self._work: dict[DrivenTask, tuple[Future[str], TaskStatus]] = {}

    def has_work(self, task: DrivenTask) -> bool:
        """Check whether there is anything to collect of a task that writes to folders of this machine."""
        return artifacts.anything_left(self._store, task.definition)

    def begin(self, task: DrivenTask, status: TaskStatus, fetch: Callable[[Path], None]) -> None:
        """Begin to collect what a task left that ended with this status."""
        if self._threads is None:
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(2, thread_name_prefix="nemo-run artifacts")
        work = self._threads.submit(self._collect, task, status, fetch)
        self._work[task] = (work, status)

    def _collect(self, task: DrivenTask, status: TaskStatus, fetch: Callable[[Path], None]) -> str:
        """Collect what a task left; the exception that ended it, in one line, where it left one."""
        artifacts.collect(self._store, task.definition, fetch)
        if status.state is not JobState.FAILED:
            return ""
        error = results.exception(self._store, task.definition, task.progress.attempt)
        return str(error or "")

    def finished(self) -> list[tuple[DrivenTask, TaskStatus]]:
        """Return the tasks whose artifacts are collected since the last call, and how each ended."""
        done = [(task, work, status) for task, (work, status) in self._work.items() if work.done()]
        for task, _, _ in done:
            del self._work[task]
        return [(task, _noted(status, work)) for task, work, status in done]

    def close(self) -> None:
        """Wait for what has begun."""
        if self._threads is not None:
            self._threads.shutdown()


def left_note(problem: BaseException) -> str:
    """Return what a status says where artifacts could not be collected."""
    if isinstance(problem, ArtifactsLeftOutError):
        return str(problem)
    return f"its artifacts could not be collected: {problem}"


def _noted(status: TaskStatus, work: Future[str]) -> TaskStatus:
    problem = work.exception()
    error = "" if problem else work.result()
    note = left_note(problem) if problem else ""
    return replace(status, reason="; ".join(filter(None, [error, status.reason, note])))
