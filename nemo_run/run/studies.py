"""The adaptive sweeps of an experiment that is driven. Of an experiment that has none, nothing of them is imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nemo_run.run.records import JobDefinition, JobProgress
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from nemo_run.run.study import Study

_FOLDER = "studies"


class Studies:
    """The adaptive sweeps of an experiment that is driven.

    Attributes:
        prunes: Whether trials may be ended before their end.
    """

    def __init__(self, store: ExperimentStore) -> None:
        """Go on with what is stored."""
        self._store = store
        self._by_job: dict[str, Study] = {}
        self.prunes = False
        if (store.path / _FOLDER).is_dir():
            from nemo_run.run.study import Study, read_studies

            studies = [Study(store, plan) for plan in read_studies(store)]
            self._by_job = {job: study for study in studies for job in study.plan.jobs}
            self.prunes = any(study.plan.pruner is not None for study in studies)

    def has(self, job: str) -> bool:
        """Check whether a job is a trial."""
        return job in self._by_job

    def may_prune(self, job: str) -> bool:
        """Check whether a job is a trial that may be ended before its end."""
        study = self._by_job.get(job)
        return study is not None and study.plan.pruner is not None

    def hindrance(self, job: str, busy: Iterable[str]) -> str:
        """Return why a trial cannot start now; empty if it can."""
        study = self._by_job.get(job)
        if study is None or sum(self._by_job.get(other) is study for other in busy) < study.plan.max_parallel:
            return ""
        return "waits for another trial of its sweep to end"

    def suggest(self, job: str) -> dict[str, Any]:
        """Return what a trial is to be given, as JSON; empty for any other job."""
        study = self._by_job.get(job)
        return study.suggestion(job) if study else {}

    def tell(self, job: JobDefinition, progress: JobProgress) -> None:
        """Tell its study how a trial ended; it is told once, however often this is called."""
        if (study := self._by_job.get(job.id)) and progress.state.is_final:
            study.tell(job, progress)

    def why_pruned(self, job: str) -> str:
        """Return why a trial was cancelled; empty for any other job."""
        study = self._by_job.get(job)
        return study.why(job) if study else ""

    def to_prune(self, running: Iterable[JobDefinition]) -> Iterator[tuple[JobDefinition, str]]:
        """Take in what running trials have logged, and yield those that are to be ended, and why."""
        for job in running:
            if (study := self._by_job.get(job.id)) and (reason := study.reason_to_prune(job)):
                yield job, reason
