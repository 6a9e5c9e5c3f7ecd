"""How far an experiment is: what is stored, and what the engines say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.errors import ExecutorError, ReceivedExperimentError, StoreError
from nemo_run.run import outages
from nemo_run.run.ownership import NOT_ASKED
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskProgress
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Backend


def current_progress(
    store: ExperimentStore, definition: Definition, only: Iterable[str] | None = None
) -> dict[str, JobProgress]:
    """Return how far jobs are now: what is stored, and what the engines say of what had not ended then.

    Reads only; may be called while a controller drives the experiment, and when none does.

    Args:
        store: The experiment.
        definition: What is stored of it.
        only: Ids of the jobs to ask for; all by default.
    """
    jobs = [definition.job(name) for name in only] if only is not None else definition.jobs
    progress = {job.id: _stored_progress(store, job) for job in jobs}
    if all(job.state.is_final for job in progress.values()):
        return progress
    if store.is_received:
        for job in progress.values():
            _note_not_asked(job)
    if not store.is_ours:
        return progress
    running = [pair for job in jobs for pair in _running(store, job, progress[job.id])]
    if running:
        _ask_engines(running)
    return progress


def _running(store: ExperimentStore, job: JobDefinition, progress: JobProgress) -> Iterator[tuple[Plan, TaskProgress]]:
    """Yield the tasks of a job that an engine has to be asked for, with their plans; a damaged plan is noted."""
    open_tasks = [pair for pair in zip(job.tasks, progress.tasks, strict=False) if _can_be_asked_for(pair[1])]
    try:
        if open_tasks:
            store.must_be_own_handles(job, progress)
    except ReceivedExperimentError:
        _note_not_asked(progress)
        return
    for definition, task in open_tasks:
        try:
            plan = store.read_plan(definition)
        except ReceivedExperimentError:
            task.reason = NOT_ASKED
        except StoreError as e:
            task.state, task.reason = JobState.UNKNOWN, str(e)
        else:
            yield plan, task


def _can_be_asked_for(task: TaskProgress) -> bool:
    return bool(task.handle) and not task.state.is_final and task.retry_at is None


def _note_not_asked(progress: JobProgress) -> None:
    """Note of tasks that may have gone on since they were stored that nobody was asked."""
    for task in progress.tasks:
        if not task.state.is_final:
            task.reason = "; ".join(filter(None, [task.reason, NOT_ASKED]))


def _ask_engines(running: list[tuple[Plan, TaskProgress]]) -> None:
    from nemo_run.core.execution.backends import Backends  # a list of what has ended does without engines

    with Backends() as backends:
        for backend, tasks in backends.group(running):
            _ask(backend, tasks)


def _ask(backend: Backend, tasks: list[TaskProgress]) -> None:
    try:
        states = backend.states([task.handle for task in tasks])
    except ExecutorError as e:  # what was last known stays
        for task in tasks:
            task.reason = outages.reason(e)
        return
    for task in tasks:
        status = states[task.handle]
        if task.state is JobState.SUBMITTED and status.state is JobState.UNKNOWN:
            continue  # the intent is noted, and the engine has not heard of it yet
        task.update(status)


def _stored_progress(store: ExperimentStore, job: JobDefinition) -> JobProgress:
    """Return what is stored of a job; a damaged file hides that job only."""
    try:
        return store.read_progress(job)
    except StoreError as e:
        return JobProgress([TaskProgress(JobState.UNKNOWN, reason=str(e)) for _ in job.tasks])


def goes_on(task: TaskProgress, *, driven: bool) -> bool:
    """Check whether a task may still get on: because it runs, or because a controller drives its experiment."""
    if task.state.is_final:
        return False
    is_asked = task.retry_at is None and not task.reason.endswith(NOT_ASKED)
    return driven or (is_asked and task.state in (JobState.PENDING, JobState.RUNNING))


def interruption(store: ExperimentStore, progress: Mapping[str, JobProgress]) -> str:
    """Return why jobs that wait will never run, and what to do; empty where they will, or where none waits."""
    if not any(_waits(task) for job in progress.values() for task in job.tasks):
        return ""
    if store.is_received or store.goes_on() or not store.controller():
        return ""
    return f"its controller is gone; go on: nemorun experiment resume {store.id}"


def with_reasons(store: ExperimentStore, progress: dict[str, JobProgress]) -> dict[str, JobProgress]:
    """Return the progress, with the reason why nothing happens where no controller goes on."""
    if hint := interruption(store, progress):
        for job in progress.values():
            job.tasks[:] = [_with_hint(task, hint) for task in job.tasks]
    return progress


def _waits(task: TaskProgress) -> bool:
    """Check whether a task gets on only by a controller."""
    return task.state is not JobState.UNKNOWN and not task.state.is_final and not goes_on(task, driven=False)


def _with_hint(task: TaskProgress, hint: str) -> TaskProgress:
    return replace(task, reason="; ".join(filter(None, [task.reason, hint]))) if _waits(task) else task
