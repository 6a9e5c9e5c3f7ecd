"""What a controller knows of its experiment: the jobs, their phases and dependencies; each change is stored at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.run.graph import Graph
from nemo_run.run.inputs import write_inputs
from nemo_run.run.phases import BUSY, DrivenJob, DrivenTask, Phase, Schedule
from nemo_run.run.records import JobDefinition, JobProgress, not_run_reason, summary
from nemo_run.run.store import ExperimentStore
from nemo_run.run.studies import Studies

Observer = Callable[[JobDefinition, JobProgress], None]


class Ledger:
    """The state of an experiment that is driven. It knows no engine.

    Attributes:
        jobs: The jobs by their ids.
        graph: Their dependencies.
        schedule: Their tasks by phase.
    """

    def __init__(self, store: ExperimentStore, observer: Observer | None = None) -> None:
        """Read what is stored.

        Args:
            store: The experiment.
            observer: Called with every job whose progress changed, after the change is stored.
        """
        self._store = store
        self._observer = observer
        self.definition = store.read_definition()
        self.jobs = {job.id: DrivenJob(job, store.own_progress(job)) for job in self.definition.jobs}
        self.graph = Graph(self.definition.jobs)
        self.studies = Studies(store)
        self.schedule = Schedule(self.jobs.values(), self.definition.max_parallel)

    @property
    def progress(self) -> dict[str, JobProgress]:
        """The progress of every job by its id."""
        return {name: job.progress for name, job in self.jobs.items()}

    @property
    def is_cancelling(self) -> bool:
        """Whether a job that was cancelled has not ended yet."""
        return any(job.is_cancelled and not self.graph.has_ended(job.id) for job in self.jobs.values())

    def start(self) -> None:
        """Go on from what is stored, once the phases of the tasks that an earlier controller has begun are known."""
        unended = {name for name, job in self.jobs.items() if not all(t.progress.state.is_final for t in job.tasks)}
        for name in dict.fromkeys(task.job.id for task in self.schedule.having(Phase.RUNNING)):
            if not unended.isdisjoint(self.graph.waits_for(name)):
                self.hold(self.jobs[name])
        for name in self.graph.roots():
            self._enqueue(self.jobs[name])
        for job in self.jobs.values():
            self.studies.tell(job.definition, job.progress)
            self._pass_on(job)

    def write_summary(self) -> None:
        """Store how the experiment ended."""
        self._store.write_summary(summary(self.definition, self.progress))

    def write_inputs(self, task: DrivenTask) -> None:
        """Write what a task takes from other jobs, which have ended, or from a sweep, beside it."""
        jobs = [self.jobs[name].definition for name in task.job.definition.inputs]
        write_inputs(self._store, task.definition, jobs, self.studies.suggest(task.job.id))

    def is_known_late(self, job: DrivenJob) -> bool:
        """Check whether what a job takes is known only when it starts."""
        return bool(job.definition.inputs) or self.studies.has(job.id)

    def hindrance(self, task: DrivenTask) -> str:
        """Return why a task cannot start now, though its engine would take it; empty if it can."""
        if not self.studies.has(task.job.id):
            return ""
        return self.studies.hindrance(task.job.id, (other.job.id for other in self.schedule.having(*BUSY)))

    def changed(self, job: DrivenJob) -> None:
        """Store the progress of a job, tell the observer, and decide on the jobs that depend on it."""
        self._write(job)
        self._pass_on(job)

    def _write(self, job: DrivenJob) -> None:
        self._store.write_progress(job.definition, job.progress)
        self.studies.tell(job.definition, job.progress)
        self._tell(job)

    def _tell(self, job: DrivenJob) -> None:
        """Tell the observer of a job."""
        if self._observer:
            self._observer(job.definition, job.progress)

    def _pass_on(self, job: DrivenJob) -> None:
        """Make the dependants ready that may start now, and end those that never can."""
        todo = [job]
        while todo:
            job = todo.pop()
            for decision in self.graph.report(job.id, job.progress.state):
                dependant = self.jobs[decision.job]
                if decision.may_run:
                    self._enqueue(dependant)
                else:
                    unsubmitted = [task for task in dependant.tasks if task.progress.state is JobState.UNSUBMITTED]
                    self._end_unrun(unsubmitted, not_run_reason(job.id, job.progress))
                    self._write(dependant)
                    todo.append(dependant)

    def _enqueue(self, job: DrivenJob) -> None:
        for task in job.tasks:
            if task.phase is Phase.WAITING and task.progress.state is JobState.UNSUBMITTED:
                self.schedule.move(task, Phase.READY)

    def _end_unrun(self, tasks: Iterable[DrivenTask], reason: str) -> None:
        for task in tasks:
            task.end_unrun(reason, time.time())
            self.schedule.move(task, Phase.DONE)

    # one task

    def note(self, task: DrivenTask, reason: str) -> None:
        """Set the reason why nothing is known of a task, or why it does not start."""
        if task.progress.reason != reason:
            task.progress.reason = reason
            self.changed(task.job)

    def begin(self, task: DrivenTask, expected_handle: str) -> None:
        """Store that an attempt is going to be submitted, before it is."""
        task.begin(time.time())
        task.progress.handle = expected_handle
        self._store.write_progress(task.job.definition, task.job.progress)

    def submitted(self, task: DrivenTask, handle: str) -> None:
        """Take in the handle of an attempt; it is stored where it could not be told before."""
        is_new, task.progress.handle = handle != task.progress.handle, handle
        if is_new:
            self._write(task.job)
        else:
            self._tell(task.job)

    def end(self, task: DrivenTask, status: TaskStatus) -> None:
        """Take in an attempt's end; start the task again where it may be restarted or retried, and is not cancelled."""
        task.end(status, time.time())
        job = task.job
        goes_on = task.is_to_go_on
        over = task.restarts_are_over(time.time()) if goes_on else ""
        if over:
            task.give_up(over)
        restarts = goes_on and not over
        if (restarts or task.can_be_tried_again) and not self.is_to_be_cancelled(job):
            delay = task.plan_restart(time.time()) if restarts else task.plan_retry(time.time())
            self.schedule.retry(task, time.monotonic() + delay)
        else:
            self.schedule.move(task, Phase.DONE)

    # one job

    def hold(self, job: DrivenJob) -> None:
        """Let the engine of a job wait for its dependencies: its tasks are submitted now."""
        self.graph.hold(job.id)
        self._enqueue(job)

    def waits_for_restarts(self, name: str) -> bool:
        """Check whether a job that it waits for may be restarted, which makes another job of it for the engine."""
        before = (self.jobs[dependency].tasks for dependency in self.graph.waits_for(name))
        return any(task.definition.restart_max for tasks in before for task in tasks)

    def cancel_unsubmitted(self, job: DrivenJob, reason: str) -> None:
        """End the tasks of a job that no engine has, and that none may have."""
        waiting = (Phase.WAITING, Phase.READY, Phase.RETRYING)
        self._end_unrun([task for task in job.tasks if task.phase in waiting], reason)
        self.changed(job)

    def is_to_be_cancelled(self, job: DrivenJob) -> bool:
        """Check whether a job was cancelled, or is to be."""
        return job.is_cancelled or self._store.cancel_requested(job.definition)

    def cancel_requests(self) -> list[DrivenJob]:
        """Return the jobs that are to be cancelled and are not yet."""
        if not self._store.any_cancel_requested():
            return []
        open_jobs = [job for job in self.jobs.values() if not (job.is_cancelled or self.graph.has_ended(job.id))]
        return [job for job in open_jobs if self._store.cancel_requested(job.definition)]
