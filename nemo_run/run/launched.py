"""A launched experiment: driving it, watching it, and managing it, all from what is stored."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TextIO, overload

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import (
    ExperimentError,
    JobTimeoutError,
    StoreError,
)
from nemo_run.run import results
from nemo_run.run.artifacts import Artifact, listing
from nemo_run.run.display import print_lines, status_document, status_lines
from nemo_run.run.following import live_metrics
from nemo_run.run.interrupting import without_traceback
from nemo_run.run.job import Job, JobGroup, JobResult
from nemo_run.run.live import ProgressView
from nemo_run.run.logs import LogFollower, LogRequest, last_lines
from nemo_run.run.metrics import Metrics
from nemo_run.run.progress import current_progress, goes_on, interruption, with_reasons
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskProgress
from nemo_run.run.screen import Screen
from nemo_run.run.store import ExperimentStore
from nemo_run.run.tasks import planned_job
from nemo_run.run.terminal import TableLine, columns_of, say

_CANCEL_POLL = 0.1  # seconds between two looks at whether the controller has cancelled what it was asked to


class LaunchedExperiment(ConfigurableMixin):
    """What can be done with an experiment once it is stored; :class:`Experiment` adds how it comes to be."""

    _title: str
    _quiet: bool
    _store: ExperimentStore | None = None
    _definition: Definition | None = None
    _jobs: list[Job | JobGroup]
    _detached = False
    _interrupted = False

    @property
    def _its_store(self) -> ExperimentStore:
        raise NotImplementedError

    @property
    def id(self) -> str:
        """Id of the experiment. One that is read before the launch is the one that it is launched with."""
        return self.directory.name

    _id = id  # the name that NeMo-Run users know
    _runner = None  # what programs for NeMo-Run give to methods of jobs

    @property
    def title(self) -> str:
        """Title of the experiment."""
        return self._title

    @property
    def directory(self) -> Path:
        """Folder of the experiment; before the launch, the one that it will have."""
        raise NotImplementedError

    @property
    def _exp_dir(self) -> str:
        return str(self.directory)

    @property
    def _prepared(self) -> Definition:
        if self._definition is None:
            raise ExperimentError(f"experiment {self._title!r} has not been launched yet; call run()")
        return self._definition

    # --- watching ----------------------------------------------------------------------------------------------

    def progress(self, jobs: Sequence[str] | None = None) -> dict[str, JobProgress]:
        """Return how far jobs are now, by their ids: what is stored, and what the engines say."""
        if self._definition is None:
            return {job.id: JobProgress([TaskProgress() for _ in job.members]) for job in self._jobs}
        return current_progress(self._its_store, self._prepared, jobs)

    def _refresh(self) -> dict[str, JobProgress]:
        progress = self.progress()
        for job in self._jobs:
            job.take_in(progress[job.id].tasks)
        return progress

    @overload
    def status(self, return_dict: Literal[True]) -> dict[str, dict[str, Any]]: ...
    @overload
    def status(self, return_dict: bool = False) -> dict[str, dict[str, Any]] | None: ...
    def status(self, return_dict: bool = False) -> dict[str, dict[str, Any]] | None:
        """Print the status of all jobs, or return it.

        Args:
            return_dict: Return it, as a dictionary by the ids of the jobs, and print nothing.
        """
        if self._definition is None:
            return self._status_before_launch(return_dict=return_dict)
        if return_dict:
            return status_document(self._its_store, self._prepared, with_reasons(self._its_store, self._refresh()))
        self._print_status(sys.stdout)
        return None

    def _status_before_launch(self, *, return_dict: bool) -> dict[str, dict[str, Any]] | None:
        if return_dict:
            return status_document(ExperimentStore(self.directory), self._planned_definition, self.progress())
        self._print_status(sys.stdout)
        return None

    @property
    def _planned_definition(self) -> Definition:
        return Definition(self.id, self._title, time.time(), tuple(map(planned_job, self._jobs)))

    def _print_status(self, stream: TextIO) -> None:
        print_lines(self._status_lines(columns_of(stream)), stream)

    def _status_lines(self, room: int | None) -> list[TableLine]:
        """Return the status for people; of an experiment that was not launched, what was added."""
        progress = self._refresh()
        hint = interruption(self._its_store, progress) if self._definition else ""
        return status_lines(self._definition or self._planned_definition, progress, room, hint=hint)

    def _repr_html_(self) -> str:
        from nemo_run.run.notebook import lines_as_html

        return lines_as_html(self._status_lines(100))

    def results(self) -> dict[str, JobResult]:
        """Return how every job ended, or how far it is, by the ids of the jobs."""
        progress = self._refresh()
        return {job.id: self._result(job, progress[job.id]) for job in self._prepared.jobs}

    def _result(self, job: JobDefinition, progress: JobProgress) -> JobResult:
        failed = progress.state is JobState.FAILED
        tail = tuple(last_lines(self._its_store, job, progress.tasks)) if failed else ()
        error = results.job_exception(self._its_store, job, progress.tasks) if failed else None
        read_value = functools.partial(results.job_value, self._its_store, job)
        return JobResult(self.id, job.id, progress.state, progress.exit_code, progress.reason, tail, error, read_value)

    def result(self, job_id: str, *, unpickle: bool = False, timeout: float | None = None) -> Any:
        """Wait for a job, and return what its function returned; for a group, a list of what its members returned.

        Plain data, dataclasses, enums, paths, and NumPy arrays and scalars come back without pickle. A script has no
        result: ``None``.

        Args:
            job_id: The job.
            unpickle: Read also what is stored as a pickle, which can run any code.
            timeout: Seconds to wait for the job; for ever by default.

        Raises:
            JobFailedError: The job did not succeed; its ``exception`` is what the function raised, as data.
            JobTimeoutError: It has not ended in time.
            ResultError: What it returned takes more than 16 MiB, or is a pickle and ``unpickle`` is not set.

        Example:
            >>> import nemo_run as run
            >>> run.Experiment.from_title("train").result("train")   # doctest: +SKIP
            {'accuracy': 0.97}
        """
        job = self._prepared.job(job_id)
        self.wait([job_id], timeout=timeout)
        if self._its_store.is_left_to_engines() and self._its_store.is_ours:
            self._collect()
        progress = self.progress([job_id])[job_id]
        if not progress.state.is_final and timeout is not None:
            raise JobTimeoutError(f"job {job_id!r} has not ended within {timeout:g} s: it is {progress.state}")
        ended = self._result(job, progress)
        if not ended.ok:
            raise ended.failure()
        return results.job_value(self._its_store, job, unpickle=unpickle)

    def metrics(self, job_id: str, *, rank: int = 0, member: int = 0) -> Metrics:
        """Return what a job has logged with :func:`nemo_run.log_metrics`, while it runs where there is a way to it.

        Args:
            job_id: The job.
            rank: The rank that logged it; others than 0 where they were asked to.
            member: The member of a group.

        Example:
            >>> import nemo_run as run
            >>> run.Experiment.from_title("train").metrics("train")["loss"].values   # doctest: +SKIP
            [0.9, 0.4, 0.3]
        """
        if self._its_store.is_left_to_engines() and self._its_store.is_ours:
            self._collect()
        job = self._prepared.job(job_id)
        return live_metrics(self._its_store, [job], rank, member)[job.id]

    def raise_for_failure(self) -> None:
        """Raise an error for the first job that failed, or else for the first that was cancelled.

        Raises:
            JobFailedError: There is one.
        """
        results = [result for result in self.results().values() if result.state.is_final and not result.ok]
        for result in sorted(results, key=lambda result: result.state is not JobState.FAILED):
            raise result.failure()

    def logs(
        self,
        job_id: str,
        regex: str | None = None,
        *,
        follow: bool = True,
        tail: int | None = None,
        rank: int | None = None,
    ) -> None:
        """Print the log of a job.

        Args:
            job_id: The job.
            regex: Only lines that this pattern matches somewhere.
            follow: While the job runs, go on until it has ended.
            tail: Begin with the last so many lines.
            rank: Only the log of this rank.

        Raises:
            JobNotFoundError: There is no such job.
        """
        request = LogRequest((job_id,), regex=regex, tail=tail, rank=rank, follow=follow)
        LogFollower(self._its_store, self._prepared, request).show()

    def wait(
        self,
        jobs: Sequence[str] | None = None,
        interval: float = 0.2,
        on_progress: Callable[[dict[str, JobProgress]], None] | None = None,
        timeout: float | None = None,
    ) -> dict[str, JobProgress]:
        """Wait until jobs have ended, or no process could go on with them, and return their progress.

        Args:
            jobs: Ids of the jobs; all by default.
            interval: Seconds between two looks.
            on_progress: Called with the progress after every look.
            timeout: Seconds after which their progress is returned anyway.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._its_store.is_left_to_engines() and self._its_store.is_ours:
            from nemo_run.run.driving import hand_over

            hand_over(self._its_store)  # its jobs' ends are to be noted, and what they leave is to be collected
        while True:
            driven = self._its_store.is_driven()
            progress = self.progress(jobs)
            if on_progress:
                on_progress(progress)
            if self._is_over(progress, driven=driven) or (deadline is not None and time.monotonic() >= deadline):
                return progress
            time.sleep(interval)

    def _is_over(self, progress: Mapping[str, JobProgress], *, driven: bool) -> bool:
        if any(goes_on(task, driven=driven) for job in progress.values() for task in job.tasks):
            return False
        return not driven or self._are_settled(progress)

    def _are_settled(self, jobs: Iterable[str]) -> bool:
        """Check whether the controller is done with jobs that have ended: it may try again, or collect artifacts."""
        try:
            stored = [self._its_store.read_progress(self._prepared.job(job)) for job in jobs]
        except StoreError:  # a damaged file is not waited for
            return True
        return all(task.state.is_final for progress in stored for task in progress.tasks)

    def cancel(self, job_id: str) -> None:
        """Cancel a job: end it where it runs, keep it from starting where it does not. Its dependants will not run.

        Args:
            job_id: The job.

        Raises:
            JobNotFoundError: There is no such job.
        """
        self.cancel_jobs([job_id])

    def cancel_jobs(self, job_ids: Sequence[str] | None = None) -> None:
        """Cancel jobs, or all that have not ended, and wait until that is done.

        Args:
            job_ids: Ids of the jobs; all by default.
        """
        from nemo_run.run import driving

        store, definition = self._its_store, self._prepared
        store.must_be_ours("cancelled")
        open_jobs = list(job_ids) if job_ids is not None else [job.id for job in definition.jobs]
        open_jobs = self._not_ended(open_jobs)
        for name in open_jobs:
            store.request_cancel(definition.job(name))
        while open_jobs:
            if store.is_driven():
                time.sleep(_CANCEL_POLL)
            else:
                driving.finish_cancelled(store)
            open_jobs = self._not_ended(open_jobs)
        self._refresh()

    def _not_ended(self, jobs: Sequence[str]) -> list[str]:
        return [name for name, job in self.progress(jobs).items() if not job.state.is_final]

    def artifacts(self, job_id: str | None = None) -> list[Artifact]:
        """Return the files that tasks left, with size and SHA-256.

        Args:
            job_id: Only those of this job.
        """
        if self._its_store.is_left_to_engines() and self._its_store.is_ours:
            self._collect()
        return listing(self._its_store, self._prepared, job_id)

    def services(self, job_id: str) -> dict[str, tuple[str, int]]:
        """Return the host and port of every service that the tasks of a job have announced, by name.

        A task announces one by a file with ``host:port``: ``echo "$(hostname):8888" > "$NEMO_RUN_SERVICES/notebook"``.

        Args:
            job_id: The job.

        Raises:
            ExecutorError: The job's engine has no way to its services.
        """
        from nemo_run.run.services import announced

        found = announced(self._its_store, self._prepared.job(job_id))
        return {name: (service.host, service.port) for name, service in found.items()}

    def forward(
        self, job_id: str, service: str, local_port: int | None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[int]:
        """Forward a port of this machine to a service that a task of a job has announced, or will have.

        Args:
            job_id: The job.
            service: Name of the service.
            local_port: The port of this machine; a free one by default.
            timeout: Seconds to wait for the service; by default as long as the job has not ended.

        Returns:
            A context manager that gives the port of this machine and ends the forwarding.

        Raises:
            ExperimentError: The job has ended, or has not announced the service in time.

        Example:
            >>> import nemo_run as run
            >>> with run.Experiment.from_title("work").forward("lab", "notebook") as port:  # doctest: +SKIP
            ...     print(f"http://localhost:{port}")
        """
        from nemo_run.run.services import forwarded

        return forwarded(self._its_store, self._prepared, job_id, service, local_port, timeout)

    def attach(self, tail_logs: bool = True) -> None:
        """Follow an experiment that another process drives, until all of its jobs have ended or that process is gone.

        Args:
            tail_logs: Show the logs of all jobs as they grow; otherwise a table of their states.
        """
        from nemo_run.run.driving import following

        store, definition = self._its_store, self._prepared
        if store.is_received:
            store.must_be_ours("attached to")
        jobs = tuple(job.id for job in definition.jobs) if tail_logs else ()
        screen = Screen()
        try:
            with (
                ProgressView(definition, live=not jobs, screen=screen) as view,
                following(store, definition, jobs, screen),
            ):
                self.wait(on_progress=view.update_all)
        except KeyboardInterrupt as stop:
            self._interrupted = True
            say(f"Interrupted: the experiment goes on; cancel it: nemorun experiment cancel {self.id}", sys.stderr)
            without_traceback(stop)
            raise
        if hint := interruption(self._its_store, self._refresh()):
            say(f"INTERRUPTED: {hint}", sys.stderr)

    def resume(self, detach: bool = False, tail_logs: bool = False) -> None:
        """Go on with an experiment whose controller is gone. What has run is not run again.

        Args:
            detach: Return as soon as a controller of its own drives it.
            tail_logs: Show the logs of all jobs as they grow.

        Raises:
            ExperimentBusyError: A controller drives it.
        """
        self._its_store.must_be_ours("resumed")
        self._its_store.must_be_as_launched()
        self._go_on(detach, tail_logs)

    # --- driving -----------------------------------------------------------------------------------------------
    # What drives is imported here, as an experiment that is only looked at needs none of it.

    def _go_on(self, detach: bool, tail_logs: bool) -> None:
        if detach:
            self._detach()
        else:
            self._drive(tail_logs)
        self._refresh()

    def _collect(self) -> None:
        """Note how jobs ended that were left to their engines, and collect what they left, once all have ended."""
        from nemo_run.run import driving

        if all(job.state.is_final for job in self.progress().values()):
            driving.collect(self._its_store)

    def _detach(self) -> None:
        from nemo_run.run import driving

        refused = driving.submit(self._its_store)
        self._detached = True
        if not self._quiet:
            driving.tell_submitted(self._its_store, self._prepared)
        driving.check_submitted(self._its_store, refused)

    def _drive(self, tail_logs: bool) -> None:
        from nemo_run.run import driving

        tailed = tuple(job.id for job in self._prepared.jobs if tail_logs or job.tail_logs)
        try:
            driving.drive(self._its_store, self._prepared, tailed, quiet=self._quiet)
        except KeyboardInterrupt:
            self._interrupted = True
            raise
