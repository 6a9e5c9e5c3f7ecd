"""The backend of DGX Cloud Lepton.

No process has to stay: any other finds a job again by its name, which is made from where the attempt lies in the store.
The first process that sees the end of a job writes its logs and its exit code into the folder of the attempt, as the
service forgets them.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Backend, Submission, TaskRequest, one_by_one
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.execution.lepton.client import LeptonClient, default_connection, node_of
from nemo_run.core.execution.lepton.log import ReplicaLog, save
from nemo_run.core.execution.lepton.options import LeptonOptions
from nemo_run.core.execution.lepton.script import ReplicaEnd, run_script
from nemo_run.core.execution.lepton.shipping import MountTransfer
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.attempt_files import attempt_folder
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.log_reader import LogReader, merged
from nemo_run.core.execution.shared.service_names import folder_there, mark_in
from nemo_run.core.execution.shared.shipping import job_packages
from nemo_run.core.files import read_object, write_json
from nemo_run.errors import EngineUnreachableError, ExecutorError

_SCHEME = "lepton://"
_NEW = 60.0  # seconds in which a job that was created may not be known to all parts of the service
_SHARE, _LONGEST = 0.1, 10.0  # how long an answer will do: of the time without changes, and in seconds at most
_LOOK_FOR_REASONS = 30.0  # seconds between two looks at why a job does not start


@dataclass(frozen=True)
class _Answer:
    """What the service said of the jobs of one experiment.

    Attributes:
        asked: When it was asked.
        changed: Since when it says the same.
        jobs: The jobs by their names.
    """

    asked: float
    changed: float
    jobs: dict[str, dict[str, Any]]


@door("Lepton")
class LeptonBackend(Backend):
    """Runs attempts as jobs of a Lepton workspace. What ended is in the attempts' folders, what has not is there."""

    name: ClassVar[str] = "lepton"
    poll_interval: ClassVar[float] = 2.0

    def __init__(self, **connection: str) -> None:
        self._client = LeptonClient(connection or default_connection())
        self._groups: dict[str, str] = {}
        self._sent: dict[str, str] = {}  # SHA-256 of packages that are on their mounts
        self._reasons: dict[str, tuple[float, str]] = {}
        self._answers: dict[str, _Answer] = {}

    @staticmethod
    def why_not_usable() -> str:
        """Return why the service cannot be asked: httpx is not installed, or no workspace is named; empty if it can."""
        try:
            with contextlib.closing(LeptonClient(default_connection())) as client:
                client.check()
        except ExecutorError as error:
            return str(error)
        return ""

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a job: the body of the request that creates it, and what its replicas run."""
        executor = request.executor
        if not isinstance(executor, LeptonOptions):
            raise ExecutorError(f"job {request.job_id!r}: the lepton engine needs a LeptonExecutor, not {executor!r}")
        folder = folder_there(executor.nemo_run_dir, get_nemorun_home(), request.directory)
        spec = bodies.job_spec(executor, request, folder)
        return Plan(self.name, request.job_id, request.directory, spec, executor.connection())

    def describe(self, plan: Plan) -> str:
        """Return the request that creates the job, and the script; values of secrets masked."""
        return bodies.shown(_name(plan, 1), plan.spec)

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the name of the attempt's job, and its folder here."""
        return f"{_SCHEME}{_name(plan, attempt)}{attempt_folder(plan, attempt)}"

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """Check that the workspace answers and has the node groups, and bring large files to the mount."""
        if plans:
            self._client.check()
        for plan in plans:
            try:
                self._group(plan)
                self._send(plan)
            except ExecutorError as e:
                raise type(e)(f"job {plan.job_id!r}: {e}") from e

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, one after the other."""
        return one_by_one(submissions, self._start)

    def _start(self, plan: Plan, attempt: int) -> str:
        """Create the job of an attempt."""
        name, handle = _name(plan, attempt), self.expected_handle(plan, attempt)
        inline, sent = self._send(plan)
        script = run_script(plan.spec, name, attempt, inline, sent)
        command = bodies.run_command({"run.sh": script.encode("utf-8", "surrogateescape"), **inline})
        envs = bodies.variables(plan.spec["env"], plan.spec["secrets"])
        body = bodies.creation(name, plan.spec["job"], command, envs, self._group(plan))
        AttemptFolder.of(plan, attempt).make()
        self._client.create(body)
        self._answers.pop(mark_in(name), None)
        _note_submission(plan, attempt)
        return handle

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if its job was created."""
        handle = self.expected_handle(plan, attempt)
        if AttemptFolder.of(plan, attempt).has_ended:
            return handle
        with _as_outage():
            if self._client.job(_name(plan, attempt)) is None:
                return None
        _note_submission(plan, attempt)
        return handle

    def _group(self, plan: Plan) -> str:
        """Return the id of the node group of a plan; empty where it has none."""
        name = plan.spec["node_group"]
        if name and name not in self._groups:
            self._groups[name] = self._client.node_group_id(name)
        return self._groups.get(name, "")

    def _send(self, plan: Plan) -> tuple[dict[str, bytes], dict[str, tuple[str, str]]]:
        """Return the files of a job that are small, and those that are on the mount, by what they are."""
        spec = plan.spec
        found = job_packages(plan)
        inline: dict[str, bytes] = {}
        sent: dict[str, tuple[str, str]] = {}
        room = bodies.INLINE
        for what, package in sorted(found.items(), key=lambda item: len(item[1].content)):
            if len(package.content) <= room:
                inline[what] = package.content
                room -= len(package.content)
                continue
            mount = MountTransfer(self._client, spec, self._group(plan))
            key = mount.key(package.name)
            if key not in self._sent:
                mount.send(package)
                self._sent[key] = hashlib.sha256(package.content).hexdigest()
            sent[what] = (package.name, self._sent[key])
        return inline, sent

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Return the status of all these attempts; the engine is asked, once, for those that have not ended."""
        found = {handle: _folder(handle).recorded() for handle in handles}
        unknown = {handle: name_in(handle) for handle, status in found.items() if status is None}
        there: dict[str, dict[str, Any]] = {}
        with _as_outage():
            for mark in sorted(set(map(mark_in, unknown.values()))):  # one experiment, one query
                there |= self._jobs(mark)
            for handle, name in unknown.items():
                found[handle] = self._status(handle, there.get(name) or self._client.job(name))
        return {handle: status for handle, status in found.items() if status is not None}

    def _jobs(self, mark: str) -> dict[str, dict[str, Any]]:
        """Return the jobs of an experiment; an answer is used for longer, the longer nothing has changed."""
        now = time.monotonic()
        last = self._answers.get(mark) or _Answer(float("-inf"), now, {})
        if now - last.asked < min(_LONGEST, _SHARE * (now - last.changed)):
            return last.jobs
        jobs = self._client.jobs(mark)
        same = {name: job.get("status") for name, job in jobs.items()} == {
            name: job.get("status") for name, job in last.jobs.items()
        }
        self._answers[mark] = _Answer(now, last.changed if same else now, jobs)
        return jobs

    def _status(self, handle: str, job: Mapping[str, Any] | None) -> TaskStatus:
        if job is None:
            return _folder(handle).recorded() or self._missing(handle)
        state, reason = bodies.job_state(job)
        if state.is_final:
            return self._record_end(handle, state, reason)
        if _folder(handle).is_cancelled and not (job.get("spec") or {}).get("stopped"):
            self._client.stop(name_in(handle))  # it was not known yet when it was cancelled
        if state is JobState.RUNNING:
            seen = self._seen_running(handle)
            return TaskStatus(state, reason=reason, started=seen["started"], node=seen["node"])
        if state is JobState.PENDING:
            reason = ": ".join(filter(None, [reason, self._why_pending(name_in(handle))]))
        return TaskStatus(state, reason=reason)

    def _seen_running(self, handle: str) -> dict[str, Any]:
        """Return when an attempt was first seen running, and where; noted, as the service does not tell."""
        path = _folder(handle).path / "running.json"
        seen = read_object(path)
        if seen is None:
            first = self._client.replicas(name_in(handle)).get(0)
            seen = {"started": time.time(), "node": node_of(first) if first else ""}
            write_json(path, seen)
        return seen

    def _why_pending(self, name: str) -> str:
        asked, reason = self._reasons.get(name, (float("-inf"), ""))
        if time.monotonic() - asked > _LOOK_FOR_REASONS:
            reason = self._client.warnings(name)
            self._reasons[name] = (time.monotonic(), reason)
        return reason

    def _missing(self, handle: str) -> TaskStatus:
        folder = _folder(handle)
        submitted = folder.submission()
        if not submitted:
            return TaskStatus(JobState.UNKNOWN, reason="Lepton has not heard of it")
        if folder.is_cancelled:
            return self._record(handle, JobState.CANCELLED, "cancelled, and deleted on Lepton", [])
        if time.time() - submitted["at"] < _NEW:
            return TaskStatus(JobState.SUBMITTED)
        reason = "it is not on Lepton any more, and how it ended is not known"
        return TaskStatus(JobState.FAILED, reason=reason, ended=time.time(), lost=True)

    def _record_end(self, handle: str, state: JobState, reason: str) -> TaskStatus:
        """Save the logs of an attempt that has ended, and write down how."""
        name = name_in(handle)
        ends = [save(self._client, name, rank, path) for rank, path in _logs(handle).items()]
        cancelled = _folder(handle).is_cancelled
        if cancelled and state is not JobState.SUCCEEDED:
            state, reason = JobState.CANCELLED, "cancelled"
        elif state is JobState.FAILED:
            reason = "; ".join(filter(None, [reason, self._client.warnings(name)]))
        return self._record(handle, state, reason, [end for end in ends if end])

    def _record(self, handle: str, state: JobState, reason: str, ends: Sequence[ReplicaEnd]) -> TaskStatus:
        code = _exit_code(state, ends)
        if state is JobState.FAILED and code is None and not reason:
            reason = "Lepton says that it failed, and its log does not say why"
        folder = _folder(handle)
        seen = read_object(folder.path / "running.json") or {}
        started = min((end.started for end in ends), default=seen.get("started"))
        ended = max((end.ended for end in ends), default=None)
        status = TaskStatus(state, code, reason, started, ended, seen.get("node", ""))
        return folder.write_end(status, artifacts=not ends or any(end.left_artifacts for end in ends))

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the jobs that have not ended to end."""
        self._answers.clear()
        for handle, status in self.states(list(handles)).items():
            if status.state.is_final or status.state is JobState.UNKNOWN:
                continue
            _folder(handle).request_cancel()
            with _as_outage():
                self._client.stop(name_in(handle))
        self._answers.clear()

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own: the replicas, where there are several."""
        ranks = list(_logs(handle))
        return ranks if len(ranks) > 1 else []

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """Return the log of an attempt, or of one replica of it."""
        paths = _logs(handle)
        if rank is not None and rank not in paths:
            raise ExecutorError(f"rank {rank} has no log; ranks with one: {', '.join(map(str, paths))}")
        wanted = paths if rank is None else {rank: paths[rank]}
        return merged({number: self._log(handle, number, path, tail) for number, path in wanted.items()})

    def _log(self, handle: str, rank: int, path: Path, tail: int | None) -> LogReader:
        def saved() -> Path | None:
            return path if _folder(handle).has_ended else None

        return ReplicaLog(self._client, name_in(handle), rank, saved, tail)

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Fetch what the task left in its folder of artifacts, and what matches below its working directory."""
        left = _folder(handle).end().get("artifacts", False)
        if not left and not patterns:
            return
        if not plan.spec["is_on_mount"] and not plan.spec["is_here"]:
            raise ExecutorError(
                f"nemo_run_dir={plan.spec['base']!r} is on none of the mounts, so its files went with its container"
            )
        mount = MountTransfer(self._client, plan.spec, self._group(plan))
        with leftovers.gathered() as found:
            if left:
                found.update(mount.fetch_left(f"{plan.spec['folder']}/artifacts", folder))
            if patterns:
                mount.fetch(plan.spec["cwd"], patterns, folder)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@contextlib.contextmanager
