"""The store: the only code that touches the files of experiments.

::

    $NEMORUN_HOME/experiments/<title>/<id>/
        experiment.json        what was asked for (Definition)
        provenance.json        who launched it, where, with which code and packages
        environment.json       environment of the launching process, for tasks that inherit it; sealed
        controller.lock        locked while a controller drives the experiment
        controller.json        who that is, or was
        left.json              that the engines bring all jobs to their ends without one
        summary.json           how it ended
        mark.json              that this user launched it, with the digests of what was launched (Ownership)
        cancel/<job>           requests to cancel
        trackers.json          which trackers metrics are forwarded to
        trackers/<n>/          how far that is, a folder for each tracker
        <job>/state.json       how far the job is (JobProgress)
        <job>[/<n>]/           one folder for every task of the job
            plan.json          what the engine is to run
            task.json          the configuration
            dryrun.sh, .txt    what a dry run showed, where its folder was kept
            attempts/<n>/      what the engine leaves

Every file is replaced as a whole, so that a reader never sees half of one, and is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared.log_reader import FileLog, LogReader
from nemo_run.core.files import (
    digest,
    folder_name,
    is_locked,
    json_bytes,
    make_folder,
    open_lock,
    parse_json,
    read_json,
    read_object,
    try_lock,
    write_json,
    write_text,
)
from nemo_run.core.packaging.archive import leads_out
from nemo_run.errors import ExperimentBusyError, StoreError
from nemo_run.run import received
from nemo_run.run.ownership import DEFINITION, Ownership
from nemo_run.run.records import (
    FORMAT,
    Definition,
    JobDefinition,
    JobProgress,
    TaskDefinition,
    TaskProgress,
    check_types,
    is_summary,
)

IN_PROCESS = "direct://"  # what handles of tasks begin with that ran in the launching process
_OWN_FOLDERS = ("cancel", "code", "packages", "tensorboard", "trackers")


def job_folder_name(job_id: str) -> str:
    """Return the name of the folder of a job: a safe one, and none of those that the store itself uses beside it.

    >>> job_folder_name("train"), job_folder_name("cancel")
    ('train', 'cancel-2374d9')
    """
    name = folder_name(job_id)
    own = name in _OWN_FOLDERS or name.endswith((".json", ".lock", ".log"))
    return f"{name}-{digest(job_id)}" if own else name


class ExperimentStore:
    """The files of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ownership = Ownership(path)

    @property
    def is_ours(self) -> bool:
        """Whether this user launched it on this home, so that engines may be asked, and more be done with it."""
        return self.ownership.is_ours

    @property
    def is_received(self) -> bool:
        """Whether it was not launched by this user on this home: until it is adopted, it is only looked at."""
        return not self.is_ours

    @property
    def id(self) -> str:
        """Id of the experiment."""
        return self.path.name

    def must_be_ours(self, action: str = "changed") -> None:
        """Check that the experiment can be acted on, and not only looked at.

        Raises:
            ForeignExperimentError: Another program made it.
            ReceivedExperimentError: This user has not launched it on this home.
        """
        if not self.is_ours:
            raise self.ownership.refusal(action)

    def must_be_as_launched(self) -> None:
        """Check that it is ours, and that nobody has changed what is going to be run.

        Raises:
            ForeignExperimentError: Another program made it.
            ReceivedExperimentError: This user has not launched it on this home, or a file is not the launched one.
        """
        self.must_be_ours("run")
        self.ownership.check()

    def must_be_of_this_program(self, action: str) -> None:
        """Check that this program made the experiment, no matter which user launched it.

        Raises:
            ForeignExperimentError: Another program made it.
        """

    def kept_log(self, task: TaskDefinition, handle: str, rank: int | None, tail: int | None) -> LogReader | None:
        """Return the log of an attempt, where it is with the experiment; ``None`` where the engine has it.

        Raises:
            StoreError: The engine may have it, and is not asked, as the experiment is not ours.
        """
        if handle.startswith(IN_PROCESS) and self.is_ours:
            if rank:
                raise StoreError(f"task {task.name!r} ran in the launching process: it has no log of rank {rank}")
            return FileLog(self.path / task.directory / "attempts" / "1" / "log", tail)
        return None if self.is_ours else received.kept_log(self.path, task, handle, rank, tail)

    def write_definition(self, definition: Definition) -> None:
        """Store what was asked for, and mark the experiment with all that was prepared as ours."""
        content = json_bytes(dataclasses.asdict(definition))
        self.ownership.mark(self.ownership.survey(content, definition.directories))
        write_text(self.path / DEFINITION, content, durable=True)

    def read_definition(self) -> Definition:
        """Return what was asked for.

        Raises:
            StoreError: The file is missing or damaged.
        """
        path = f"{self.path}/{DEFINITION}"  # of thousands: no Path
        try:
            doc = read_json(path)
        except FileNotFoundError:
            raise StoreError(
                f"{path}: there is no such file; the experiment was never launched, or is being created"
            ) from None
        written = doc.get("format", FORMAT) if isinstance(doc, dict) else FORMAT
        if isinstance(written, int) and written > FORMAT:
            raise StoreError(
                f"{path}: it has format {written}, and this version of nemo-run reads formats up to {FORMAT}: "
                "pip install --upgrade nemo-run"
            )
        try:
            return _checked(_definition(doc))
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise StoreError(f"{path}: the file is damaged, or was written by another version ({e!r})") from e

    def write_provenance(self, provenance: dict[str, Any]) -> None:
        """Store who launched the experiment, where, and with what."""
        write_json(self.path / "provenance.json", provenance)

    def read_provenance(self) -> dict[str, Any]:
        """Return who launched the experiment, where, and with what.

        Raises:
            StoreError: It is damaged.
        """
        path = self.path / "provenance.json"
        found = read_object(path) or {}
        code = found.get("code", [])
        if not isinstance(code, list) or not all(isinstance(one, dict) and _are_texts(one, "root") for one in code):
            raise StoreError(f"{path}: the file is damaged: what it says of the code is not what it should be")
        return found

    def inside(self, relative: str) -> Path:
        """Return a folder of the experiment, which may not be there.

        Raises:
            StoreError: It is a link, or behind one: nothing outside of the experiment is read or written.
        """
        path = self.path / relative
        for part in (path, *path.parents):
            if part == self.path:
                break
            if part.is_symlink():
                raise StoreError(f"{part}: is a link, which is not followed; nothing was read or written")
        return path

    def folder(self, relative: str) -> Path:
        """Return a folder of the experiment, created if need be.

        Raises:
            StoreError: It cannot be created, or is behind a link.
        """
        self.must_be_there()
        return make_folder(self.inside(relative))

    def must_be_there(self) -> None:
        """Check that the experiment still has its folder.

        Raises:
            StoreError: It was removed.
        """
        if not self.path.is_dir():
            raise StoreError(f"{self.path}: the folder of the experiment is gone; what still runs is not followed")

    def write_plan(self, task: TaskDefinition, plan: Plan) -> None:
        """Store what the engine is to run for a task."""
        write_json(self.folder(task.directory) / "plan.json", plan.to_json(), indent=None)

    def read_plan(self, task: TaskDefinition) -> Plan:
        """Return what the engine is to run for a task.

        Raises:
            StoreError: It is missing or damaged.
            ReceivedExperimentError: The experiment is not ours, or this is not the plan that was launched.
        """
        path = self.path / task.directory / "plan.json"
        try:
            return Plan.from_json(parse_json(path, self.ownership.read(f"{task.directory}/plan.json")))
        except FileNotFoundError:
            raise StoreError(f"{path}: there is no such file; the task was never prepared") from None
        except TypeError as e:
            raise StoreError(f"{path}: the file is damaged ({e})") from e

    def write_description(self, task: TaskDefinition, text: str) -> None:
        """Store what a dry run shows of a task: a script, or any other text."""
        name = "dryrun.sh" if text.startswith("#!") else "dryrun.txt"
        write_text(self.folder(task.directory) / name, f"{text}\n".encode("utf-8", "backslashreplace"))

    def read_task(self, task: TaskDefinition) -> dict[str, Any]:
        """Return the configuration of a task and its executor, as documents."""
        path = self.path / task.directory / "task.json"
        return self._task_document(path, read_object(path))

    def read_task_to_load(self, task: TaskDefinition) -> dict[str, Any]:
        """Return the configuration of a task and its executor, to make the objects that they name.

        Raises:
            ReceivedExperimentError: The experiment is not ours, or this is not the task that was launched.
        """
        path = self.path / task.directory / "task.json"
        try:
            return self._task_document(path, parse_json(path, self.ownership.read(f"{task.directory}/task.json")))
        except FileNotFoundError:
            return self._task_document(path, None)

    def read_pickle(self, task: TaskDefinition) -> bytes:
        """Return the part of a task that is pickled, to load it.

        Raises:
            ReceivedExperimentError: The experiment is not ours, or this is not what was launched.
        """
        try:
            return self.ownership.read(f"{task.directory}/main.pkl")
        except FileNotFoundError as e:
            raise StoreError(f"{e.filename}: there is no such file; the task cannot be loaded without it") from None

    @staticmethod
    def _task_document(path: Path, doc: dict[str, Any] | None) -> dict[str, Any]:
        if not isinstance(doc, dict) or "config" not in doc or not isinstance(doc.get("executor"), dict):
            raise StoreError(f"{path}: the file is {'missing' if doc is None else 'damaged'}; it says what the task is")
        return doc

    def write_progress(self, job: JobDefinition, progress: JobProgress) -> None:
        """Store how far a job is; its handles are marked as ours."""
        mark = self.ownership.mark_of(job.directory, progress.handles)
        write_json(self.folder(job.directory) / "state.json", {**progress.to_json(), "mark": mark}, indent=None)

    def must_be_own_handles(self, job: JobDefinition, progress: JobProgress) -> None:
        """Check that the handles in the stored progress of a job were written by us.

        Raises:
            ReceivedExperimentError: Somebody else has, or it is not known who.
        """
        if any(map(any, progress.handles)) and not self.ownership.is_mark_of(
            progress.mark, job.directory, progress.handles
        ):
            raise self.ownership.refusal()

    def read_progress(self, job: JobDefinition) -> JobProgress:
        """Return how far a job is, as its controller last wrote it."""
        path = f"{self.path}/{job.directory}/state.json"  # of thousands: no Path
        try:
            progress = JobProgress.from_json(read_json(path))
        except FileNotFoundError:
            return JobProgress([TaskProgress() for _ in job.tasks])
        except (KeyError, TypeError) as e:
            raise StoreError(f"{path}: the file is damaged ({e!r})") from e
        if len(progress.tasks) != len(job.tasks):
            raise StoreError(f"{path}: the file is damaged: {len(progress.tasks)} tasks in place of {len(job.tasks)}")
        return progress

    def own_progress(self, job: JobDefinition) -> JobProgress:
        """Return how far a job is, to go on from there.

        Raises:
            ReceivedExperimentError: The handles were not written by us.
        """
        progress = self.read_progress(job)
        self.must_be_own_handles(job, progress)
        return progress

    # requests to cancel

    def request_cancel(self, job: JobDefinition) -> None:
        """Leave the request to cancel this job for the controller."""
        write_json(self.folder("cancel") / job.directory, {"job": job.id, "at": time.time()})

    def cancel_requested(self, job: JobDefinition) -> bool:
        """Check whether this job is to be cancelled."""
        return (self.path / "cancel" / job.directory).exists()

    def any_cancel_requested(self) -> bool:
        """Check whether any job is to be cancelled."""
        return (self.path / "cancel").exists()

    # who drives it

    @contextlib.contextmanager
    def driving(self, lock: int | None = None) -> Iterator[int]:
        """Drive the experiment; no other process does so at the same time.

        Args:
            lock: Descriptor of the lock that another process has passed on.

        Yields:
            Descriptor of the lock, which can be passed on to another process.

        Raises:
            ExperimentBusyError: Another process drives it.
            ReceivedExperimentError: This user has not launched it on this home.
        """
        self.must_be_ours("driven")
        fd = open_lock(self.path / "controller.lock") if lock is None else lock
        try:
            if lock is None and not try_lock(fd):
                who = self.controller()
                raise ExperimentBusyError(
                    f"experiment {self.id!r} is driven by process {who.get('pid', '?')} on {who.get('host', '?')}; "
                    f"follow it: nemorun experiment attach {self.id}"
                )
            write_json(self.path / "controller.json", self._this_process())
            self._left.unlink(missing_ok=True)
            yield fd
        finally:
            os.close(fd)

    @staticmethod
    def _this_process() -> dict[str, Any]:
        return {"pid": os.getpid(), "host": os.uname().nodename, "since": time.time()}

    @property
    def _left(self) -> Path:
        return self.path / "left.json"

    def leave_to_engines(self) -> None:
        """Note that the engines bring every job to its end without a controller."""
        write_json(self._left, self._this_process())
        (self.path / "controller.json").unlink(missing_ok=True)  # who left is no controller that could be told anything

    def is_left_to_engines(self) -> bool:
        """Check whether the engines bring every job to its end without a controller, and none drives the experiment."""
        return self._left.exists() and not self.is_driven()

    def goes_on(self) -> bool:
        """Check whether the jobs that have not ended go on: by a controller, or by their engines alone."""
        return self.is_driven() or (self.is_ours and self.is_left_to_engines())

    def is_driven(self) -> bool:
        """Check whether a controller drives the experiment now."""
        return is_locked(self.path / "controller.lock")

    def controller(self) -> dict[str, Any]:
        """Return which process drives the experiment, or last did; empty where none ever did."""
        with contextlib.suppress(StoreError):  # damaged; it only tells whom to ask
            return read_object(self.path / "controller.json") or {}
        return {"pid": "?", "host": "?"}

    # the end

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Store how the experiment ended, for quick listings."""
        write_json(self.path / "summary.json", summary)

    def read_summary(self) -> dict[str, Any] | None:
        """Return how the experiment ended; ``None`` while it has not.

        Raises:
            StoreError: The file is damaged.
        """
        path = f"{self.path}/summary.json"
        found = read_object(path)
        if found and not is_summary(found):
            raise StoreError(f"{path}: the file is damaged: a value is not what it should be")
        return found

    def drop_summary(self) -> None:
        """Forget how it ended, because it goes on."""
        (self.path / "summary.json").unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the experiment's folder and all that is in it.

        Raises:
            ExperimentBusyError: A controller drives it.
        """
        if self.is_driven():
            raise ExperimentBusyError(f"experiment {self.id!r} is still being driven; cancel it first")
        # First out of sight, in one step: half of it is never found.
        import tempfile

        grave = Path(tempfile.mkdtemp(prefix=".deleted-", dir=self.path.parent))
        self.path.rename(grave / self.path.name)
        for other in self.path.parent.glob(".deleted-*"):  # some may be left of earlier ones
            _remove(other)
        if grave.exists():
            raise StoreError(
                f"experiment {self.id!r} is deleted, but some of its files cannot be removed; they may be another "
                f"user's: sudo rm -r {grave}"
            )


