"""The controller: drives the jobs of one experiment to their end.

It knows only what is in the store, and writes down every step before it takes it.  So it can be killed at any moment,
and another one goes on: what may have been submitted is asked for, what was not is submitted, and nothing runs twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.errors import EngineUnreachableError, ExecutorError, NemoRunError
from nemo_run.run import artifacts, outages
from nemo_run.run.collecting import Collector
from nemo_run.run.engines import Engines
from nemo_run.run.ledger import Ledger, Observer
from nemo_run.run.phases import BUSY, DrivenJob, DrivenTask, Phase
from nemo_run.run.records import JobProgress
from nemo_run.run.store import ExperimentStore

_TICK = 0.5  # seconds between two looks at requests, and at everything that runs
_COLLECTING = 0.05  # seconds between two looks at artifacts that are being collected


class Controller:
    """Drives one experiment. One at a time: see :meth:`ExperimentStore.driving`."""

    _ledger: Ledger
    _engines: Engines
    _collector: Collector

    def __init__(self, store: ExperimentStore, observer: Observer | None = None) -> None:
        """Drive what is stored.

        Args:
            store: The experiment.
            observer: Called with every job whose progress changed, after the change is stored.
        """
        self._store = store
        self._observer = observer
        self._to_cancel: set[DrivenTask] = set()  # whose engine was not told yet
        self._refused: dict[DrivenTask, NemoRunError] = {}
        self._last_look = 0.0

    def start(self, go_on: Callable[[int], object]) -> list[NemoRunError]:
        """Submit what can be submitted now, and leave the rest to another controller, unless engines need none.

        Args:
            go_on: Starts the other controller; it is called with the descriptor of the experiment's lock.

        Returns:
            Why engines refused tasks that are not tried again.

        Raises:
            ExperimentBusyError: Another controller drives it.
        """
        with self._driving() as (_, lock):
            self._store.drop_summary()
            self._obey()
            self._launch()
            if not self._is_left():
                go_on(lock)
            return [error for task, error in self._refused.items() if task.phase is Phase.DONE]

    def _is_left(self) -> bool:
        """Note that no controller is needed, and return whether that is so."""
        ledger = self._ledger
        if ledger.graph.is_over:
            ledger.write_summary()
            return True
        if all(ledger.graph.has_ended(job.id) or self._is_carried(job) for job in ledger.jobs.values()):
            self._store.leave_to_engines()
            return True
        return False

    def _is_carried(self, job: DrivenJob) -> bool:
        """Check whether a job needs no controller: its engine has it, and nothing is left for us to do when it ends."""
        alone = all(
            task.phase is Phase.RUNNING and not task.definition.retries and not task.definition.artifacts
            for task in job.tasks
        )
        return alone and self._engines.carry(job.tasks)

    def run(self, on_driving: Callable[[], None] | None = None, lock: int | None = None) -> dict[str, JobProgress]:
        """Drive the experiment until every job has ended.

        Args:
            on_driving: Called once the experiment is ours, and all that is stored of it has been read.
            lock: Descriptor of the experiment's lock that another controller has passed on.

        Returns:
            The progress of every job, by its id.

        Raises:
            ExperimentBusyError: Another controller drives it.
        """
        with self._driving(lock) as (ledger, _):
            self._store.drop_summary()
            if on_driving:
                on_driving()
            while True:
                self._obey()
                self._launch()
                if ledger.graph.is_over:
                    break
                self._look()
            ledger.write_summary()
            return ledger.progress

    def finish_cancelled(self) -> None:
        """End the jobs that are to be cancelled, and do nothing else: for an experiment without a controller."""
        with self._driving() as (ledger, _):
            self._obey()
            while any(job.is_cancelled and not ledger.graph.has_ended(job.id) for job in ledger.jobs.values()):
                self._look()
            self._is_left()

    @contextlib.contextmanager
    def _driving(self, lock: int | None = None) -> Iterator[tuple[Ledger, int]]:
        with self._store.driving(lock) as held, contextlib.ExitStack() as stack:
            self._engines = stack.enter_context(contextlib.closing(Engines(self._store)))
            self._collector = stack.enter_context(contextlib.closing(Collector(self._store)))
            self._ledger = Ledger(self._store, self._observer)
            for job in self._ledger.jobs.values():
                for task in job.tasks:
                    self._take_up(task)
            self._ledger.start()
            self._hand_over(self._ledger.schedule.having(Phase.RUNNING))
            yield self._ledger, held

    # what an earlier controller may have left

    def _take_up(self, task: DrivenTask) -> None:
        progress = task.progress
        if progress.state.is_final:
            self._move(task, Phase.DONE)
        elif progress.retry_at is not None:
            self._move(task, Phase.RETRYING)
        elif progress.attempt:
            self._recover(task)

    def _recover(self, task: DrivenTask) -> None:
        """Ask for an attempt that may have been submitted."""
        try:
            handle = self._engines.recover(task)
        except ExecutorError as e:
            self._move(task, Phase.UNSURE)
            self._ledger.note(task, outages.reason(e))
            return
        if handle is None:
            task.forget_attempt()
            self._move(task, Phase.WAITING)
        else:
            task.progress.handle = handle
            self._move(task, Phase.RUNNING)

    def _settle_unsure(self) -> None:
        """Ask for what may have been submitted, of engines that may answer again."""
        for task in self._ledger.schedule.having(Phase.UNSURE):
            if self._engines.outage(task):
                continue
            self._recover(task)
            if task.phase is Phase.UNSURE:
                continue
            if task.phase is Phase.WAITING:
                self._move(task, Phase.READY)
            if task.job.is_cancelled:
                self._cancel(task.job, "cancelled")
            else:
                self._ledger.changed(task.job)

    def _move(self, task: DrivenTask, phase: Phase) -> None:
        self._ledger.schedule.move(task, phase)

    # launching

    def _launch(self) -> None:
        self._ledger.schedule.make_due_ready(time.time())
        held_back: list[DrivenTask] = []
        while batch := self._next_batch(held_back):
            self._submit(batch)
        for task in held_back:
            self._move(task, Phase.READY)

    def _next_batch(self, held_back: list[DrivenTask]) -> list[DrivenTask]:
        """Return what starts now: many tasks where their engine takes many at once, else one."""
        batch: list[DrivenTask] = []
        while task := self._ledger.schedule.pop():
            if reason := self._engines.outage(task):
                held_back.append(task)
                self._ledger.note(task, reason)
            elif batch and not self._engines.takes_with(batch, task):
                self._move(task, Phase.READY)
                break
            else:
                self._move(task, Phase.RUNNING)
                batch.append(task)
        return batch

    def _submit(self, batch: list[DrivenTask]) -> None:
        after = [self._handles_before(task.job) for task in batch]
        for task in batch:
            self._ledger.begin(task, self._engines.expected_handle(task))
        answers = dict(zip(batch, self._engines.submit(batch, after), strict=True))
        for task, answer in answers.items():
            if isinstance(answer, str):
                self._ledger.submitted(task, answer)
            elif isinstance(answer, EngineUnreachableError):
                self._move(task, Phase.UNSURE)
        for task, answer in answers.items():
            if isinstance(answer, NemoRunError):
                self._not_submitted(task, answer)
        self._hand_over(batch)

    def _not_submitted(self, task: DrivenTask, error: NemoRunError) -> None:
        if task.phase is Phase.UNSURE:
            self._ledger.note(task, outages.reason(error))
        else:
            self._refused[task] = error
            self._ended(task, TaskStatus(JobState.FAILED, reason=f"could not be submitted: {error}", ended=time.time()))

    def _handles_before(self, job: DrivenJob) -> list[str]:
        names = self._ledger.graph.waits_for(job.id)
        return [task.progress.handle for name in names for task in self._ledger.jobs[name].tasks]

    def _hand_over(self, submitted: Sequence[DrivenTask]) -> None:
        """Leave it to an engine to wait, where all that a job waits for is in its queue already."""
        for name in self._ledger.graph.dependants(task.job.id for task in submitted):
            job = self._ledger.jobs[name]
            if job.is_cancelled or job.has_begun:
                continue
            if self._ledger.graph.can_be_held(name, self._engines.queue(job.tasks), self._queue_now):
                self._ledger.hold(job)

    def _queue_now(self, name: str) -> str | None:
        tasks = self._ledger.jobs[name].tasks
        return self._engines.queue(tasks) if all(task.phase in BUSY for task in tasks) else None

    # following

    def _look(self) -> None:
        tasks = self._wait()
        self._settle_unsure()
        self._tell_engines_to_cancel()
        for task, status in self._engines.states(task for task in tasks if task.phase is Phase.RUNNING).items():
            if isinstance(status, ExecutorError):
                self._ledger.note(task, outages.reason(status))
            elif status.state.is_final:
                self._collect(task, status)
            elif task.progress.update(status):
                self._ledger.changed(task.job)
        for task, status in self._collector.finished():
            self._ended(task, status)

    def _wait(self) -> list[DrivenTask]:
        """Wait for news; the tasks that there may be news of."""
        schedule = self._ledger.schedule
        pause = min(_TICK, schedule.seconds_to_retry(time.time()))
        if schedule.having(Phase.COLLECTING):
            pause = min(pause, _COLLECTING)
        running = schedule.having(Phase.RUNNING)
        news = self._engines.wait(running, pause)
        if news is None:
            time.sleep(pause)
        if time.monotonic() - self._last_look >= _TICK:
            self._last_look = time.monotonic()
            return running
        return list(dict.fromkeys([*(news or []), *(t for t in running if t.progress.state < JobState.RUNNING)]))

    def _collect(self, task: DrivenTask, status: TaskStatus) -> None:
        """Bring in what an ended task left; it has ended for others when that is done."""
        if status.lost:  # nothing that it left behind may go on
            with contextlib.suppress(ExecutorError):
                self._engines.cancel([task])
        if self._engines.shares_files(task) and not artifacts.anything_left(self._store, task.definition):
            self._ended(task, status)
            return
        self._move(task, Phase.COLLECTING)
        self._collector.begin(task, status, self._engines.fetching(task))

    def _ended(self, task: DrivenTask, status: TaskStatus) -> None:
        self._ledger.end(task, status)
        job, state = task.job, task.progress.state
        ends_group = {"failure": state is JobState.FAILED, "any": state.is_final}.get(job.definition.end_group_on)
        if job.definition.group and ends_group and not job.is_cancelled:
            self._cancel(job, f"member {task.definition.name!r} of its group ended as {state}")
        self._ledger.changed(job)

    # cancelling

    def _obey(self) -> None:
        for job in self._ledger.cancel_requests():
            self._cancel(job, "cancelled")

    def _cancel(self, job: DrivenJob, reason: str) -> None:
        job.is_cancelled = True
        self._to_cancel.update(task for task in job.tasks if task.phase in BUSY)
        self._tell_engines_to_cancel()
        self._ledger.cancel_unsubmitted(job, reason)

    def _tell_engines_to_cancel(self) -> None:
        untold = self._engines.cancel(task for task in self._to_cancel if task.phase in BUSY)
        self._to_cancel = set(untold)
        for task, error in untold.items():
            if error:
                self._ledger.note(task, outages.reason(error))
