"""Adaptive sweeps: Optuna chooses the values of a trial when its job starts, from what came out of earlier ones.

A job that is going to start gets its values from the study, and leaves its number there, before anything is submitted.
So the controller can be killed at any moment: the next one finds the same values for the same job, tells what has ended
meanwhile, each trial once, and goes on with the same study. The study is Optuna's own journal, in the experiment.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_run.core import extras, values
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.files import folder_name, make_folder, write_text
from nemo_run.core.runners.outputs import SUGGESTED
from nemo_run.errors import NemoRunError, SweepError
from nemo_run.run import artifacts
from nemo_run.run.metrics import FILE as METRICS, job_metrics
from nemo_run.run.objective import numbers_of, objective_of
from nemo_run.run.records import JobDefinition, JobProgress
from nemo_run.run.space import Choice, Integers, Point, Space, is_active
from nemo_run.run.store import ExperimentStore

_FOLDER = "studies"
_JOURNALS = "journals"
_JOB = "job"  # attribute of a trial: the job that is it
_PRUNED = "pruned"  # attribute of a trial that is to be ended, as it is no better than others


@dataclass(frozen=True)
class StudyPlan:
    """An adaptive sweep, as it was asked for.

    Attributes:
        name: Its name.
        objective: The part of the result, or the metric, that is to be as good as possible.
        direction: ``"maximize"`` or ``"minimize"``.
        spaces: What is tried, by the paths of parameters.
        sampler: A sampler of Optuna.
        pruner: A pruner of Optuna, or ``None``.
        max_parallel: How many trials may run at once.
        jobs: The ids of its jobs.
    """

    name: str
    objective: str
    direction: str
    spaces: Mapping[str, Space]
    sampler: Any
    pruner: Any = None
    max_parallel: int = 4
    jobs: list[str] = field(default_factory=list)


def chosen_sampler(sampler: Any, pruner: Any, seed: int) -> Any:
    """Return the sampler of Optuna that a name stands for, or the one that was given, after a check.

    Raises:
        SweepError: It is none, or the pruner is none.
        MissingExtraError: Optuna is not installed.
    """
    optuna = extras.load("optuna", "optuna", "a sweep with this sampler or pruner")
    if isinstance(sampler, str) and sampler in ("random", "tpe"):
        kinds = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
        sampler = kinds[sampler](seed=seed)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise SweepError(
            f"sampler={sampler!r}; it is 'grid', 'random', 'tpe', or a sampler of Optuna: optuna.samplers.TPESampler()"
        )
    if pruner is not None and not isinstance(pruner, optuna.pruners.BasePruner):
        raise SweepError(f"pruner={pruner!r}; it is a pruner of Optuna: optuna.pruners.MedianPruner()")
    return sampler


def write_studies(store: ExperimentStore, plans: Iterable[StudyPlan]) -> None:
    """Store adaptive sweeps, before the experiment is marked.

    Raises:
        SweepError: A sampler or a value cannot be stored.
    """
    for number, plan in enumerate(plans):
        try:
            content = pickle.dumps(plan)
        except Exception as e:
            raise SweepError(f"sweep {plan.name!r}: its sampler, pruner or values cannot be stored: {e}") from e
        make_folder(store.path / _FOLDER)
        write_text(store.path / _FOLDER / f"{number}-{folder_name(plan.name)}.pkl", content)


def read_studies(store: ExperimentStore) -> list[StudyPlan]:
    """Return the adaptive sweeps of an experiment of our own.

    Raises:
        ReceivedExperimentError: The experiment is not ours, or a file is not the one that was stored.
    """
    folder = store.path / _FOLDER
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir())
    return [pickle.loads(store.ownership.read(f"{_FOLDER}/{name}")) for name in names]  # noqa: S301  (it is marked)


class Study:
    """One study, in Optuna's journal."""

    def __init__(self, store: ExperimentStore, plan: StudyPlan) -> None:
        optuna = extras.load("optuna", "optuna", f"the sweep {plan.name!r}")
        logging.getLogger("optuna").setLevel(logging.WARNING)
        path = make_folder(store.path / _JOURNALS) / f"{folder_name(plan.name)}.jsonl"
        _drop_half_a_line(path)
        backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=_Alone())
        self._optuna = optuna
        self._store = store
        self.plan = plan
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend),
            study_name=plan.name,
            direction=plan.direction,
            sampler=plan.sampler,
            pruner=plan.pruner or optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        self._trials: dict[str, Any] = {}
        self._unclaimed: list[Any] = []
        self._sizes: dict[str, int] = {}
        found = self._study.get_trials(deepcopy=False)
        for frozen in found:
            trial = _trial(optuna, self._study, frozen.number) if not frozen.state.is_finished() else None
            if _JOB in frozen.user_attrs:
                self._trials[frozen.user_attrs[_JOB]] = trial
            elif trial:
                self._unclaimed.append(trial)  # we were killed before it was noted whose it is
        if found:
            plan.sampler.reseed_rng()  # the seed that it was stored with has been used

    def point(self, job: str) -> Point:
        """Return the values of a job's trial; where it has none yet, of a new one."""
        trial = self._trials.get(job)
        if trial is None:
            trial = self._unclaimed.pop() if self._unclaimed else self._study.ask()
            trial.set_user_attr(_JOB, job)
            self._trials[job] = trial
        point: Point = {}
        for path, space in self.plan.spaces.items():
            if is_active(space, point):
                point[path] = _suggested(trial, path, space)
        return point

    def suggestion(self, job: str) -> dict[str, Any]:
        """Return what a trial is to be given, as JSON."""
        return {SUGGESTED: values.encode(self.point(job))}

    def tell(self, job: JobDefinition, progress: JobProgress) -> None:
        """Tell how a trial ended; it is told once, however often this is called."""
        trial = self._trials.get(job.id)
        if trial is None:  # it never started, or was told already
            return
        state, value = self._optuna.trial.TrialState, None
        if progress.state is JobState.SUCCEEDED:
            self._report(job, trial)
            numbers = numbers_of(self._store, job, progress)
            value = objective_of(self._store, job, progress, self.plan.objective, numbers)
            end = state.COMPLETE if value is not None else state.FAIL
        else:
            end = state.PRUNED if self.is_pruned(job.id) else state.FAIL
        self._study.tell(trial, value, state=end)
        self._trials[job.id] = None

    def reason_to_prune(self, job: JobDefinition) -> str:
        """Report what a trial has logged; return why it is to be ended, or nothing."""
        trial = self._trials.get(job.id)
        if self.plan.pruner is None or trial is None:
            return ""
        if not self.is_pruned(job.id) and self._has_news(job):
            self._report(job, trial)
            if trial.should_prune():
                trial.set_user_attr(_PRUNED, True)  # before its engine is told
        return self.why(job.id)

    def is_pruned(self, job: str) -> bool:
        """Check whether it was decided to end a trial that has not been told yet."""
        trial = self._trials.get(job)
        return trial is not None and _PRUNED in trial.user_attrs

    def why(self, job: str) -> str:
        """Return why a trial is ended; empty where that was not decided."""
        return f"pruned: {self.plan.objective} is behind in {self.plan.name!r}" if self.is_pruned(job) else ""

    def _has_news(self, job: JobDefinition) -> bool:
        size = 0
        with contextlib.suppress(OSError):
            size = (artifacts.folder_of(self._store, job.tasks[0]) / METRICS).stat().st_size
        before, self._sizes[job.id] = self._sizes.get(job.id, 0), size
        return size != before

    def _report(self, job: JobDefinition, trial: Any) -> None:
        try:
            metric = job_metrics(self._store, job).get(self.plan.objective)
        except NemoRunError:
            return
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for step, value in zip(metric.steps, metric.values, strict=True) if metric else ():
            if step not in known and _is_reported(step):
                trial.report(value, step)


def _is_reported(step: int) -> bool:
    """Check that a step is one that pruners see: of many, ninety of each order of magnitude."""
    return step < 100 or step % 10 ** (len(str(step)) - 2) == 0


def _suggested(trial: Any, path: str, space: Space) -> Any:
    if isinstance(space, Integers):
        return trial.suggest_int(path, space.low, space.high)
    if isinstance(space, Choice):
        return space.values[trial.suggest_categorical(path, tuple(range(len(space.values))))]
    return trial.suggest_float(path, space.low, space.high, log=space.log)


def _trial(optuna: Any, study: Any, number: int) -> Any:
    """Return a trial that was begun by an earlier process."""
    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)  # noqa: SLF001


def _drop_half_a_line(path: Path) -> None:
    """Remove the end of a journal that its writer was killed in."""
    if path.is_file():
        content = path.read_bytes()
        if len(whole := content[: content.rfind(b"\n") + 1]) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))


class _Alone:
    """The lock of a journal with one writer: who drives the experiment holds its lock."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass
