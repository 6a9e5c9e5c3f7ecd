"""What a controller asks of engines. Nothing else of the controller calls a backend."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Backend, Submission
from nemo_run.core.execution.jobs import Plan, TaskStatus
from nemo_run.errors import EngineFullError, EngineUnreachableError, ExecutorError, NemoRunError
from nemo_run.run.outages import Outages
from nemo_run.run.phases import DrivenJob, DrivenTask
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import Tunnel

_FULL = 5.0  # seconds between two tries to submit more to an engine that took no more, at most
_FEW = 16  # tasks that are tried then
_PLANS = 2000  # that are kept in memory


class Engines:
    """The engines of one experiment's tasks. One that does not answer is left alone for a while, ever longer."""

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._plans: OrderedDict[DrivenTask, Plan] = OrderedDict()
        self._keys: dict[DrivenTask, str] = {}
        self._backends = Backends()
        self._outages = Outages()
        self._full = Outages(longest=_FULL)

    def close(self) -> None:
        """Close all connections; what was submitted goes on."""
        self._backends.close()

    def _plan(self, task: DrivenTask) -> Plan:
        """Return the plan of a task; of thousands, only the last ones are kept."""
        if task not in self._plans:
            self._plans[task] = plan = self._store.read_plan(task.definition)
            self._keys[task] = plan.backend_key
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return self._plans[task]

    def _key(self, task: DrivenTask) -> str:
        return self._keys.get(task) or self._plan(task).backend_key

    def _backend(self, task: DrivenTask) -> Backend:
        return self._backends.made.get(self._key(task)) or self._backends.of(self._plan(task))

    def _try_backend(self, task: DrivenTask) -> Backend | None:
        """Return the backend of a task; ``None`` where its plan is damaged or names no engine: submitting tells so."""
        try:
            return self._backend(task)
        except NemoRunError:
            return None

    def _by_backend(self, tasks: Iterable[DrivenTask]) -> list[tuple[Backend, list[DrivenTask]]]:
        groups: dict[Backend, list[DrivenTask]] = {}
        for task in tasks:
            groups.setdefault(self._backend(task), []).append(task)
        return list(groups.items())

    # what they can do

    def outage(self, task: DrivenTask) -> str:
        """Return why the task's engine is not to be asked now; empty where it can be."""
        backend = self._try_backend(task)
        return self._outages.reason(backend) if backend and self._outages.lasts(backend) else ""

    def hindrance(self, task: DrivenTask) -> str:
        """Return why the task is not to be submitted now: its engine does not answer, or takes no more jobs."""
        backend = self._try_backend(task)
        full = self._full.reason(backend) if backend and self._full.lasts(backend) else ""
        return full or self.outage(task)

    def queue(self, tasks: Iterable[DrivenTask]) -> str | None:
        """Return the queue that all these tasks belong in; ``None`` where they have none that holds jobs back."""
        queues: set[str | None] = set()
        for task in tasks:
            backend = self._try_backend(task)
            queues.add(self._key(task) if backend and backend.can.holds_dependencies else None)
        return queues.pop() if len(queues) == 1 else None

    def carry(self, job: DrivenJob) -> bool:
        """Check whether a job needs no controller: an engine with a queue of its own brings it to its end by itself."""
        if not job.runs_alone or self.queue(job.tasks) is None:
            return False
        return len(job.tasks) == 1 or self._backend(job.tasks[0]).can.runs_groups

    def takes_with(self, batch: Sequence[DrivenTask], task: DrivenTask) -> bool:
        """Check whether one engine takes a task together with these."""
        backend = self._try_backend(batch[0])
        if backend is None or backend is not self._try_backend(task):
            return False
        return len(batch) < min(backend.at_once, _FEW if self._full.reason(backend) else backend.at_once)

    # launching

    def expected_handle(self, task: DrivenTask) -> str:
        """Return the handle that the next attempt will have; empty where only the engine can tell."""
        backend = self._try_backend(task)
        with contextlib.suppress(NemoRunError):  # submitting it will tell what is wrong
            return backend.expected_handle(self._plan(task), task.progress.attempt + 1) if backend else ""
        return ""

    def submit(self, tasks: Sequence[DrivenTask], after: Sequence[Sequence[str]]) -> Sequence[str | NemoRunError]:
        """Submit tasks of one engine.

        Args:
            tasks: The tasks; their attempts have begun.
            after: For each task the handles of those that it waits for, where its engine holds it back.

        Returns:
            For each task its handle, or why it was not submitted. After an :class:`EngineUnreachableError` it may have
            been.
        """
        try:
            answers = self._submit(tasks, after)
        except NemoRunError as e:
            answers = [e] * len(tasks)
        unreachable = next((answer for answer in answers if isinstance(answer, EngineUnreachableError)), None)
        if unreachable:
            self._outages.began(self._backend(tasks[0]), unreachable)
        self._note_whether_full(tasks[0], answers)
        return answers

    def _note_whether_full(self, task: DrivenTask, answers: Sequence[str | NemoRunError]) -> None:
        full = next((answer for answer in answers if isinstance(answer, EngineFullError)), None)
        backend = self._try_backend(task)
        if full and backend:
            if any(isinstance(answer, str) for answer in answers):
                self._full.ended(backend)
            self._full.began(backend, full)
        elif backend:
            self._full.ended(backend)

    def _submit(self, tasks: Sequence[DrivenTask], after: Sequence[Sequence[str]]) -> Sequence[str | NemoRunError]:
        submissions = [
            Submission(self._plan_of_attempt(task), task.progress.attempt, handles)
            for task, handles in zip(tasks, after, strict=True)
        ]
        return self._backend(tasks[0]).submit(submissions)

    def _plan_of_attempt(self, task: DrivenTask) -> Plan:
        plan, variables = self._plan(task), task.restart_variables
        return self._backend(task).with_variables(plan, variables) if variables else plan

    def recover(self, task: DrivenTask) -> str | None:
        """Return the handle of the task's attempt; ``None`` where it was not submitted, and never will be.

        Raises:
            ExecutorError: The engine did not answer.
        """
        plan = self._plan(task)
        backend = self._backends.of(plan)
        if task.progress.handle and not backend.expected_handle(plan, task.progress.attempt):
            return task.progress.handle  # it is stored after the submission only
        try:
            handle = backend.recover(plan, task.progress.attempt)
        except ExecutorError as e:
            self._outages.began(backend, e)
            raise
        self._outages.ended(backend)
        return handle

    def abandon(self, task: DrivenTask) -> bool:
        """Make sure that an attempt that its engine lost never begins; return whether that is so."""
        with contextlib.suppress(ExecutorError):  # it is asked again
            return self._backend(task).abandon(self._plan(task), task.progress.attempt)
        return False

    # following

    def wait(self, tasks: Iterable[DrivenTask], timeout: float) -> list[DrivenTask] | None:
        """Wait until some tasks may have changed, and return them; ``None`` where there is no engine to wait for."""
        groups = [(backend, some) for backend, some in self._by_backend(tasks) if not self._outages.lasts(backend)]
        news: list[DrivenTask] = []
        for backend, some in groups:
            by_handle = {task.progress.handle: task for task in some}
            news += [by_handle[handle] for handle in backend.wait(list(by_handle), timeout / len(groups))]
        return news if groups else None

    def states(self, tasks: Iterable[DrivenTask]) -> dict[DrivenTask, TaskStatus | ExecutorError]:
        """Ask how far tasks are. An engine that did not answer gives its tasks the error; one in an outage nothing."""
        found: dict[DrivenTask, TaskStatus | ExecutorError] = {}
        for backend, some in self._by_backend(tasks):
            if self._outages.lasts(backend):
                continue
            by_handle = {task.progress.handle: task for task in some}
            try:
                statuses = backend.states(list(by_handle))
            except ExecutorError as e:
                self._outages.began(backend, e)
                found |= dict.fromkeys(some, e)
            else:
                self._outages.ended(backend)
                found |= {by_handle[handle]: status for handle, status in statuses.items()}
        return found

    def cancel(self, tasks: Iterable[DrivenTask]) -> dict[DrivenTask, EngineUnreachableError | None]:
        """Ask the engines to end tasks.

        Returns:
            The tasks whose engine was not told, each with its error; ``None`` where it was not to be asked now.
        """
        untold: dict[DrivenTask, EngineUnreachableError | None] = {}
        for backend, some in self._by_backend(tasks):
            if self._outages.lasts(backend):
                untold |= dict.fromkeys(some, None)
                continue
            try:
                backend.cancel([task.progress.handle for task in some])
            except EngineUnreachableError as e:  # a refusal is an error of the caller
                self._outages.began(backend, e)
                untold |= dict.fromkeys(some, e)
        return untold

    # files

    def way(self, task: DrivenTask) -> Callable[[], tuple[Tunnel, str]]:
        """Return a function that finds how to get to where a running task is, and its folder there."""
        plan = self._plan(task)
        return partial(self._backends.of(plan).reach, plan)

    def shares_files(self, task: DrivenTask) -> bool:
        """Check whether the task writes to folders of this machine."""
        return self._backend(task).can.shares_files

    def fetching(self, task: DrivenTask) -> Callable[[Path], None]:
        """Return a function that brings the artifacts of an ended task into a folder."""
        plan = self._plan(task)
        fetch = self._backends.of(plan).fetch_artifacts
        return partial(fetch, plan, task.progress.handle, task.definition.artifacts)
