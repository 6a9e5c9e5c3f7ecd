"""What an experiment offers for sweeps, and for tasks that take what others return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from nemo_run.errors import InvalidJobError, JobNotFoundError, SweepError
from nemo_run.run.job import Job
from nemo_run.run.launched import LaunchedExperiment
from nemo_run.run.tasks import as_task, default_name

if TYPE_CHECKING:
    from nemo_run.config import Partial, Script
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.mapping import Mapped
    from nemo_run.run.notifying import Notification
    from nemo_run.run.plugin import ExperimentPlugin
    from nemo_run.run.store import ExperimentStore
    from nemo_run.run.sweep import Direction, Sweep, Trial
    from nemo_run.run.trackers.tracking import Tracking


class SweepingExperiment(LaunchedExperiment):
    """Adds one task with many values, compares what came out, and passes outputs on."""

    _sweeps: list[Sweep]
    _notifications: list[Notification]
    _trackings: Sequence[Tracking] = ()

    def add(self, task: Any, **options: Any) -> str:
        """Add a job."""
        raise NotImplementedError

    def sweep(
        self,
        task: Partial[Any],
        space: Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | PathLike[str],
        *,
        sampler: Any = "grid",
        pruner: Any = None,
        trials: int | None = None,
        max_parallel: int = 4,
        seed: int = 0,
        objective: str = "",
        direction: Direction = "maximize",
        name: str = "",
        **options: Any,
    ) -> Sweep:
        """Add a job for each point of a space of parameters.

        Args:
            task: The task; each job has a copy with the values of its point.
            space: Spaces by the paths of parameters, such as ``{"model.layers": run.choice(2, 4, 8)}``; a list is a
                choice. Or a list of points: ``[{"lr": 0.1, "model.layers": 2}, ...]``; or the path of a file that has
                them (``.csv``, ``.json``, ``.jsonl``, ``.yaml``).
            sampler: ``"grid"`` for all combinations, ``"random"`` for draws; or a sampler of Optuna, such as
                ``optuna.samplers.TPESampler()``: it chooses when a trial starts, from what came out of earlier ones.
            pruner: A pruner of Optuna: a trial whose ``objective``, a metric, falls behind is cancelled.
            trials: How many points; a grid has all by default.
            max_parallel: With a sampler of Optuna, how many trials run at once.
            seed: Decides the draws.
            objective: The part of the result, or the metric, that :meth:`compare` sorts by; the result by default.
            direction: ``"maximize"`` or ``"minimize"``.
            name: Name of the sweep, and of its jobs where their values make no short name.
            **options: As for :meth:`Experiment.add`: ``executor``, ``dependencies``, and so on.

        Returns:
            The sweep; its ``jobs`` can be depended on.

        Raises:
            SweepError: The space has no points, or no end of them.
            UnknownFieldError: The task has no such parameter.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment("example")
            >>> exp.sweep(run.Partial(dict, x=0), {"x": run.choice(1, 2)}).jobs
            ['x=1', 'x=2']
        """
        from nemo_run.run.point_files import points_in_file
        from nemo_run.run.sweep import Sweep, check_trials, plan_sweep, plan_trials, study_plan

        if direction not in ("maximize", "minimize"):
            raise SweepError(f"direction={direction!r}; it is 'maximize' or 'minimize'")
        if not hasattr(task, "__fn_or_cls__"):
            raise SweepError(f"a sweep needs a run.Partial, whose parameters it sets, not {task!r}")
        label = name or getattr(task.__fn_or_cls__, "__name__", "sweep")
        found = Sweep(label, objective, direction)
        if sampler not in ("grid", "random") or pruner is not None:
            plan = study_plan(
                self._name_of_sweep(label), found, space,
                sampler=sampler, pruner=pruner, max_parallel=max_parallel, seed=seed,
            )  # fmt: skip
            found.study, mapped = plan, self._name_of_map(label)
            for title, changed in plan_trials(task, plan, check_trials(trials)):
                plan.jobs.append(self._add_mapped(mapped, changed, name=title, **options))
            found.points.update((job, {}) for job in plan.jobs)
            self._sweeps.append(found)
            return found
        if isinstance(space, (str, PathLike)):
            space = points_in_file(space)
        planned = plan_sweep(task, space, name=label, sampler=sampler, trials=trials, seed=seed)
        mapped = self._name_of_map(label)
        for title, point, changed in planned:
            found.points[self._add_mapped(mapped, changed, name=title, **options)] = point
        self._sweeps.append(found)
        return found

    def map(
        self,
        task: Partial[Any] | Callable[..., Any] | Sequence[Partial[Any] | Script],
        *items: Iterable[Any],
        name: str = "",
        executor: Executor | None = None,
        plugins: list[ExperimentPlugin] | None = None,
        tail_logs: bool = False,
        dependencies: list[str] | None = None,
        artifacts: Sequence[str] = (),
        **arguments: Any,
    ) -> Mapped:
        """Add a job for every item, each with its own configuration, state, log, artifacts and result.

        An engine that has arrays of jobs is given one: on Slurm, thousands of tasks are one job array.

        Args:
            task: A function, or a Partial whose parameters without a value take the items; or a list of tasks.
            *items: The items; of several iterables, which are equally long, each fills one parameter.
            name: Name of all of them together; the jobs are ``name-0``, ``name-1`` and so on.
            executor: Where they run.
            plugins: As for :meth:`add`.
            tail_logs: As for :meth:`add`.
            dependencies: As for :meth:`add`.
            artifacts: As for :meth:`add`.
            **arguments: Arguments of a plain function that are the same for every item.

        Returns:
            The jobs; another task takes ``mapped.outputs`` as an argument.

        Raises:
            InvalidJobError: There are no items, or no parameters for them.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment("example")
            >>> mapped = exp.map(abs, [-1, 2], name="abs")
            >>> exp.add(run.Partial(sorted, mapped.outputs), name="sorted")
            'sorted'
            >>> mapped.jobs
            ['abs-0', 'abs-1']
        """
        from nemo_run.run.mapping import Mapped, mapped_tasks

        tasks = mapped_tasks(task, items, arguments)
        first = task[0] if isinstance(task, Sequence) and task else task
        label = name or default_name(as_task(first, {})) if first else name
        found = Mapped(self._name_of_map(label))
        for number, one in enumerate(tasks):
            job = self._add_mapped(
                found.name, one, name=f"{label}-{number}", executor=executor, plugins=plugins, tail_logs=tail_logs,
                dependencies=dependencies, artifacts=artifacts,
            )  # fmt: skip
            found.jobs.append(job)
        if not found.jobs:
            raise InvalidJobError("exp.map() got no items: there is nothing to run")
        return found

    def _name_of_sweep(self, wanted: str) -> str:
        from nemo_run.run.mapping import mapped_name

        return mapped_name(wanted, (sweep.study.name for sweep in self._sweeps if sweep.study))

    def _name_of_map(self, wanted: str) -> str:
        from nemo_run.run.mapping import mapped_name

        return mapped_name(wanted, (job.mapped for job in self._jobs if isinstance(job, Job)))

    def _add_mapped(self, mapped: str, task: Any, **options: Any) -> str:
        job_id = self.add(task, **options)
        added = self._jobs[-1]
        if isinstance(added, Job):
            added.mapped = mapped
        return job_id

    def notify(self, to: str | Sequence[str], when: str = "end") -> None:
        """Tell somebody when the experiment has ended, whoever drives it then.

        Args:
            to: An address that gets a POST request with JSON (``text``, ``id``, ``title``, ``state``, ``jobs``), as the
                webhooks of chat services take; or a command as a list, which has that JSON on its standard input.
            when: ``"end"``, or ``"failure"`` for an end that is no success.

        Raises:
            ExperimentError: It is neither, or the address is not encrypted: ``http://`` is for this machine only.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment("example")
            >>> exp.notify("https://chat.example/hooks/x7", when="failure")
            >>> exp.notify(["mail", "-s", "it has ended", "me@example.org"])
        """
        from nemo_run.run.notifying import notification

        self._notifications.append(notification(to, when))

    def _write_additions(self, store: ExperimentStore) -> None:
        """Store what was swept, who is told, and which trackers are."""
        if self._sweeps:
            from nemo_run.run.sweep import write_sweeps

            write_sweeps(store, self._sweeps)
        if self._notifications:
            from nemo_run.run.notifying import write_notifications

            write_notifications(store, self._notifications)
        if self._trackings or any(job.plugins for job in self._jobs):
            from nemo_run.run.trackers.tracking import trackings, write_trackings

            plugins = [(job.id, plugin) for job in self._jobs for plugin in job.plugins or []]
            write_trackings(store, trackings(plugins, self._trackings))

    def _read_additions(self, store: ExperimentStore) -> None:
        """Read what was stored with the experiment."""
        from nemo_run.run.notifying import read_notifications
        from nemo_run.run.sweep import sweeps_to_run
        from nemo_run.run.trackers.tracking import read_trackings

        self._sweeps = sweeps_to_run(store)
        self._notifications = read_notifications(store)
        self._trackings = read_trackings(store)

    def output(self, job_id: str, *path: str | int) -> Any:
        """Return what stands for the output of a job, as an argument of another task of this experiment.

        The other job waits for this one, and gets the value when it starts, on whatever engine.

        Args:
            job_id: The job.
            *path: Keys, positions and attributes that lead to a part of what it returns.

        Raises:
            JobNotFoundError: No such job was added before.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment("example")
            >>> made = exp.add(dict, size=3, name="make")
            >>> exp.add(run.Partial(dict, size=exp.output(made, "size")), name="show")
            'show'
        """
        if job_id not in (known := [job.id for job in self._jobs]):
            raise JobNotFoundError(
                f"no job {job_id!r} was added whose output could be taken; there are: {', '.join(known) or 'none'}"
            )
        from nemo_run.run.inputs import output

        return output(job_id, path)

    def compare(self, objective: str = "", direction: Direction | None = None) -> list[Trial]:
        """Return the jobs with the parameters in which they differ and what they returned, the best first.

        Args:
            objective: The part of the result, or the metric, to sort by; that of the sweep by default.
            direction: ``"maximize"`` or ``"minimize"``; that of the sweep by default.

        Example:
            >>> import nemo_run as run
            >>> best = run.Experiment.from_title("sweep").compare()[0]   # doctest: +SKIP
            >>> best.parameters, best.objective                          # doctest: +SKIP
            ({'lr': 0.1}, 0.97)
        """
        from nemo_run.run.sweep import trials_of

        if self._its_store.is_left_to_engines():
            self._collect()
        return trials_of(self._its_store, self._prepared, objective=objective, direction=direction)
