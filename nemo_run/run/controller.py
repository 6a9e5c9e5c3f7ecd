"""The controller: drives the jobs of one experiment to their end.

It knows nothing but what is in the store, and writes down every step before it is taken.  So it can be killed at any
moment, and another one goes on from the truth: what was submitted is asked for, what was not is submitted, and
nothing is run twice.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import cast

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Backend, BatchBackend
from nemo_run.core.execution.jobs import JobState, JobStatus, Plan
from nemo_run.errors import EngineUnreachableError, ExecutorError, NemoRunError
from nemo_run.run import artifacts, outages
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskProgress, not_run_reason, summary
from nemo_run.run.store import ExperimentStore

Observer = Callable[[JobDefinition, JobProgress], None]

_TICK = 0.5  # seconds between two looks at requests, and at everything that runs
_COLLECTING = 0.05  # seconds between two looks at artifacts that are being collected
_MAX_DELAY = 60.0  # seconds; retries wait no longer
_Task = tuple[str, int]  # id of the job, index of the task in it


class Controller:
    """Drives one experiment. One at a time: see :meth:`ExperimentStore.driving`."""

    def __init__(self, store: ExperimentStore, observer: Observer | None = None) -> None:
        """Drive what is stored.

        Args:
            store: The experiment.
            observer: Called with every job whose progress changed, after the change is stored.
        """
        self._store = store
        self._observer = observer
        self._definition: Definition = store.read_definition()
        self._jobs = {job.id: job for job in self._definition.jobs}
        self._progress: dict[str, JobProgress] = {}
        self._plans: dict[_Task, Plan] = {}
        self._backends = Backends()
        self._in_flight: dict[str, _Task] = {}  # by handle
        self._cancelled: set[str] = set()  # jobs that were told to end
        self._settled: set[str] = set()  # jobs whose end has been passed on
        self._waiting: dict[str, set[str]] = {}  # job -> dependencies that have not ended
        self._dependants: dict[str, list[str]] = {job.id: [] for job in self._definition.jobs}
        self._order = {job.id: position for position, job in enumerate(self._definition.jobs)}
        self._ready: list[tuple[int, _Task]] = []  # a heap: of what can start, what was added first starts first
        self._handed_over: set[str] = set()  # jobs whose dependencies their engine waits for
        self._retries: dict[_Task, float] = {}
        self._last_look = 0.0
        self._outages = outages.Outages()
        self._unsure: set[_Task] = set()  # submitted or not: the engine did not answer
        self._uncancelled: set[str] = set()  # handles that were to be cancelled when the engine did not answer
        self._collectors: ThreadPoolExecutor | None = None
        self._collecting: dict[str, tuple[Future[None], JobStatus]] = {}  # by handle

    def run(self, on_driving: Callable[[], None] | None = None) -> dict[str, JobProgress]:
        """Drive the experiment until every job has ended.

        Args:
            on_driving: Called once the experiment is ours, and all that is stored of it has been read.

        Returns:
            The progress of every job, by its id.

        Raises:
            ExperimentBusyError: Another controller drives it.
        """
        with self._store.driving():
            try:
                self._load()
                self._store.drop_summary()
                if on_driving:
                    on_driving()
                while True:
                    self._obey()
                    self._launch()
                    if len(self._settled) == len(self._jobs):
                        break
                    self._look(self._wait())
                    self._collected()
                self._store.write_summary(summary(self._definition, self._progress))
            finally:
                self._close()
        return self._progress

    def finish_cancelled(self) -> None:
        """End the jobs that somebody wishes to be cancelled, and nothing else: for when no controller is there."""
        with self._store.driving():
            try:
                self._load()
                self._obey()
                while self._cancelled - self._settled:
                    self._look(self._wait())
                    self._collected()
                if len(self._settled) == len(self._jobs):
                    self._store.write_summary(summary(self._definition, self._progress))
            finally:
                self._close()

    def _close(self) -> None:
        if self._collectors is not None:
            self._collectors.shutdown()
        self._backends.close()

    # what is there

    def _load(self) -> None:
        for job in self._definition.jobs:
            self._progress[job.id] = self._store.read_progress(job)
            self._waiting[job.id] = set(job.dependencies)
            for dependency in self._waiting[job.id]:
                self._dependants[dependency].append(job.id)
        for job in self._definition.jobs:
            for index, task in enumerate(self._progress[job.id].tasks):
                self._take_up(job, index, task)
        in_flight = {job_id for job_id, _ in self._in_flight.values()}
        unended = {name for name, job in self._progress.items() if not all(task.state.is_final for task in job.tasks)}
        self._handed_over = {job_id for job_id in in_flight if self._waiting[job_id] & unended}
        for job in self._definition.jobs:
            if not job.dependencies or job.id in self._handed_over:
                self._enqueue(job)
        for job in self._definition.jobs:
            self._pass_on(job)
        for job in self._definition.jobs:
            self._hand_over(job)

    def _take_up(self, job: JobDefinition, index: int, task: TaskProgress) -> None:
        """Go on with a task where an earlier controller may have left it."""
        if task.state.is_final or task.attempt == 0:
            return
        if task.retry_at is not None:
            self._retries[job.id, index] = task.retry_at
            return
        plan = self._plan(job, index)
        backend = self._backends.of(plan)
        try:
            handle = backend.recover(plan, task.attempt)
        except ExecutorError as e:
            self._unsure.add((job.id, index))
            self._outage(backend, [(job.id, index)], e)
            return
        self._outages.ended(backend)
        if handle is None:  # it was never submitted: as if we had not begun
            task.state, task.handle, task.reason = JobState.UNSUBMITTED, "", ""
            return
        task.handle = handle
        self._in_flight[handle] = (job.id, index)

    def _plan(self, job: JobDefinition, index: int) -> Plan:
        key = (job.id, index)
        if key not in self._plans:
            self._plans[key] = self._store.read_plan(job.tasks[index])
        return self._plans[key]

    def _settle_unsure(self) -> None:
        """Ask for what may have been submitted, of engines that may answer again."""
        for key in sorted(self._unsure):
            job, index = self._jobs[key[0]], key[1]
            if self._outages.lasts(self._backends.of(self._plan(job, index))):
                continue
            task = self._progress[job.id].tasks[index]
            self._unsure.discard(key)
            self._take_up(job, index, task)
            if key in self._unsure:
                continue
            if job.id in self._cancelled:
                if task.handle:
                    self._uncancelled.add(task.handle)
                else:
                    _end_unrun(task, "cancelled")
            elif task.state is JobState.UNSUBMITTED:
                self._make_ready(key)
            self._changed(job)

    # launching

    def _enqueue(self, job: JobDefinition) -> None:
        tasks = self._progress[job.id].tasks
        for index, task in enumerate(tasks):
            if task.state is JobState.UNSUBMITTED:
                self._make_ready((job.id, index))

    def _make_ready(self, key: _Task) -> None:
        heapq.heappush(self._ready, (self._order[key[0]], key))

    def _launch(self) -> None:
        now = time.time()
        for key in [key for key, at in self._retries.items() if at <= now]:
            del self._retries[key]
            self._make_ready(key)
        held: list[_Task] = []
        while batch := self._next_batch(held):
            for job_id, index in batch:
                self._begin(self._jobs[job_id], self._progress[job_id].tasks[index], index)
            self._submit(batch)
        for key in held:
            self._make_ready(key)

    def _next_batch(self, held: list[_Task]) -> list[_Task]:
        """What can start now: many tasks where their engine takes many at once, else one."""
        batch: list[_Task] = []
        while self._ready and self._room(self._ready[0][1], batch):
            key = self._ready[0][1]
            job, task = self._jobs[key[0]], self._progress[key[0]].tasks[key[1]]
            is_held_back = not task.state.is_final and self._is_held_back(job, key[1])
            if not (task.state.is_final or is_held_back):  # it may have been cancelled meanwhile
                if batch and not self._go_together(batch[0], key):
                    break
                batch.append(key)
            elif is_held_back:
                held.append(key)
            heapq.heappop(self._ready)
        return batch

    def _go_together(self, one: _Task, other: _Task) -> bool:
        """Whether one engine takes both at once."""
        backend = self._common_backend(one, other)
        return hasattr(backend, "submit_many")

    def _common_backend(self, one: _Task, other: _Task) -> Backend | None:
        """The backend of both; ``None`` where they have none in common."""
        try:
            plans = [self._plan(self._jobs[job_id], index) for job_id, index in (one, other)]
            return self._backends.of(plans[0]) if plans[0].backend_key == plans[1].backend_key else None
        except NemoRunError:  # submitting it will tell what is wrong
            return None

    def _is_held_back(self, job: JobDefinition, index: int) -> bool:
        """Whether its engine does not answer now."""
        try:
            backend = self._backends.of(self._plan(job, index))
        except NemoRunError:  # submitting it will tell what is wrong
            return False
        if self._outages.lasts(backend):
            self._tell_outage(backend, (job.id, index))
            return True
        return False

    def _room(self, key: _Task, batch: list[_Task]) -> bool:
        limit = self._definition.max_parallel
        if limit is None or not (self._in_flight or batch):
            return True
        job, busy = self._jobs[key[0]], [*self._in_flight.values(), *batch]
        if not job.group or any(owner == job.id for owner, _ in busy):
            return len(busy) < limit or job.group  # the members of a group run together
        return len(busy) + len(job.tasks) <= limit

    def _begin(self, job: JobDefinition, task: TaskProgress, index: int) -> None:
        """Write down that a task is going to be submitted."""
        task.attempt += 1
        task.tries = len(task.history) + 1
        task.state, task.reason, task.exit_code, task.retry_at = JobState.SUBMITTED, "", None, None
        task.submitted, task.started, task.ended = time.time(), None, None
        task.handle = ""
        with contextlib.suppress(NemoRunError):  # submitting it will tell what is wrong
            plan = self._plan(job, index)
            task.handle = self._backends.of(plan).handle(plan, task.attempt)
        self._store.write_progress(job, self._progress[job.id])

    def _submit(self, batch: list[_Task]) -> None:
        try:
            answers = self._ask_to_submit(batch)
        except NemoRunError as e:
            answers = [e] * len(batch)
        for (job_id, index), answer in zip(batch, answers, strict=True):
            job, task = self._jobs[job_id], self._progress[job_id].tasks[index]
            if isinstance(answer, EngineUnreachableError):
                self._unsure.add((job_id, index))
                self._outage(self._backends.of(self._plan(job, index)), [(job_id, index)], answer)
            elif isinstance(answer, Exception):
                reason = f"could not be submitted: {answer}"
                self._ended(job, index, JobStatus(JobState.FAILED, reason=reason, ended=time.time()))
            else:
                task.handle = answer
                self._in_flight[answer] = (job_id, index)
                self._tell(job)
        for job_id in dict.fromkeys(job_id for job_id, _ in batch):
            for name in self._dependants[job_id]:
                self._hand_over(self._jobs[name])

    def _ask_to_submit(self, batch: list[_Task]) -> Sequence[str | NemoRunError]:
        tasks = [(self._plan(self._jobs[job], index), self._progress[job].tasks[index]) for job, index in batch]
        backend = self._backends.of(tasks[0][0])
        if not hasattr(backend, "submit_many"):
            return [backend.submit(plan, task.attempt) for plan, task in tasks]
        afters = [self._handles_of(self._waiting[job]) for job, _ in batch]
        attempts = [(plan, task.attempt, after) for (plan, task), after in zip(tasks, afters, strict=True)]
        return cast("BatchBackend", backend).submit_many(attempts)

    def _handles_of(self, jobs: Iterable[str]) -> list[str]:
        return [task.handle for job_id in sorted(jobs) for task in self._progress[job_id].tasks]

    def _hand_over(self, job: JobDefinition) -> None:
        """Leave it to an engine to wait for a job's dependencies, where all of them are in its queue already."""
        if job.id in self._handed_over | self._settled | self._cancelled or not self._waiting[job.id]:
            return
        tasks = [(job.id, index) for index in range(len(job.tasks))]
        if any(self._progress[job.id].tasks[index].attempt for _, index in tasks):
            return
        before = [self._in_flight.get(handle) for handle in self._handles_of(self._waiting[job.id])]
        if all(key is not None and self._waits_for(task, key) for key in before for task in tasks):
            self._handed_over.add(job.id)
            self._enqueue(job)

    def _waits_for(self, task: _Task, other: _Task) -> bool:
        """Whether an engine itself can hold a task back until another has ended."""
        backend = self._common_backend(task, other)
        return backend is not None and backend.supports_dependencies

    # following

    def _wait(self) -> list[str]:
        """Wait for news; the handles that there may be news of."""
        now = time.time()
        pause = max(0.0, min([_TICK, *(at - now for at in self._retries.values())]))
        if self._collecting:
            pause = min(pause, _COLLECTING)
        open_handles = [handle for handle in self._in_flight if handle not in self._collecting]
        by_backend = self._by_backend(open_handles)
        if not by_backend:
            time.sleep(pause)
            return []
        news: list[str] = []
        for backend, handles in by_backend:
            if self._outages.lasts(backend):
                time.sleep(pause / len(by_backend))
            else:
                news += backend.wait(handles, pause / len(by_backend))
        if time.monotonic() - self._last_look >= _TICK:
            self._last_look = time.monotonic()
            return open_handles
        in_flight = ((handle, *self._in_flight[handle]) for handle in open_handles)
        fresh = [handle for handle, job, i in in_flight if self._progress[job].tasks[i].state < JobState.RUNNING]
        return list(dict.fromkeys([*news, *fresh]))

    def _by_backend(self, handles: Iterable[str]) -> list[tuple[Backend, list[str]]]:
        tasks = ((handle, *self._in_flight[handle]) for handle in handles)
        return self._backends.group((self._plan(self._jobs[job], index), handle) for handle, job, index in tasks)

    def _look(self, handles: list[str]) -> None:
        self._settle_unsure()
        self._cancel_uncancelled()
        for backend, some in self._by_backend(handles):
            if self._outages.lasts(backend):
                continue
            try:
                statuses = backend.states(some)
            except ExecutorError as e:
                self._outage(backend, [self._in_flight[handle] for handle in some], e)
                continue
            self._outages.ended(backend)
            for handle, status in statuses.items():
                job_id, index = self._in_flight[handle]
                job, task = self._jobs[job_id], self._progress[job_id].tasks[index]
                if not status.state.is_final:
                    if task.update(status):
                        self._changed(job)
                    continue
                if status.lost:  # nothing that it left behind may go on
                    with contextlib.suppress(ExecutorError):
                        backend.cancel([handle])
                self._collect(job, index, backend, status)

    def _outage(self, backend: Backend, tasks: Iterable[_Task], error: ExecutorError) -> None:
        """An engine does not answer, or refuses to: what was last known of these tasks stays, with a word on why."""
        self._outages.began(backend, error)
        for key in tasks:
            self._tell_outage(backend, key)

    def _tell_outage(self, backend: Backend, key: _Task) -> None:
        task = self._progress[key[0]].tasks[key[1]]
        if task.reason != self._outages.reason(backend):
            task.reason = self._outages.reason(backend)
            self._changed(self._jobs[key[0]])

    def _collect(self, job: JobDefinition, index: int, backend: Backend, status: JobStatus) -> None:
        """Bring in what an ended task left; it has ended for others when that is done."""
        definition, handle = job.tasks[index], self._progress[job.id].tasks[index].handle
        if not artifacts.anything_to_collect(self._store, definition, backend):
            self._ended(job, index, status)
            return
        if self._collectors is None:
            self._collectors = ThreadPoolExecutor(2, thread_name_prefix="nemo-run artifacts")
        plan = self._plan(job, index)
        work = self._collectors.submit(artifacts.collect, self._store, definition, plan, handle, backend)
        self._collecting[handle] = (work, status)

    def _collected(self) -> None:
        for handle, (work, status) in list(self._collecting.items()):
            if not work.done():
                continue
            del self._collecting[handle]
            problem = work.exception()
            note = f"its artifacts could not be collected: {problem}" if problem else ""
            reason = "; ".join(filter(None, [status.reason, note]))
            job_id, index = self._in_flight[handle]
            self._ended(self._jobs[job_id], index, replace(status, reason=reason))

    def _ended(self, job: JobDefinition, index: int, status: JobStatus) -> None:
        task = self._progress[job.id].tasks[index]
        self._in_flight.pop(task.handle, None)
        task.update(status)
        task.ended = status.ended or time.time()
        wanted = job.id not in self._cancelled and not self._store.cancel_requested(job)
        if status.state is JobState.FAILED and wanted and task.tries <= job.tasks[index].retries:
            self._retry(job, index, task)
        if job.group:
            self._end_group(job, index)
        self._changed(job)

    def _retry(self, job: JobDefinition, index: int, task: TaskProgress) -> None:
        definition = job.tasks[index]
        delay = min(definition.retry_delay * 2 ** (task.tries - 1), _MAX_DELAY)
        what = task.reason or f"exit code {task.exit_code}"
        task.history.append(
            {"attempt": task.attempt, "handle": task.handle, "exit_code": task.exit_code, "reason": task.reason,
             "started": task.started, "ended": task.ended}
        )  # fmt: skip
        task.reason = f"try {task.tries} of {definition.retries + 1} failed ({what}); next in {delay:g} s"
        task.state, task.ended, task.retry_at = JobState.PENDING, None, time.time() + delay
        self._retries[job.id, index] = task.retry_at

    def _end_group(self, job: JobDefinition, index: int) -> None:
        """End the other members of a group where its policy says so."""
        task = self._progress[job.id].tasks[index]
        ends = {"failure": task.state is JobState.FAILED, "any": task.state.is_final}.get(job.end_group_on, False)
        if ends and job.id not in self._cancelled:
            self._cancel(job, f"member {job.tasks[index].name!r} of its group ended as {task.state}")

    # ending

    def _obey(self) -> None:
        """Cancel what others wish to be cancelled."""
        if not self._store.any_cancel_requested():
            return
        for job in self._definition.jobs:
            if job.id not in self._cancelled | self._settled and self._store.cancel_requested(job):
                self._cancel(job, "cancelled")

    def _cancel(self, job: JobDefinition, reason: str) -> None:
        self._cancelled.add(job.id)
        running = [handle for handle, (owner, _) in self._in_flight.items() if owner == job.id]
        self._uncancelled.update(running)
        self._cancel_uncancelled()
        for index, task in enumerate(self._progress[job.id].tasks):
            if not task.state.is_final and task.handle not in running and (job.id, index) not in self._unsure:
                self._retries.pop((job.id, index), None)
                _end_unrun(task, reason)
        self._changed(job)

    def _cancel_uncancelled(self) -> None:
        self._uncancelled &= self._in_flight.keys()  # what has ended meanwhile needs no cancelling
        for backend, handles in self._by_backend(self._uncancelled):
            if self._outages.lasts(backend):
                continue
            try:
                backend.cancel(handles)
            except EngineUnreachableError as e:  # a refusal is for whoever wishes it
                self._outage(backend, [self._in_flight[handle] for handle in handles], e)
            else:
                self._uncancelled.difference_update(handles)

    def _changed(self, job: JobDefinition) -> None:
        self._store.write_progress(job, self._progress[job.id])
        self._tell(job)
        self._pass_on(job)

    def _tell(self, job: JobDefinition) -> None:
        if self._observer:
            self._observer(job, self._progress[job.id])

    def _pass_on(self, job: JobDefinition) -> None:
        """Where a job's state decides on its dependants, let them start, or mark them as never to be run."""
        todo = [job]
        while todo:
            job = todo.pop()
            progress = self._progress[job.id]
            if job.id in self._settled:
                continue
            if progress.state.is_final:
                self._settled.add(job.id)
            for dependant in (self._jobs[name] for name in self._dependants[job.id]):
                may_start = dependant.may_start(progress.state)
                if may_start is None or job.id not in self._waiting[dependant.id]:
                    continue
                self._waiting[dependant.id].discard(job.id)
                if dependant.id in self._settled:
                    continue
                if not may_start:
                    self._skip(dependant, not_run_reason(job.id, progress))
                    todo.append(dependant)
                elif not self._waiting[dependant.id] and dependant.id not in self._handed_over:
                    self._enqueue(dependant)

    def _skip(self, job: JobDefinition, reason: str) -> None:
        for task in self._progress[job.id].tasks:
            if task.state is JobState.UNSUBMITTED:
                _end_unrun(task, reason)
        self._store.write_progress(job, self._progress[job.id])
        self._tell(job)


def _end_unrun(task: TaskProgress, reason: str) -> None:
    task.state, task.reason, task.ended, task.retry_at = JobState.CANCELLED, reason, time.time(), None
