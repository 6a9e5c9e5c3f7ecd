"""What the backends of SkyPilot's clusters and of its managed jobs have in common.

A launch is a request to SkyPilot's API server, which goes on with it whatever becomes of us; nothing waits for it here.
A job is found again by its name, a launch by the id of its request, which is kept in the attempt's folder. How an
attempt ended is written down there by the first process that sees it, with its log: the cluster may be gone soon.
"""

from __future__ import annotations

import contextlib
import io
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import Backend, Submission, TaskRequest, one_by_one
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.shared.attempt_files import attempt_folder, rank_logs
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.log_reader import LogReader
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.execution.shared.shipping import job_archive, needs_runner, shared_packages
from nemo_run.core.execution.sky import log as sky_log, spec as sky_task
from nemo_run.core.execution.sky.client import asking, make_task, optimize, plain, sdk
from nemo_run.core.execution.sky.log import SkypilotLog
from nemo_run.core.execution.sky.options import SkypilotOptions, job_name
from nemo_run.errors import EngineUnreachableError, ExecutorError, MissingExtraError

_FRESH, _LONGEST = 2.0, 15.0  # seconds between two questions: while jobs change, and when they have not for long
_IN_FLIGHT = ("PENDING", "WAITING", "RUNNING")  # states of a request


@dataclass(frozen=True)
class SkyHandle:
    """An attempt on SkyPilot.

    Attributes:
        engine: The backend.
        cluster: The cluster that it runs on; empty for a managed job.
        name: Its name, by which SkyPilot knows it.
        folder: Its folder on this machine.
    """

    engine: str
    cluster: str
    name: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.engine}://{self.cluster}/{self.name}{self.folder}"

    @classmethod
    def parse(cls, text: str) -> SkyHandle:
        """Return the handle that :meth:`__str__` wrote."""
        engine, _, rest = text.partition("://")
        cluster, _, rest = rest.partition("/")
        name, _, path = rest.partition("/")
        return cls(engine, cluster, name, Path(f"/{path}"))

    @property
    def journal(self) -> AttemptFolder:
        """What is written down of the attempt."""
        return AttemptFolder(self.folder)

    @property
    def launch(self) -> dict[str, Any]:
        """What was noted of its launch; empty where there was none."""
        return self.journal.submission()

    @property
    def sent_cancel(self) -> Path:
        """The file that exists once SkyPilot was asked to cancel its job."""
        return self.folder / "cancel-sent"


@dataclass(frozen=True)
class SkyJob:
    """What SkyPilot says of a job.

    Attributes:
        id: Its number.
        status: Its status.
    """

    id: int
    status: TaskStatus


