"""Tasks that may start are submitted, and jobs that an engine can hold back are handed over to it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.errors import EngineFullError, EngineUnreachableError, NemoRunError
from nemo_run.run import outages
from nemo_run.run.ending import Endings
from nemo_run.run.engines import Engines
from nemo_run.run.ledger import Ledger
from nemo_run.run.phases import BUSY, DrivenJob, DrivenTask, Phase

_MOST_HELD = 200  # dependencies of a job that an engine is given to hold it back; with more, it is held back here


class Submitter:
    """Submits what may start. What is going to be submitted is stored before."""

    def __init__(self, ledger: Ledger, engines: Engines, endings: Endings) -> None:
        self._ledger = ledger
        self._engines = engines
        self._endings = endings
        self._refused: dict[DrivenTask, NemoRunError] = {}

    @property
    def refusals(self) -> list[NemoRunError]:
        """Why engines refused tasks that are not tried again."""
        return [error for task, error in self._refused.items() if task.phase is Phase.DONE]

    def submit_ready(self) -> None:
        """Submit all that may start now."""
        schedule = self._ledger.schedule
        schedule.make_due_ready(time.monotonic())
        held_back: list[DrivenTask] = []
        while batch := self._next_batch(held_back):
            self._submit(batch)
        for task in held_back:
            schedule.move(task, Phase.READY)

    def _next_batch(self, held_back: list[DrivenTask]) -> list[DrivenTask]:
        """Return what starts now: many tasks where their engine takes many at once, else one."""
        schedule = self._ledger.schedule
        batch: list[DrivenTask] = []
        while task := schedule.pop():
            if reason := self._engines.hindrance(task) or self._ledger.hindrance(task):
                held_back.append(task)
                self._ledger.note(task, reason)
            elif batch and not self._engines.takes_with(batch, task):
                schedule.move(task, Phase.READY)
                break
            else:
                schedule.move(task, Phase.RUNNING)
                batch.append(task)
        return batch

    def _submit(self, batch: list[DrivenTask]) -> None:
        after = [self._handles_before(task.job) for task in batch]
        for task in batch:
            self._ledger.begin(task, self._engines.expected_handle(task))
        lacking = self._write_inputs(batch)
        able = [(task, handles) for task, handles in zip(batch, after, strict=True) if task not in lacking]
        submitted = self._engines.submit([task for task, _ in able], [handles for _, handles in able]) if able else []
        self._take(lacking | dict(zip((task for task, _ in able), submitted, strict=True)))
        self.hand_over(batch)

    def _take(self, answers: Mapping[DrivenTask, str | NemoRunError]) -> None:
        """Take in what engines answer; those that were submitted first, as the end of others may cancel them."""
        for task, answer in answers.items():
            if isinstance(answer, str):
                self._ledger.submitted(task, answer)
            elif isinstance(answer, EngineFullError):
                self._put_back(task, answer)
            elif isinstance(answer, EngineUnreachableError):
                self._ledger.schedule.move(task, Phase.UNSURE)
        for task, answer in answers.items():
            if isinstance(answer, NemoRunError) and not isinstance(answer, EngineFullError):
                self._not_submitted(task, answer)

    def _write_inputs(self, batch: Sequence[DrivenTask]) -> dict[DrivenTask, str | NemoRunError]:
        """Write what tasks take from other jobs; why that is not possible, for those where it is not."""
        lacking: dict[DrivenTask, str | NemoRunError] = {}
        for task in batch:
            if self._ledger.is_known_late(task.job):
                try:
                    self._ledger.write_inputs(task)
                except NemoRunError as e:
                    lacking[task] = e
        return lacking

    def _put_back(self, task: DrivenTask, error: EngineFullError) -> None:
        """Let a task wait for its turn that its engine did not take now."""
        task.put_back()
        self._ledger.schedule.move(task, Phase.READY)
        self._ledger.note(task, outages.reason(error))

    def _not_submitted(self, task: DrivenTask, error: NemoRunError) -> None:
        if task.phase is Phase.UNSURE:
            self._ledger.note(task, outages.reason(error))
            return
        self._refused[task] = error
        reason = f"could not be submitted: {error}"
        self._endings.ended(task, TaskStatus(JobState.FAILED, reason=reason, ended=time.time()))

    def _handles_before(self, job: DrivenJob) -> list[str]:
        names = self._ledger.graph.waits_for(job.id)
        return [task.progress.handle for name in names for task in self._ledger.jobs[name].tasks]

    def hand_over(self, submitted: Sequence[DrivenTask]) -> None:
        """Let engines hold back the dependants of tasks whose queues have all that these dependants wait for."""
        for name in self._ledger.graph.dependants(task.job.id for task in submitted):
            job = self._ledger.jobs[name]
            if job.is_cancelled or job.has_begun or self._ledger.is_known_late(job):
                continue
            if len(job.definition.dependencies) > _MOST_HELD:
                continue
            if self._ledger.waits_for_restarts(name):
                continue
            if self._ledger.graph.can_be_held(name, self._engines.queue(job.tasks), self._queue_now):
                self._ledger.hold(job)

    def _queue_now(self, name: str) -> str | None:
        tasks = self._ledger.jobs[name].tasks
        return self._engines.queue(tasks) if all(task.phase in BUSY for task in tasks) else None
