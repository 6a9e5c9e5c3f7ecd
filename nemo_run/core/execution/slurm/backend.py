"""Talking to a Slurm cluster: sending files, submitting, asking, cancelling; through one tunnel, in few commands."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Backend, Capabilities, Submission, TaskRequest
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus, Used
from nemo_run.core.execution.shared import environments, leftovers
from nemo_run.core.execution.slurm import artifacts, commands, interpreters, queue, script, sending, spec
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.execution.slurm.log import Feed, SlurmLog
from nemo_run.core.packaging.archive import package_digest
from nemo_run.core.runners.bundle import runner_bundle
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel, make_tunnel
from nemo_run.errors import CommandError, EngineFullError, EngineUnreachableError, ExecutorError

_FRESH, _LONGEST = 1.0, 4.0  # seconds between two questions: while jobs change, and when they have not for long
_GONE_AFTER = 60.0  # seconds after which a job that nobody knows any more has ended
_NOT_KNOWN = (JobState.UNKNOWN, JobState.PENDING)  # what sacct says of jobs that squeue may have lost
_UNRECORDED = "and how this one ended is not recorded"
_DROPPED = "cancelled before it began"
_TRANSIENT = re.compile(
    r"timed out|Zero Bytes were|contact slurm controller|connect failure|Connection refused|"
    r"communication failure|temporarily unavail",
    re.IGNORECASE,
)
_NO_ACCOUNTS = re.compile(r"accounting storage is disabled|not found", re.IGNORECASE)
_NOT_LIVE = re.compile(r"Invalid job id|already completing or completed|Job/step already|not found", re.IGNORECASE)


@dataclass
class _Cluster:
    """What a backend knows of its cluster.

    Attributes:
        records: The last answer of squeue, by job.
        asked: When that was.
        changed: When an answer last differed from the one before.
        gone: Since when jobs are missing in all answers.
        origins: What attempts were submitted with.
        ended: Jobs that have ended, which are not asked for any more.
        sent: Packages that are there.
        feed: The logs that are read.
        largest_array: How many elements an array may have; 0 where it was not asked.
        array_size: How many are tried; fewer where the user may not have so many jobs.
        found: What :meth:`SlurmBackend._find` found in squeue, and when.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    records: dict[str, list[queue.Record]] = field(default_factory=dict)
    asked: float = float("-inf")
    changed: float = field(default_factory=time.monotonic)
    gone: dict[str, float] = field(default_factory=dict)
    origins: queue.Origins = field(default_factory=queue.Origins)
    ended: dict[str, TaskStatus] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    feed: Feed | None = None
    largest_array: int = 0
    array_size: int = 0
    found: tuple[float, dict[str, str]] = (float("-inf"), {})

    def own(self, handle: Handle) -> Sequence[queue.Record]:
        """Return what squeue said of an attempt's job."""
        return self.origins.own(self.records, handle)