def _are_texts(document: dict[str, Any], *names: str) -> bool:
    return all(isinstance(document.get(name), str) for name in names)


def _remove(folder: Path) -> None:
    """Remove what can be removed of a folder, folders without the right to be written to among it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for top, folders, _ in os.walk(folder):
            for path in (Path(top), *(Path(top, name) for name in folders)):
                with contextlib.suppress(OSError):
                    if not path.is_symlink():
                        path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _checked(definition: Definition) -> Definition:
    """Return the definition, if all is of its type, and all its folders are inside that of the experiment."""
    check_types(definition)
    for job in definition.jobs:
        for record in (job, *job.tasks):
            check_types(record)
        if not job.tasks:
            raise ValueError(f"job {job.id!r} has no task")
        if "/" in job.directory:
            raise ValueError(f"{job.directory!r} is no name of a folder")
        for directory in (job.directory, *(task.directory for task in job.tasks)):
            if directory == "." or leads_out(directory):
                raise ValueError(f"folder {directory!r} is not inside of the experiment")
    return definition


def _definition(doc: dict[str, Any]) -> Definition:
    jobs = tuple(
        JobDefinition(
            **{
                **job,
                "dependencies": tuple(job["dependencies"]),
                "tasks": tuple(TaskDefinition(**{**task, **_tuples(task)}) for task in job["tasks"]),
            }
        )
        for job in doc["jobs"]
    )
    return Definition(**{**doc, "jobs": jobs})


def _tuples(task: dict[str, Any]) -> dict[str, Any]:
    return {"artifacts": tuple(task["artifacts"]), "restart_on": tuple(task.get("restart_on", ()))}
