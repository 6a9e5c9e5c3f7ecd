"""How tasks end: by themselves, with their group, or cancelled; artifacts are collected before an end is passed on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace

from nemo_run.core.execution.jobs import TIME_LIMIT, JobState, TaskStatus
from nemo_run.errors import ExecutorError
from nemo_run.run import outages
from nemo_run.run.collecting import Collector
from nemo_run.run.engines import Engines
from nemo_run.run.ledger import Ledger
from nemo_run.run.phases import BUSY, DrivenJob, DrivenTask, Phase


class Endings:
    """Brings tasks to their end, and tells the engines of those that are cancelled."""

    def __init__(self, ledger: Ledger, engines: Engines, collector: Collector) -> None:
        self._ledger = ledger
        self._engines = engines
        self._collector = collector
        self._to_cancel: set[DrivenTask] = set()  # whose engine was not told yet
        self._over_limit: set[tuple[DrivenTask, int]] = set()  # tries that were told to end for their time limit

    # as engines say

    def take(self, statuses: Mapping[DrivenTask, TaskStatus | ExecutorError]) -> None:
        """Take in what engines say of running tasks."""
        for task, status in statuses.items():
            if isinstance(status, ExecutorError):
                self._ledger.note(task, outages.reason(status))
            elif status.unrun and not task.job.is_cancelled and self._engines.abandon(task):
                task.forget_attempt()
                self._ledger.schedule.move(task, Phase.READY)
                self._ledger.note(task, f"{status.reason}; it is submitted again")
            elif status.state.is_final:
                self._collect(task, self._explained(task, self._as_limited(task, status)))
            else:
                if task.progress.update(status):
                    self._ledger.changed(task.job)
                self._enforce_limit(task)

    def _enforce_limit(self, task: DrivenTask) -> None:
        """Have a try ended that has run for longer than it may."""
        this_try = (task, task.progress.attempt)
        if task.is_over_limit(time.time()) and this_try not in self._over_limit:
            self._over_limit.add(this_try)
            self._to_cancel.add(task)
            self.tell_engines()

    def _as_limited(self, task: DrivenTask, status: TaskStatus) -> TaskStatus:
        """Return the status of a try that nobody but its time limit has ended as a failure."""
        task.progress.started = status.started or task.progress.started
        is_limited = task.is_over_limit(status.ended or time.time()) and status.state is JobState.CANCELLED
        if not is_limited or self._ledger.is_to_be_cancelled(task.job):
            return status
        reason = f"time limit of {task.definition.timeout:g} s reached"
        return replace(status, state=JobState.FAILED, reason=reason, cause=TIME_LIMIT)

    def _explained(self, task: DrivenTask, status: TaskStatus) -> TaskStatus:
        """Return the status of a trial that its sweep has ended with the reason."""
        reason = self._ledger.studies.why_pruned(task.job.id) if status.state is JobState.CANCELLED else ""
        return replace(status, reason=reason) if reason else status

    def _collect(self, task: DrivenTask, status: TaskStatus) -> None:
        """Collect what an ended task left; it has ended for others when that is done."""
        if status.lost:  # nothing that it left behind may go on
            with contextlib.suppress(ExecutorError):
                self._engines.cancel([task])
        if self._engines.shares_files(task) and not self._collector.has_work(task):
            self.ended(task, status)
            return
        self._ledger.schedule.move(task, Phase.COLLECTING)
        self._collector.begin(task, status, self._engines.fetching(task))

    def pass_on_collected(self) -> None:
        """End the tasks whose artifacts are collected."""
        for task, status in self._collector.finished():
            self.ended(task, status)

    def ended(self, task: DrivenTask, status: TaskStatus) -> None:
        """End an attempt, and the rest of its group where its end is theirs."""
        self._ledger.end(task, status)
        if task.ends_group and not task.job.is_cancelled:
            self.cancel(task.job, f"member {task.definition.name!r} of its group ended as {task.progress.state}")
        self._ledger.changed(task.job)

    # as users say

    def obey(self) -> None:
        """Cancel the jobs whose cancellation was requested."""
        for job in self._ledger.cancel_requests():
            self.cancel(job, "cancelled")

    def cancel(self, job: DrivenJob, reason: str) -> None:
        """Cancel a job: its engine is told, and what was not submitted never is."""
        job.is_cancelled = True
        self._to_cancel.update(task for task in job.tasks if task.phase in BUSY)
        self.tell_engines()
        self._ledger.cancel_unsubmitted(job, reason)

    def tell_engines(self) -> None:
        """Tell the engines that were not told yet, where they answer."""
        untold = self._engines.cancel(task for task in self._to_cancel if task.phase in BUSY)
        self._to_cancel = set(untold)
        for task, error in untold.items():
            if error:
                self._ledger.note(task, outages.reason(error))