@door("SkyPilot")
class SkypilotBackend(Backend):
    """Behaviour of both engines; what differs is abstract."""

    poll_interval: ClassVar[float] = 2.0
    request_name: ClassVar[str]
    executor_name: ClassVar[str]

    def __init__(self) -> None:
        self._listed: set[str] = set()  # names of jobs that were in SkyPilot's answer once
        self._jobs: dict[str, dict[str, SkyJob]] = {}  # by cluster
        self._asked: dict[str, float] = {}
        self._changed = time.monotonic()

    # what differs

    @abstractmethod
    def cluster_of(self, executor: SkypilotOptions, request: TaskRequest) -> str:
        """Return the name of the cluster on which a job will run; empty where SkyPilot makes one for it."""

    @abstractmethod
    def command_line(self, spec: Mapping[str, Any]) -> str:
        """Return the command that launches the same."""

    @abstractmethod
    def launch(self, sky: Any, task: Any, spec: Mapping[str, Any]) -> str:
        """Ask SkyPilot to launch a task; id of the request."""

    @abstractmethod
    def list_jobs(self, cluster: str) -> dict[str, SkyJob] | None:
        """Return all jobs of a cluster by their names; ``None`` where there is no such cluster, or it is stopped."""

    @abstractmethod
    def stop(self, sky: Any, cluster: str, ids: list[int]) -> None:
        """Cancel jobs."""

    def after_task(self) -> str:
        """Return what nodes run after a task; by default, what puts its artifacts beside its logs."""
        return ""

    @abstractmethod
    def give_up(self, sky: Any, handle: SkyHandle) -> None:
        """Remove what a cancelled launch had made."""

    @abstractmethod
    def follow(self, sky: Any, cluster: str, job: int, tail: int) -> Iterator[str | None]:
        """Return what SkyPilot says of a running job, as it comes."""

    @abstractmethod
    def keep_logs(self, cluster: str, jobs: Mapping[int, SkyHandle]) -> dict[int, str]:
        """Bring the logs of ended jobs into the attempts' folders; what SkyPilot says of each."""

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a job: a SkyPilot task, and where to launch it."""
        executor = request.executor
        if not isinstance(executor, SkypilotOptions) or executor.engine != self.name:
            raise ExecutorError(
                f"job {request.job_id!r}: the {self.name} engine needs a {self.executor_name}, not {executor!r}"
            )
        name = job_name(request)
        spec = {
            "task": sky_task.job_task(executor, request, name, self.after_task()),
            "cluster": self.cluster_of(executor, request),
            "env": dict(request.command.env),
            "code_archive": request.code_archive,
            "runner": needs_runner(request.command),
            "down": executor.autodown,
            "idle_minutes": executor.idle_minutes_to_autostop,
            "retry_until_up": executor.retry_until_up,
        }
        return Plan(self.name, request.job_id, request.directory, spec)

    def describe(self, plan: Plan) -> str:
        """Return the task as SkyPilot's YAML, and what its optimiser says; values of secrets masked."""
        config = plan.spec["task"]
        text = as_yaml(sky_task.as_shown(config))
        try:
            said = optimize(config)
        except ExecutorError as e:
            said = str(e)
        comment = "".join(f"# {line}\n" for line in said.splitlines())
        return f"# {self.command_line(plan.spec)}\n{text}{comment}".rstrip()

    # submitting

    @staticmethod
    def why_not_usable() -> str:
        """Return why SkyPilot cannot be asked: its SDK is not installed; empty if it can."""
        try:
            sdk()
        except MissingExtraError as error:
            return str(error)
        return ""

    def preflight(self, plans: Sequence[Plan]) -> None:
        """Check that SkyPilot takes the tasks and finds machines for them."""
        for plan in plans:
            make_task(plan.spec["task"])
        there = self._existing({plan.spec["cluster"] for plan in plans if plan.spec["cluster"]})
        asked = set()
        for plan in plans:
            wanted = repr((plan.spec["task"].get("resources"), plan.spec["task"].get("num_nodes")))
            if plan.spec["cluster"] not in there and wanted not in asked:
                asked.add(wanted)
                self._find_machines(plan)

    @staticmethod
    def _find_machines(plan: Plan) -> None:
        try:
            optimize(plan.spec["task"])
        except EngineUnreachableError:
            raise
        except ExecutorError as e:
            raise ExecutorError(f"job {plan.job_id!r}: {e}") from e

    def _existing(self, clusters: set[str]) -> set[str]:
        if not clusters:
            return set()
        with asking("its clusters") as sky:
            return {record["name"] for record in sky.get(sky.status(sorted(clusters)))}

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the name of the attempt's job and its cluster, and the attempt's folder."""
        return str(self._handle(plan, attempt))

    def _handle(self, plan: Plan, attempt: int) -> SkyHandle:
        name = sky_task.attempt_name(plan.spec["task"]["name"], attempt)
        return SkyHandle(self.name, plan.spec["cluster"], name, attempt_folder(plan, attempt))

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, one after the other."""
        return one_by_one(submissions, self._start)

    def _start(self, plan: Plan, attempt: int) -> str:
        """Ask SkyPilot to launch an attempt. It has only been asked when this returns."""
        handle = self._handle(plan, attempt)
        if not handle.launch:
            task = make_task(self._task(plan, attempt, handle.folder))
            with asking(f"job {plan.job_id!r}") as sky, contextlib.redirect_stdout(io.StringIO()):
                self._note(handle, plan, self.launch(sky, task, plan.spec))
        return str(handle)

    def _task(self, plan: Plan, attempt: int, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        archive = folder / "job.tar.gz"
        archive.touch(mode=0o600)
        archive.write_bytes(job_archive(plan.directory))
        shared = shared_packages(plan)
        return sky_task.for_attempt(plan.spec["task"], attempt, archive, shared)

    @staticmethod
    def _note(handle: SkyHandle, plan: Plan, request: str) -> None:
        handle.journal.note_submission(request=request, down=plan.spec["down"])

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if SkyPilot was asked to launch it."""
        handle = self._handle(plan, attempt)
        if handle.launch or handle.journal.has_ended:
            return str(handle)
        with asking(f"job {plan.job_id!r}") as sky:
            requests = sky.api_status(cluster_name=handle.cluster or None)
        for request in requests:  # those in flight; asked before the jobs are: a launch that is over has made its job
            if request.name == self.request_name and f"name: {handle.name}\\n" in request.request_body:
                self._note(handle, plan, request.request_id)
                return str(handle)
        if handle.name in (self.list_jobs(handle.cluster) or {}):
            self._note(handle, plan, "")
            return str(handle)
        return None

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Return the status of all these attempts; SkyPilot is asked for those that have not ended."""
        parsed = {text: SkyHandle.parse(text) for text in handles}
        found = {text: handle.journal.recorded() for text, handle in parsed.items()}
        found |= self._ask([parsed[text] for text, status in found.items() if status is None])
        return {text: status for text, status in found.items() if status is not None}

    def _ask(self, handles: Sequence[SkyHandle]) -> dict[str, TaskStatus]:
        """Return the status of attempts of whose end nothing is written down yet."""
        launches = self._launches([handle for handle in handles if handle.name not in self._listed])
        jobs = self._look(_beyond_launch(handles, launches), fresh="SUCCEEDED" in launches.values())
        found: dict[str, TaskStatus] = {}
        ended: dict[str, dict[SkyHandle, SkyJob]] = {}
        for handle in handles:
            job = jobs.get(handle.name)
            if job is None:
                found[str(handle)] = self._without_job(handle, launches.get(handle.name, ""))
            elif job.status.state.is_final:
                ended.setdefault(handle.cluster, {})[handle] = job
            else:
                found[str(handle)] = self._with_job(handle, job)
        for cluster, some in ended.items():
            found.update(self._record_ends(cluster, some))
        return found

    def _launches(self, handles: Sequence[SkyHandle]) -> dict[str, str]:
        """Return the states of the requests to launch these attempts, by their names."""
        launched = [handle for handle in handles if handle.launch]
        requests = {handle.launch["request"]: handle.name for handle in launched if handle.launch["request"]}
        states = dict.fromkeys((handle.name for handle in launched), "GONE")
        if requests:
            with asking("its requests") as sky:
                answers = sky.api_status(request_ids=list(requests), all_status=True)
            states.update({requests[a.request_id]: a.status for a in answers if a.request_id in requests})
        return states

    def _look(self, handles: Sequence[SkyHandle], *, fresh: bool) -> dict[str, SkyJob]:
        found: dict[str, SkyJob] = {}
        for cluster in dict.fromkeys(handle.cluster for handle in handles if handle.launch):
            now = time.monotonic()
            good_for = 0.0 if fresh else min(_LONGEST, max(_FRESH, 0.1 * (now - self._changed)))
            if now - self._asked.get(cluster, float("-inf")) >= good_for:
                jobs = self.list_jobs(cluster) or {}
                if jobs != self._jobs.get(cluster):
                    self._changed = now
                self._jobs[cluster], self._asked[cluster] = jobs, time.monotonic()
                self._listed.update(jobs)
            found.update(self._jobs[cluster])
        return found

    def _with_job(self, handle: SkyHandle, job: SkyJob) -> TaskStatus:
        if handle.journal.is_cancelled and not handle.sent_cancel.exists():  # it was cancelled before it was there
            with asking(f"job {handle.name!r}") as sky:
                self.stop(sky, handle.cluster, [job.id])
            handle.sent_cancel.touch(mode=0o600)
        return job.status

    def _without_job(self, handle: SkyHandle, launch: str) -> TaskStatus:
        cancelled = handle.journal.is_cancelled
        if launch in _IN_FLIGHT:
            return TaskStatus(JobState.PENDING, reason="SkyPilot makes a machine ready for it")
        if launch == "CANCELLED" or (launch == "FAILED" and cancelled):
            return _record(handle, TaskStatus(JobState.CANCELLED, reason="cancelled before it began"))
        if launch == "FAILED":
            return _record(handle, TaskStatus(JobState.FAILED, reason=self._why(handle)))
        if not launch and handle.name not in self._listed:
            return TaskStatus(JobState.UNKNOWN, reason="SkyPilot has not heard of it")
        return self._gone(handle, cancelled=cancelled)

    @staticmethod
    def _gone(handle: SkyHandle, *, cancelled: bool) -> TaskStatus:
        if cancelled:
            return _record(handle, TaskStatus(JobState.CANCELLED, reason="cancelled, and its cluster is gone"))
        reason = "SkyPilot has it no more, and how it ended is not known"
        if handle.cluster:
            reason += f": see whether its cluster {handle.cluster!r} is stopped or gone"
        return _record(handle, TaskStatus(JobState.FAILED, reason=reason, lost=True))

    @staticmethod
    def _why(handle: SkyHandle) -> str:
        """Return why a launch failed."""
        try:
            with asking(f"job {handle.name!r}") as sky:
                sky.get(handle.launch["request"])
        except EngineUnreachableError:
            raise
        except ExecutorError as e:
            return plain(e)
        return "SkyPilot could not launch it"

    def _record_ends(self, cluster: str, jobs: Mapping[SkyHandle, SkyJob]) -> dict[str, TaskStatus]:
        """Write down how jobs ended, once their logs are here. Only one process at a time does so for a job."""
        with contextlib.ExitStack() as locks:
            for handle in sorted(jobs, key=str):
                locks.enter_context(handle.journal.locked())
            recorded = {handle: handle.journal.recorded() for handle in jobs}
            fresh = {job.id: handle for handle, job in jobs.items() if recorded[handle] is None}
            said = self._keep_logs(cluster, fresh) if fresh else {}
            return {
                str(handle): recorded[handle] or _record_job(handle, job, said.get(job.id, ""))
                for handle, job in jobs.items()
            }

    def _keep_logs(self, cluster: str, jobs: Mapping[int, SkyHandle]) -> dict[int, str]:
        try:
            return self.keep_logs(cluster, jobs)
        except EngineUnreachableError:
            raise
        except ExecutorError as e:  # the cluster is on its way out: better no log than no end
            for handle in jobs.values():
                (handle.folder / "log").write_text(f"the log could not be had: {e}\n")
            return {}

    def cancel(self, handles: Iterable[str]) -> None:
        """Cancel attempts: their launches while these go on, their jobs."""
        parsed = map(SkyHandle.parse, handles)
        waiting = [handle for handle in parsed if handle.launch and not handle.journal.has_ended]
        if not waiting:
            return
        for handle in waiting:
            handle.journal.request_cancel()
        launches = self._launches(waiting)
        for handle in waiting:
            if launches.get(handle.name) in _IN_FLIGHT:
                self._cancel_launch(handle)
        self._stop_jobs(waiting, self._look(_beyond_launch(waiting, launches), fresh=True))
        self._asked.clear()

    def _cancel_launch(self, handle: SkyHandle) -> None:
        with asking(f"job {handle.name!r}") as sky:
            sky.get(sky.api_cancel([handle.launch["request"]], silent=True))
            self.give_up(sky, handle)

    def _stop_jobs(self, handles: Sequence[SkyHandle], jobs: Mapping[str, SkyJob]) -> None:
        """Stop the jobs of attempts that have not ended, those of a cluster at once."""
        running: dict[str, list[int]] = {}
        for handle in handles:
            if handle.name in jobs and not jobs[handle.name].status.state.is_final:
                running.setdefault(handle.cluster, []).append(jobs[handle.name].id)
                handle.sent_cancel.touch(mode=0o600)
        for cluster, ids in running.items():
            with asking("its jobs") as sky:
                self.stop(sky, cluster, ids)

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait; SkyPilot has to be asked for news, which :meth:`states` does not do too often."""
        time.sleep(max(0.0, timeout))
        return []

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Return the nodes that have a log of their own, once the attempt has ended."""
        return sorted(rank_logs(SkyHandle.parse(handle).folder))

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """Return the log of an attempt, or of one node of it."""
        parsed = SkyHandle.parse(handle)

        def stream() -> Iterator[str | None] | None:
            job = self._look([parsed], fresh=False).get(parsed.name)
            if job is None or job.status.state < JobState.RUNNING:
                return None
            with asking(f"the log of {parsed.name!r}") as sky:
                return self.follow(sky, parsed.cluster, job.id, max(tail, 1) if tail is not None else 0)

        return SkypilotLog(parsed.folder, stream, rank, tail)

    @abstractmethod
    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Bring in what an ended attempt left."""

    def close(self) -> None:
        """Forget what is known, so that the next question goes to SkyPilot."""
        self._asked.clear()


def _beyond_launch(handles: Iterable[SkyHandle], launches: Mapping[str, str]) -> list[SkyHandle]:
    """Return the attempts whose launches are over, so that there may be jobs of them."""
    return [handle for handle in handles if launches.get(handle.name) not in _IN_FLIGHT]


def _record_job(handle: SkyHandle, job: SkyJob, said: str) -> TaskStatus:
    """Write down how the job of an attempt ended, from what SkyPilot says of it."""
    status = job.status
    if status.state is JobState.CANCELLED:
        return _record(handle, replace(status, exit_code=None, reason=status.reason or "cancelled"))
    code = 0 if status.state is JobState.SUCCEEDED else sky_log.exit_code(said)
    return _record(handle, replace(status, exit_code=1 if code is None else code))


def _record(handle: SkyHandle, status: TaskStatus) -> TaskStatus:
    """Write down how an attempt ended."""
    (handle.folder / "log").touch(mode=0o600)
    return handle.journal.write_end(status)
