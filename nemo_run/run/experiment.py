"""Experiments: what a user launches, watches and comes back to."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.home import get_check
from nemo_run.config.script import Script
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.local import LocalExecutor
from nemo_run.errors import (
    ExperimentError,
    InvalidJobError,
    NemoRunError,
)
from nemo_run.run import catalog
from nemo_run.run.inputs import jobs_read_by
from nemo_run.run.job import Job, JobGroup
from nemo_run.run.prepare import build_images, check_launch, preflight, prepare_experiment, show_plans
from nemo_run.run.records import Definition
from nemo_run.run.store import ExperimentStore
from nemo_run.run.sweeping import SweepingExperiment
from nemo_run.run.tasks import (
    added_as,
    as_group,
    as_task,
    assign,
    check_dependencies,
    check_members,
    default_name,
    new_job_id,
    placed,
    wait_when,
)
from nemo_run.run.terminal import say

if TYPE_CHECKING:
    from nemo_run.config import Config, Partial
    from nemo_run.core.tunnel.client import Tunnel
    from nemo_run.run.plugin import ExperimentPlugin
    from nemo_run.run.tasks import TaskElsewhere

logger = logging.getLogger(__name__)


class Experiment(SweepingExperiment):
    """A set of tasks that are launched together, watched together, and found again later.

    Example:
        >>> import nemo_run as run
        >>> with run.Experiment("hello", executor=run.LocalExecutor()) as exp:   # doctest: +SKIP
        ...     first = exp.add(run.Script(inline="echo hello"), name="first")
        ...     exp.add(run.Script(inline="echo after"), name="second", dependencies=[first])
        ...     exp.run()

    Args:
        title: Title; experiments with the same title are found together.
        executor: Where tasks run that are added without an executor of their own; on this machine by default.
        id: Id of the experiment; made from the title and the time by default.
        log_level: Level of this package's log messages.
        base_dir: Folder in place of the NeMo-Run home.
        clean_mode: Print nothing but what tasks print.
        enable_goodbye_message: Say at the end how to look at the experiment again.
        threadpool_workers: Accepted for compatibility; there is no thread pool.
        skip_status_at_exit: Do not print the status at the end.
        serialize_metadata_for_scripts: Accepted for compatibility; what is stored of scripts is always stored.
        _reconstruct: It is there already, and is only looked at: the level of log messages stays as it is.

    Raises:
        InvalidNameError: The title or the id is not acceptable.
    """

    def __init__(
        self,
        title: str,
        executor: Executor | None = None,
        id: str | None = None,
        log_level: str = "INFO",
        _reconstruct: bool = False,
        jobs: list[Job | JobGroup] | None = None,
        base_dir: str | None = None,
        clean_mode: bool = False,
        enable_goodbye_message: bool = True,
        threadpool_workers: int = 16,
        skip_status_at_exit: bool = False,
        serialize_metadata_for_scripts: bool = True,
    ) -> None:
        self._title = catalog.check_title(title)
        self.executor = executor or LocalExecutor()
        self._wanted_id = id
        self.log_level = log_level
        if not _reconstruct:
            logging.getLogger("nemo_run").setLevel(log_level)
        self._jobs: list[Job | JobGroup] = jobs or []
        self._ids: set[str] = set()
        self._sweeps = []
        self._notifications = []
        self._base_dir = base_dir
        self._quiet = clean_mode
        self._enable_goodbye_message = enable_goodbye_message
        self._skip_status_at_exit = skip_status_at_exit
        self._store: ExperimentStore | None = None
        self._planned: Path | None = None  # the folder that it will have
        self._definition: Definition | None = None
        self._launched = False
        self._detached = False

    def to_config(self) -> Config[Any]:
        """Return a configuration that builds an experiment of the same title and executor, without jobs."""
        from nemo_run.config import Config

        return Config(Experiment, title=self._title, executor=self.executor.to_config())

    # --- looking up --------------------------------------------------------------------------------------------

    @classmethod
    def catalog(cls, title: str = "") -> list[str]:
        """Return the ids of the experiments with a title, or of all; the oldest first."""
        return catalog.ids(title)

    @classmethod
    def from_id(cls, id: str) -> Experiment:
        """Return a past experiment. None of its code is imported.

        Raises:
            ExperimentNotFoundError: There is none with this id.
            StoreError: Its files are damaged.
        """
        return cls._of(catalog.find(id))

    @classmethod
    def from_title(cls, title: str) -> Experiment:
        """Return the newest experiment with a title.

        Raises:
            ExperimentNotFoundError: There is none with this title.
        """
        return cls._of(catalog.latest(title))

    @classmethod
    def _of(cls, store: ExperimentStore) -> Experiment:
        definition = store.read_definition()
        experiment = cls(definition.title, id=definition.id, base_dir=str(catalog.base_of(store)), _reconstruct=True)
        experiment._store, experiment._definition, experiment._launched = store, definition, True
        return experiment

    @property
    def _its_store(self) -> ExperimentStore:
        if self._store is None:  # an experiment takes no room before it has something to store
            self._store = (
                catalog.create_planned(self._planned)
                if self._planned
                else catalog.create(self._title, self._base_dir, self._wanted_id)
            )
        return self._store

    @property
    def directory(self) -> Path:
        """Folder of the experiment; before the launch, the one that it will have."""
        if self._store is not None:
            return self._store.path
        if self._planned is None:
            self._planned = catalog.planned(self._title, self._base_dir, self._wanted_id)
        return self._planned

    # --- adding ------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> list[Job | JobGroup]:
        """The jobs, in the order in which they were added."""
        if self._definition is not None and not self._jobs:
            from nemo_run.run.stored import stored_jobs

            self._jobs = stored_jobs(self._its_store, self._definition, self)
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: list[Job | JobGroup]) -> None:
        self._jobs = jobs

    @property
    def tunnels(self) -> dict[str, Tunnel]:
        """The ways to the clusters that the jobs run on, by their keys; where code lies there is noted in them."""
        found: dict[str, Tunnel] = {}
        for tunnel in (getattr(executor, "tunnel", None) for _, executor in self._members):
            if tunnel is not None:
                found.setdefault(tunnel.key, tunnel).packaging_jobs.update(tunnel.packaging_jobs)
        return found

    @property
    def tasks(self) -> list[Any]:
        """The configured tasks of all jobs; for a group, the list of its tasks."""
        return [job.tasks if isinstance(job, JobGroup) else job.task for job in self.jobs]

    def _initialize_tunnels(self, extract_from_executors: bool = False) -> None:
        """Do nothing: a tunnel connects when it is used. Programs for NeMo-Run call it."""

    @property
    def _members(self) -> list[tuple[Any, Executor]]:
        return [member for job in self.jobs for member in job.members]

    def add(
        self,
        task: Partial[Any] | Script | TaskElsewhere | Callable[..., Any] | Sequence[Partial[Any] | Script],
        executor: Executor | list[Executor] | None = None,
        name: str = "",
        plugins: list[ExperimentPlugin] | None = None,
        tail_logs: bool = False,
        dependencies: list[str] | None = None,
        *,
        end_group_on: str = "failure",
        artifacts: Sequence[str] = (),
        when: str = "",
        **arguments: Any,
    ) -> str:
        """Add a job; it starts with :meth:`run`.

        Args:
            task: A Partial, a Script, a RayTask, a plain function whose arguments follow as keywords, or a list of
                tasks: a group whose members run at once.
            executor: Where it runs; for a group also one for each member.
            name: Name of the job; made from the task by default.
            plugins: Plugins that may change the task and the executor.
            tail_logs: Show the job's log while the experiment runs.
            dependencies: Ids of jobs, as :meth:`add` returned them, that must have succeeded before.
            when: What it waits for in them instead: that each has ended, in ``"any"`` way, or has ``"failed"``;
                ``"success"`` is the default. On any mix of engines.
            end_group_on: What ends the other members of a group: ``"failure"`` of one, ``"any"`` end, or ``"never"``.
            artifacts: Patterns, such as ``"ckpt/*.pt"``, of files below the working directory that are kept with the
                experiment when the job has ended; what a task writes to ``$NEMO_RUN_ARTIFACTS`` is kept anyway.
            **arguments: Arguments of a plain function.

        Returns:
            Id of the job.

        Raises:
            ExperimentError: The experiment was launched already, or this cannot be a task.
            DependencyError: A dependency names no job that was added before.
            SerializationError: An argument cannot be stored.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment("example")
            >>> exp.add(dict, size=1, name="make")
            'make'
        """
        if self._launched:
            raise ExperimentError(f"experiment {self.id!r} was launched already; make a new one to add jobs")
        tasks = as_group(task, arguments, name) if isinstance(task, list) else [as_task(task, arguments)]
        if end_group_on not in ("failure", "any", "never"):
            raise InvalidJobError(f"end_group_on={end_group_on!r}; it is 'failure', 'any' or 'never'")
        job_id = new_job_id(name or default_name(tasks[0]), self._known_ids())
        dependencies = list(dict.fromkeys([*(dependencies or []), *jobs_read_by(tasks)]))
        check_dependencies(job_id, dependencies, self._known_ids())
        tasks, executors = placed(tasks, executor or self.executor, job_id)
        assign(executors, self.directory, job_id, group=isinstance(task, list))
        wait_when(when, executors, job_id)
        self._set_up_plugins(plugins, members := list(zip(tasks, executors, strict=True)))
        check_members(members, job_id)
        common: dict[str, Any] = {
            "id": job_id,
            "plugins": plugins,
            "tail_logs": tail_logs,
            "dependencies": dependencies,
            "name": name,
            "artifacts": list(artifacts),
            "when": when,
        }
        job: Job | JobGroup
        if isinstance(task, list):
            job = JobGroup(tasks=tasks, executors=executors, end_group_on=end_group_on, **common)
        else:
            job = Job(task=tasks[0], executor=executors[0], **common)
        job.experiment = self
        self._known_ids().add(job_id)
        self._jobs.append(job)
        return job_id

    def _known_ids(self) -> set[str]:
        if len(self._ids) != len(self._jobs):
            self._ids = {job.id for job in self._jobs}
        return self._ids

    def _set_up_plugins(self, plugins: list[ExperimentPlugin] | None, members: list[tuple[Any, Executor]]) -> None:
        for plugin in plugins or []:
            plugin.assign(self.id)
            for task, executor in members:
                plugin.setup(task, executor)

    # --- launching ---------------------------------------------------------------------------------------------

    def dryrun(self, log: bool = True, exist_ok: bool = False, delete_exp_dir: bool = True) -> None:
        """Describe the jobs to their engines, show what would be launched, and launch nothing.

        Args:
            log: Print it.
            exist_ok: Accepted for compatibility; it may be called more than once.
            delete_exp_dir: Leave nothing behind. Otherwise the experiment's folder stays, with a file ``dryrun.sh`` or
                ``dryrun.txt`` for every task: what would be launched.
        """
        with Backends() as backends:
            self._prepare(backends)
            if log:
                print(f"# experiment {self.id}: nothing is launched")
            if log or not delete_exp_dir:
                show_plans(self._its_store, self._prepared, backends, log=log, keep=not delete_exp_dir)
        if delete_exp_dir:
            self._discard()

    def _prepare(self, backends: Backends, max_parallel: int | None = None) -> None:
        """Write all that a controller needs."""
        self._write_additions(self._its_store)
        self._definition = prepare_experiment(self._its_store, self._title, self._jobs, max_parallel, backends)

    def _preflight(self, backends: Backends) -> None:
        try:
            build_images(self._jobs, backends)
            preflight(self._its_store, self._prepared, backends)
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        if self._store is not None:
            self._store.delete()
        self._store = self._definition = None

    def run(
        self,
        sequential: bool = False,
        detach: bool = False,
        tail_logs: bool = False,
        direct: bool = False,
        *,
        max_parallel: int | None = None,
        check: bool | None = None,
    ) -> None:
        """Run all jobs, independent ones at once, and wait for them.

        Args:
            sequential: One job at a time, in the order in which they were added.
            detach: Return when all that can be submitted now is submitted. A controller in the background does the
                rest; where the engines need none, none stays.
            tail_logs: Show the logs of all jobs as they grow.
            direct: Run everything in this process, one after the other; unless ``check`` is False, what a function
                raises is raised here.
            max_parallel: How many tasks may run at once.
            check: Raise an error where a job failed, so that a script ends with an exit code of 1; by default as
                ``run.config.set_check`` or ``$NEMORUN_CHECK`` says, or not. :meth:`raise_for_failure` does so later.

        Raises:
            JobFailedError: A job did not succeed, and ``check`` is set.
            ExecutorError: An engine cannot run the jobs, or refused one that was submitted with ``detach``.
            NestedLaunchError: This is a task of the same experiment.
        """
        if self._launched:
            logger.warning("experiment %s was launched already", self.id)
            return
        check_launch(self._title, max_parallel)
        if not self._jobs:
            logger.warning("experiment %r has no jobs: nothing is launched; add some: exp.add(...)", self._title)
            return
        self._make_ready(1 if sequential or direct else max_parallel, direct=direct)
        if direct:
            from nemo_run.run.direct import run_direct

            try:
                run_direct(self._its_store, self._prepared, self._members, raises=check is not False)
            finally:
                self._refresh()
        elif detach:
            self._detach()
        else:
            try:
                self._drive(tail_logs)
            finally:
                self._clean_up_plugins()
        self._refresh()
        if get_check() if check is None else check:
            self.raise_for_failure()

    def _make_ready(self, max_parallel: int | None, *, direct: bool = False) -> None:
        with Backends() as backends:
            self._prepare(backends, max_parallel)
            if not direct:
                self._preflight(backends)
        self._launched = True

    def _clean_up_plugins(self) -> None:
        for job in self._jobs:
            for plugin in job.plugins or []:
                for task, executor in job.members:
                    plugin.cleanup(task, executor)

    def reset(self) -> Experiment:
        """Make this a new experiment with the same title, tasks, executors and dependencies, ready to run.

        The one that was launched stays as it is stored. One that was not launched yet stays as it is. Imports what the
        tasks refer to.

        Returns:
            The experiment itself.

        Example:
            >>> import nemo_run as run
            >>> exp = run.Experiment.from_title("train")    # doctest: +SKIP
            >>> with exp.reset():                           # doctest: +SKIP
            ...     exp.tasks[0].model.size = 2
            ...     exp.run()
        """
        if not self._launched:
            logger.warning("experiment %r has not run yet; reset() leaves it as it is", self._title)
            return self
        self._its_store.must_be_ours("reset")
        fresh = Experiment(self._title, executor=self.executor, base_dir=self._base_dir, _reconstruct=True)
        for job in self.jobs:
            fresh._add_mapped(getattr(job, "mapped", ""), **added_as(job))
        self._read_additions(self._its_store)
        self._jobs, self._planned = fresh._jobs, fresh._planned
        for job in self._jobs:
            job.experiment = self
        self._wanted_id = self._store = self._definition = None
        self._launched = self._detached = self._interrupted = False
        return self

    def rerun(
        self, detach: bool = False, tail_logs: bool = False, *, failed: bool = False, today: bool = False
    ) -> Experiment:
        """Run the experiment again under a new id, with the configuration and the code that it had.

        Code is restored from where it was recorded: a package, a commit with the changes since, or the files.

        Args:
            detach: Return as soon as a controller of its own drives it.
            tail_logs: Show the logs of all jobs as they grow.
            failed: Run only what has not succeeded; results and artifacts of the rest are taken over.
            today: With the code as it is now, in the current folder.

        Returns:
            The new experiment.

        Raises:
            PackagingError: The recorded code is no longer there.
            ExperimentError: It has not ended, nothing failed, or its code cannot be that of today.
        """
        from nemo_run.run import rerun

        done = rerun.done_before(self._its_store, self._prepared, self.progress()) if failed else []
        if today:
            rerun.check_code_of_today(self._its_store, self._prepared)
            fresh = Experiment._of(self._its_store).reset()
            fresh._make_ready(self._prepared.max_parallel)  # noqa: SLF001  (one of us)
        else:
            fresh = Experiment._of(rerun.copy_for_rerun(self._its_store, self._base_dir))
        rerun.take_over(self._its_store, fresh._its_store, done)  # noqa: SLF001
        fresh._go_on(detach, tail_logs)  # noqa: SLF001
        return fresh

    # --- with ... as exp ---------------------------------------------------------------------------------------

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        if self._store is not None and self._definition is None:
            with contextlib.suppress(NemoRunError):
                self._discard()
        stopped = exc_type is KeyboardInterrupt and not self._interrupted
        if self._launched and not self._quiet and (exc_type is None or stopped):
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        if not self._skip_status_at_exit and not self._detached:
            self._print_status(sys.stderr)
        if self._enable_goodbye_message:
            how = "it goes on without this process" if self._detached else "look at it again"
            say(
                f"{how}: nemorun experiment status {self.id}\n"
                f"its logs: nemorun experiment logs {self.id} JOB\n"
                f'in Python: run.Experiment.from_id("{self.id}")',
                sys.stderr,
            )

    def __repr__(self) -> str:
        return f"<Experiment {self._store.id if self._store else self._title}: {len(self.jobs)} jobs>"
