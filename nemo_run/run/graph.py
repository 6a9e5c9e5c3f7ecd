"""The dependencies of an experiment's jobs: which may start, which never can, and which an engine can hold back.

Pure: it is told the states of jobs and answers from them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.records import JobDefinition


@dataclass(frozen=True)
class Decision:
    """What the state of a job means for one that depends on it.

    Attributes:
        job: The dependent job.
        may_run: ``True``: it may start now. ``False``: it can never run.
    """

    job: str
    may_run: bool


class Graph:
    """The dependencies between jobs, and how far they are decided.

    Example:
        >>> graph = Graph([JobDefinition("a", "a", "a", ()), JobDefinition("b", "b", "b", (), dependencies=("a",))])
        >>> graph.roots()
        ['a']
        >>> graph.report("a", JobState.SUCCEEDED)
        [Decision(job='b', may_run=True)]
    """

    def __init__(self, jobs: Iterable[JobDefinition]) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._undecided = {job.id: set(job.dependencies) for job in self._jobs.values()}
        self._dependants: dict[str, list[str]] = {name: [] for name in self._jobs}
        for name, dependencies in self._undecided.items():
            for dependency in dependencies:
                self._dependants[dependency].append(name)
        self._held: set[str] = set()
        self._ended: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether every job has ended."""
        return len(self._ended) == len(self._jobs)

    def has_ended(self, job: str) -> bool:
        """Check whether the end of a job was reported."""
        return job in self._ended

    def roots(self) -> list[str]:
        """Return the jobs without dependencies; they may start at once."""
        return [name for name, job in self._jobs.items() if not job.dependencies]

    def waits_for(self, job: str) -> list[str]:
        """Return the dependencies of a job that are not decided yet, sorted."""
        return sorted(self._undecided[job])

    def dependants(self, jobs: Iterable[str]) -> list[str]:
        """Return the jobs that depend directly on one of these, each once."""
        return list(dict.fromkeys(name for job in jobs for name in self._dependants[job]))

    def report(self, job: str, state: JobState) -> list[Decision]:
        """Take in the state of a job, and return what it decides. A job that has ended is reported once."""
        if job in self._ended:
            return []
        if state.is_final:
            self._ended.add(job)
        decisions = (self._decide(name, job, state) for name in self._dependants[job])
        return [decision for decision in decisions if decision]

    def _decide(self, name: str, dependency: str, state: JobState) -> Decision | None:
        may_start = self._jobs[name].may_start(state)
        if may_start is None or dependency not in self._undecided[name]:
            return None
        self._undecided[name].discard(dependency)
        if name in self._ended:
            return None
        if not may_start:
            return Decision(name, may_run=False)
        is_decided = not self._undecided[name] and name not in self._held
        return Decision(name, may_run=True) if is_decided else None

    def can_be_held(self, job: str, queue: str | None, queue_of: Callable[[str], str | None]) -> bool:
        """Check whether an engine can hold a job back until its dependencies have ended.

        Args:
            job: The job.
            queue: The queue that it would stand in; ``None`` where its engine holds no job back.
            queue_of: Returns the queue that a dependency stands in now; ``None`` where it stands in none.
        """
        if queue is None or job in self._held or job in self._ended or not self._undecided[job]:
            return False
        return all(queue_of(name) == queue for name in self._undecided[job])

    def hold(self, job: str) -> None:
        """Note that an engine holds a job back, so that the end of its dependencies does not let it start again."""
        self._held.add(job)