def _as_outage() -> Iterator[None]:
    """Raise a refusal as an outage: one for want of a token or a right says as little of jobs."""
    try:
        yield
    except EngineUnreachableError:
        raise
    except ExecutorError as e:
        raise EngineUnreachableError(str(e)) from e


# --- folders and records -----------------------------------------------------------------------------------------


def _name(plan: Plan, attempt: int) -> str:
    return bodies.attempt_name(plan.job_id, plan.directory, attempt)


def name_in(handle: str) -> str:
    """Return the name of the job that a handle stands for."""
    return handle.removeprefix(_SCHEME).partition("/")[0]


def _folder(handle: str) -> AttemptFolder:
    return AttemptFolder(Path("/" + handle.removeprefix(_SCHEME).partition("/")[2]))


def _note_submission(plan: Plan, attempt: int) -> None:
    AttemptFolder.of(plan, attempt).note_submission(nodes=plan.spec["nodes"])


def _exit_code(state: JobState, ends: Sequence[ReplicaEnd]) -> int | None:
    """Return the exit code of an attempt: that of the first replica that failed; ``None`` where none is known."""
    codes = filter(None, (end.exit_code for end in ends))
    return next(codes, 0 if state is JobState.SUCCEEDED else None)


def _logs(handle: str) -> dict[int, Path]:
    """Return where the logs of all replicas are saved, by their ranks."""
    folder = _folder(handle)
    nodes = folder.submission().get("nodes", 1)
    names = ["log"] if nodes == 1 else [f"log.{rank}" for rank in range(nodes)]
    return {rank: folder.path / name for rank, name in enumerate(names)}