class SlurmBackend(Backend):
    """Runs attempts as jobs of a Slurm cluster. All it knows of them is on the cluster."""

    name: ClassVar[str] = "slurm"
    can: ClassVar[Capabilities] = Capabilities(
        holds_dependencies=True,
        runs_groups=True,
        retries_itself=True,
        starts_ray=True,
        makes_environments=True,
        keeps_folders=True,
    )
    at_once: ClassVar[int] = 1000

    def __init__(self, tunnel: Mapping[str, Any]) -> None:
        self._tunnel: Tunnel = make_tunnel(tunnel)
        self._cluster = _Cluster()
        self._fetcher = artifacts.Fetcher(self._tunnel)
        self._has_asked = False

    @staticmethod
    def why_not_usable() -> str:
        """Return why no job can be submitted from this machine itself; empty if it can."""
        if shutil.which("sbatch"):
            return ""
        return "there is no sbatch on this machine; with tunnel=run.SSHTunnel(...) one elsewhere is used"

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe a task, or those of a group, as one job: a batch script, and the files that it needs."""
        return spec.render(list(requests))

    def describe(self, plan: Plan) -> str:
        """Return the batch script and the files that it needs; values of secrets masked."""
        if plan.spec["member"]:
            return f"# runs in the job of the first task of its group, in {plan.spec['leader']}"
        batch = spec.batch_of(plan.spec)
        shared = f"# submitted with others as an element of the job array {batch.array!r}, where there are several\n"
        text = script.describe(batch)
        return text.replace("\n#SBATCH", f"\n{shared}#SBATCH", 1) if batch.array else text

    # submitting

    def preflight(self, plans: Sequence[Plan]) -> None:
        """See to it that the cluster can be reached and has the packages."""
        if not plans:
            return
        try:
            self._run(posix("command -v sbatch squeue scancel >/dev/null"))
        except CommandError as e:
            raise ExecutorError(
                f"job {plans[0].job_id!r}: {self._tunnel.key} has no Slurm commands (sbatch, squeue, scancel); give "
                "SlurmExecutor a tunnel= to a login node of the cluster, or pre_command='module load slurm'"
            ) from e
        self._check_pythons(plans)
        for kept in dict.fromkeys(filter(None, (plan.spec.get("environments", "") for plan in plans))):
            self._send_uv(kept)
        self._send_packages(plans)

    def _send_uv(self, kept: str) -> None:
        """Send the uv of this machine, where it has one that runs there and there is none."""
        uv = environments.own_uv()
        if uv and self._run(posix(commands.ASK_FOR_UV, kept)).split() == [os.uname().sysname, os.uname().machine]:
            self._run(posix(commands.PUT_UV, kept), Path(uv).read_bytes())

    def _check_pythons(self, plans: Sequence[Plan]) -> None:
        pythons = interpreters.asked_for(plans)
        if pythons:
            answers = _by_number(self._run(posix(commands.PYTHONS, *pythons)))
            versions = {python: answers.get(number, "-").strip("-") for number, python in enumerate(pythons)}
            interpreters.check(plans, versions, self._tunnel.key)

    def _send_packages(self, plans: Sequence[Plan]) -> dict[str, tuple[str, str]]:
        """See to it that the cluster has what the plans share; the names of their code and runner, by job."""
        names, sources = {}, {}
        for plan in plans:
            archive, base = plan.spec["code_archive"], plan.spec["base"]
            code = package_digest(archive)[:32] if archive else ""
            if code:
                sources[f"{base}/.packages/{code}"] = archive
            runner = ""
            if plan.spec["member"] == 0 and any(step["runner"] for step in plan.spec["batch"]["steps"]):
                bundle = runner_bundle(Path(get_nemorun_home(), "runners"))
                runner = bundle.name
                sources[f"{base}/.packages/{runner}"] = str(bundle)
            names[plan.job_id] = (code, runner)
        with self._cluster.lock:
            self._send_missing(
                {target: source for target, source in sources.items() if target not in self._cluster.sent}
            )
        return names

    def _send_missing(self, sources: Mapping[str, str]) -> None:
        if not sources:
            return
        there = _by_number(self._run(posix(commands.CHECK_PACKAGES, *sources)))
        for number, (target, source) in enumerate(sources.items()):
            if there.get(number) != "1":
                self._run(posix(commands.PUT_PACKAGE, posixpath.dirname(target), target), Path(source).read_bytes())
            self._cluster.sent.add(target)

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Hand attempts to Slurm, in one command."""
        names = self._send_packages([item.plan for item in submissions])
        files: dict[str, dict[str, bytes]] = {}
        folders: dict[str, dict[str, None]] = {}
        lines: dict[str, list[str]] = {}
        parts = sending.elements(submissions, self._largest_array(submissions))
        for position, item in enumerate(submissions):
            base = item.plan.spec["base"]
            files.setdefault(base, {}).update(sending.attempt_files(item.plan, item.attempt, *names[item.plan.job_id]))
            folders.setdefault(base, {}).update(dict.fromkeys(item.plan.spec.get("log_folders", ())))
            lines.setdefault(base, []).append(sending.line(item, parts.get(position)))
        for path, content in sending.array_files(submissions, parts).items():
            next(of for of in files.values() if f"{posixpath.dirname(path)}/job.sh" in of)[path] = content
        answers: dict[str, dict[int, str]] = {}
        for base, entries in files.items():
            self._run(
                posix(commands.UNPACK, base, *sending.shared_folders(base, entries), "--", *folders[base]),
                sending.packed(base, entries),
            )
            submit = posix(commands.SUBMIT, program="/bin/bash")
            answers[base] = _by_number(self._run(submit, "".join(lines[base]).encode()))
        with self._cluster.lock:
            self._cluster.asked = float("-inf")
        numbers = {base: itertools.count() for base in answers}
        found = [
            self._answer(item.plan, item.attempt, answers[base].get(next(numbers[base]), ""))
            for item in submissions
            for base in [item.plan.spec["base"]]
        ]
        self._note_size(parts, found)
        return found

    def _largest_array(self, submissions: Sequence[Submission]) -> int:
        """Return how many elements an array may have on the cluster; 1 where none is to be submitted."""
        if sum(1 for item in submissions if item.plan.spec.get("batch", {}).get("array")) < 2:
            return 1
        with self._cluster.lock:
            if not self._cluster.largest_array:
                try:
                    self._cluster.largest_array = sending.largest_array(self._slurm("scontrol", "show", "config"))
                except CommandError:
                    self._cluster.largest_array = sending.USUAL_SIZE
                self._cluster.array_size = self._cluster.largest_array
            return self._cluster.array_size

    def _note_size(self, parts: Mapping[int, sending.Element], answers: Sequence[str | ExecutorError]) -> None:
        """Note whether arrays were too large for what the user may submit, so that the next ones are smaller."""
        for position, element in parts.items():
            if element.index == 0:
                is_full = isinstance(answers[position], EngineFullError)
                wanted = element.size // 4 if is_full else self._cluster.array_size * 2
                self._cluster.array_size = max(1, min(wanted, self._cluster.largest_array))

    def _answer(self, plan: Plan, attempt: int, answer: str) -> str | ExecutorError:
        kind, _, rest = answer.partition(" ")
        if kind == "S":
            return str(_handle(plan, attempt, rest))
        if kind == "W":
            return EngineFullError(queue.why_full(rest))
        if kind != "E" or _TRANSIENT.search(rest):  # Slurm may have taken the job all the same
            return EngineUnreachableError(f"{self._tunnel.key}: {rest or 'sbatch gave no answer'}")
        return ExecutorError(f"job {plan.job_id!r}: {self._tunnel.key}: {rest}")

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if Slurm has it, or has had it; if not, it never will."""
        folder = _attempt(plan, attempt)
        if plan.spec["member"]:
            folder = f"{plan.spec['leader']}/attempts/{attempt}"
        answer = self._run(posix(commands.RECOVER, folder)).strip()
        if answer == "?":
            answer = self._find(folder) or self._run(posix(commands.GIVE_UP, folder)).strip()
        return None if answer == "void" else str(_handle(plan, attempt, answer))

    def abandon(self, plan: Plan, attempt: int) -> bool:
        """Let no job that turns up later have the attempt, where none has it."""
        return (
            plan.spec["members"] == 1 and self._run(posix(commands.GIVE_UP, _attempt(plan, attempt))).strip() == "void"
        )

    def _find(self, folder: str) -> str:
        """Id of the job whose script is in an attempt's folder, as Slurm itself knows it."""
        asked, found = self._cluster.found
        if time.monotonic() - asked > _FRESH:  # what is missed now comes too late, and finds that out by itself
            out = self._slurm("squeue", "--me", "-h", "-t", "all", "--Format=ArrayJobID:|,Command:|")
            lines = (line.partition("|") for line in out.splitlines())
            found = {command.removesuffix("|"): job for job, _, command in lines}
            self._cluster.found = time.monotonic(), found
        index, _, leader = self._run(posix(commands.ELEMENT, folder)).strip("\n").partition(" ")
        job = found.get(f"{leader}/array.sh" if index else f"{folder}/job.sh", "")
        return f"{job}_{index}" if job and index else job

    def _run(self, command: str, stdin: bytes = b"") -> str:
        try:
            return self._tunnel.execute(command, stdin).decode("utf-8", "surrogateescape")
        except CommandError as e:
            if _TRANSIENT.search(str(e)):
                raise EngineUnreachableError(str(e)) from e
            raise

    def _slurm(self, *argv: str) -> str:
        """Run a command of Slurm, without what the user's shell has set for it."""
        return self._run(posix(commands.CALL, *argv))

    def with_variables(self, plan: Plan, variables: Mapping[str, str]) -> Plan:
        """Return the plan with further variables for its task, which is the only one of its job."""
        return replace(plan, spec=spec.with_variables(plan.spec, variables))

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """Return the way to the cluster, and the job's folder there."""
        return self._tunnel, plan.spec["folder"]

    def run_beside(self, plan: Plan, handle: str, argv: Sequence[str], rank: int = 0) -> int:
        """Run a program in a step of its own in the job of a task."""
        from nemo_run.core.execution.slurm.interactive import run_beside

        where = Handle.parse(handle)
        if not self._live({handle: where}):
            raise ExecutorError(f"job {plan.job_id!r}: Slurm has no job {where.job} of it any more")
        return run_beside(self._tunnel, plan, where, argv, rank)

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Status of all these attempts: squeue, and for what it does not know sacct and what the jobs left."""
        parsed = {text: Handle.parse(text) for text in handles}
        with self._cluster.lock:
            open_handles = {text: handle for text, handle in parsed.items() if text not in self._cluster.ended}
            if open_handles:
                self._look(open_handles)
            own = {text: self._cluster.own(handle) for text, handle in open_handles.items()}
            missing = {text: handle for text, handle in open_handles.items() if not own[text]}
            statuses = {text: queue.job_status(records) for text, records in own.items() if records}
            statuses.update(self._statuses_elsewhere(missing))
            self._add_ends(statuses, parsed, missing)
            self._cluster.ended.update({text: s for text, s in statuses.items() if s.state.is_final})
            return {text: statuses.get(text) or self._cluster.ended[text] for text in parsed}

    def _learn(self, handles: Iterable[Handle]) -> None:
        """See to it that it is known what attempts were submitted with."""
        if new := self._cluster.origins.unknown(handles):
            folders = "".join(f"{handle.folder}\n" for handle in new)
            self._cluster.origins.learn(new, _by_number(self._run(posix(commands.SCRIPTS), folders.encode())))

    def _look(self, handles: Mapping[str, Handle]) -> None:
        """Ask squeue, unless the last answer is good enough."""
        self._learn(handles.values())
        cluster, now = self._cluster, time.monotonic()
        good_for = min(_LONGEST, max(_FRESH, 0.1 * (now - cluster.changed))) if self._has_asked else _FRESH
        if now - cluster.asked < good_for:
            return
        records = queue.by_job(queue.parse_squeue(self._slurm(*queue.SQUEUE)))
        if any(records.get(handle.job) != cluster.records.get(handle.job) for handle in handles.values()):
            cluster.changed = now
        cluster.records, cluster.asked, self._has_asked = records, now, True

    def _statuses_elsewhere(self, handles: Mapping[str, Handle]) -> dict[str, TaskStatus]:
        """Status of jobs that squeue does not know any more."""
        if not handles:
            return {}
        ids = ",".join(dict.fromkeys(handle.job.partition("_")[0] for handle in handles.values()))
        found: dict[str, list[queue.Record]] = {}
        problem = ""
        try:
            told = self._tunnel.execute(posix(commands.CALL, *queue.SACCT, "-j", ids))
            found = queue.by_job(queue.parse_sacct(told.decode("utf-8", "surrogateescape")))
        except CommandError as e:
            if not _NO_ACCOUNTS.search(str(e)):
                problem = f"sacct does not answer: {str(e).splitlines()[-1]}"
        own = {text: self._cluster.origins.own(found, handle) for text, handle in handles.items()}
        statuses = {text: queue.job_status(records) for text, records in own.items()}
        # What squeue does not show may still run; how a job ended is told by what it left, or by sacct a little later.
        return {
            text: self._unknown(handles[text], problem, status) if status.state in _NOT_KNOWN else status
            for text, status in statuses.items()
        }

    def _unknown(self, handle: Handle, problem: str, status: TaskStatus) -> TaskStatus:
        """Return the status of a job that squeue does not know, and that for sacct is not known or waits."""
        if problem:
            return TaskStatus(JobState.UNKNOWN, reason=problem)
        since = self._cluster.gone.setdefault(str(handle), time.monotonic())
        is_taken = handle.job in self._cluster.records
        reason = f"Slurm {'gave another job the id' if is_taken else 'knows no job'} {handle.job}"
        if time.monotonic() - since < _GONE_AFTER:
            return status if status.state is JobState.PENDING else TaskStatus(JobState.UNKNOWN, reason=reason)
        return TaskStatus(JobState.FAILED, reason=f"{reason}, {_UNRECORDED}", ended=time.time())

    def _add_ends(
        self, statuses: dict[str, TaskStatus], handles: Mapping[str, Handle], missing: Mapping[str, Handle]
    ) -> None:
        """Take from what jobs left what Slurm does not know: how a member ended, how a forgotten job did."""
        wanted = {
            text: handles[text]
            for text, status in statuses.items()
            if text in missing
            or (status.state.is_final and handles[text].member is not None)
            or (status.state is JobState.FAILED and status.reason in queue.NOT_BEGUN)
        }
        if not wanted:
            return
        folders = "".join(f"{handle.folder}\n" for handle in wanted.values())
        lines = _by_number(self._run(posix(commands.ENDS), folders.encode()))
        for number, text in enumerate(wanted):
            statuses[text] = self._ended_as(wanted[text], statuses[text], lines.get(number, "-"))

    def _ended_as(self, handle: Handle, status: TaskStatus, line: str) -> TaskStatus:
        """Return the status of an attempt with what it left: a line of the answer to :data:`commands.ENDS`."""
        if end := queue.parse_end(line):
            return queue.with_end(status, end)
        if line == "unseen" and self._is_dropped(handle):
            return TaskStatus(JobState.CANCELLED, reason=_DROPPED, ended=time.time())
        if line == "unseen" and status.reason.endswith(_UNRECORDED):
            return replace(status, reason=f"Slurm has lost job {handle.job} before it began", unrun=True)
        return queue.without_end(status, line, handle.folder) if status.state is JobState.FAILED else status

    def _is_dropped(self, handle: Handle) -> bool:
        """Whether an element is missing where its array is known: Slurm forgets those that are cancelled early."""
        array, is_element, _ = handle.job.partition("_")
        is_known = is_element and self._cluster.own(replace(handle, job=array))
        return bool(is_known) and handle.job not in self._cluster.records

    def used(self, handles: Sequence[str]) -> dict[str, Used]:
        """Return what ``sacct`` accounts for attempts, where there is accounting."""
        jobs = {text: Handle.parse(text) for text in handles}
        ids = ",".join(dict.fromkeys(handle.job.partition("_")[0] for handle in jobs.values()))
        found = queue.parse_usage(self._slurm(*queue.USAGE, "-j", ids)) if ids else {}
        with self._cluster.lock:
            self._learn(jobs.values())
            own = {text: self._cluster.origins.used(found, handle) for text, handle in jobs.items()}
        return {text: used for text, used in own.items() if used}

    def cancel(self, handles: Iterable[str]) -> None:
        """Cancel the jobs that have not ended."""
        open_handles = {text: Handle.parse(text) for text in handles if text not in self._cluster.ended}
        if not open_handles:
            return
        try:
            if ids := self._live(open_handles):
                self._slurm("scancel", *sending.compact(ids))
        except CommandError as e:
            said = str(e).splitlines()[1:]
            if any(line.strip() and not _NOT_LIVE.search(line) for line in said):
                raise EngineUnreachableError(str(e)) from e  # it is told again; nothing else waits for it
        with self._cluster.lock:
            self._cluster.asked = float("-inf")
            self._cluster.changed = time.monotonic()

    def _live(self, handles: Mapping[str, Handle]) -> list[str]:
        """Return the ids of those attempts that squeue says to be theirs now: no other job may be touched."""
        with self._cluster.lock:
            self._cluster.asked = float("-inf")
            self._look(handles)
            return list(dict.fromkeys(handle.job for handle in handles.values() if self._cluster.own(handle)))

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait; Slurm has to be asked for news, which :meth:`states` does not do too often."""
        time.sleep(max(timeout, 0))
        return []

    # logs and artifacts

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own."""
        return self._feed.ranks(Handle.parse(handle).folder)

    def rank_that_failed(self, handle: str) -> int | None:
        """Return the first task of an array that failed, or left no end; ``None`` where it is no array."""
        folder = Handle.parse(handle).folder
        line = _by_number(self._run(posix(commands.ENDS), f"{folder}\n".encode())).get(0, "-")
        task = queue.failed_task(line)
        return task if task in self.ranks(handle) else None

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> SlurmLog:
        """Return the log of an attempt, or of one rank of it; for an array, of one task of it."""
        return self._feed.open(Handle.parse(handle).folder, rank, tail)

    @property
    def _feed(self) -> Feed:
        with self._cluster.lock:
            if self._cluster.feed is None:
                self._cluster.feed = Feed(self._tunnel)
            return self._cluster.feed

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Fetch what the task left in its folder of artifacts, and what matches below its working directory."""
        spec = plan.spec
        source = f"{spec['folder']}/artifacts"
        with leftovers.gathered() as left:
            left.update(leftovers.left_out(folder) if source == str(folder) else self._fetch_left(source, folder))
            if patterns:
                self._fetcher.fetch_matching(spec["cwd"], patterns, folder)

    def _fetch_left(self, source: str, folder: Path) -> dict[str, str]:
        others = (Handle.parse(text).artifacts for text in list(self._cluster.ended))
        return self._fetcher.fetch(source, folder, others)

    def close(self) -> None:
        """Do nothing: the connection is shared, and closes when it has not been used for a while."""


# --- what goes over the tunnel ----------------------------------------------------------------------------------------


def _attempt(plan: Plan, attempt: int) -> str:
    return f"{plan.spec['folder']}/attempts/{attempt}"


def _handle(plan: Plan, attempt: int, job: str) -> Handle:
    return Handle(job, _attempt(plan, attempt), plan.spec["member"] if plan.spec["members"] > 1 else None)


def _by_number(text: str) -> dict[int, str]:
    """Return the answers to :data:`commands.SUBMIT`, by the numbers of the attempts."""
    answers = (line.partition(" ") for line in text.splitlines())
    return {int(number): answer for number, _, answer in answers if number.isdigit()}
