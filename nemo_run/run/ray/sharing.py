"""Which tasks of an experiment share a Ray cluster, and which of them is the last."""

from __future__ import annotations

import os
from collections.abc import Iterable

from nemo_run.core.execution.jobs import JobState
from nemo_run.core.files import write_text
from nemo_run.run import catalog
from nemo_run.run.graph import Graph
from nemo_run.run.records import JobDefinition, JobProgress, TaskDefinition
from nemo_run.run.store import ExperimentStore

_LEFT = "left-ray"
"""In the folder of a task: it has left the cluster, and does not come back."""


def is_last(share: str, *, succeeded: bool) -> bool:
    """Note that this task, which is ending, leaves a shared cluster, and return whether nobody else will want it.

    Args:
        share: Name of the cluster in this experiment.
        succeeded: How this task ends.
    """
    store = catalog.find(os.environ["NEMO_RUN_EXPERIMENT_ID"])
    jobs = store.read_definition().jobs
    progress = {job.id: store.read_progress(job) for job in jobs}
    job, index = _own(jobs)
    task = job.tasks[index]
    state = _how_it_ends(store, job, succeeded=succeeded)
    if state is JobState.FAILED and progress[job.id].tasks[index].tries <= task.retries:
        return False  # it is tried again
    write_text(store.folder(task.directory) / _LEFT, "")
    states = {other.id: _state(store, other, progress[other.id]) for other in jobs}
    states[job.id] = _with(state, progress[job.id], index)
    over = {*_never_running(jobs, states), *(other.id for other in jobs if store.cancel_requested(other))}
    sharing = [one for other in jobs if other.id not in over for one in other.tasks if _shares(store, one, share)]
    return all((store.folder(one.directory) / _LEFT).exists() for one in sharing)


def _own(jobs: Iterable[JobDefinition]) -> tuple[JobDefinition, int]:
    """Return the job that this task is of, and which one of it."""
    found = ((job, index) for job in jobs for index, task in enumerate(job.tasks))
    return next(pair for pair in found if pair[0].tasks[pair[1]].name == os.environ["NEMO_RUN_TASK"])


def _how_it_ends(store: ExperimentStore, job: JobDefinition, *, succeeded: bool) -> JobState:
    if succeeded:
        return JobState.SUCCEEDED
    return JobState.CANCELLED if store.cancel_requested(job) else JobState.FAILED


def _state(store: ExperimentStore, job: JobDefinition, progress: JobProgress) -> JobState:
    return JobState.CANCELLED if store.cancel_requested(job) else progress.state


def _with(state: JobState, progress: JobProgress, index: int) -> JobState:
    """Return the state of a job once one of its tasks has ended."""
    tasks = [*progress.tasks]
    own = type(tasks[index])(state=state)
    return JobProgress([*tasks[:index], own, *tasks[index + 1 :]]).state


def _never_running(jobs: Iterable[JobDefinition], states: dict[str, JobState]) -> set[str]:
    """Return the jobs that have ended, and those that never begin as others have ended as they have."""
    jobs = list(jobs)
    graph = Graph(jobs)
    ended = {name for name, state in states.items() if state.is_final}
    todo = list(ended)
    while todo:
        name = todo.pop()
        for decision in graph.report(name, states[name]):
            if not decision.may_run and decision.job not in ended:
                states[decision.job] = JobState.CANCELLED
                ended.add(decision.job)
                todo.append(decision.job)
    return ended


def _shares(store: ExperimentStore, task: TaskDefinition, share: str) -> bool:
    config = store.read_task(task).get("config")
    return isinstance(config, dict) and config.get("share") == share
