"""What ``squeue`` and ``sacct`` say of jobs. Pure: from their output to the status of jobs."""

from __future__ import annotations

import posixpath
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nemo_run.core.execution.jobs import NODE_FAILURE, PREEMPTION, TIME_LIMIT, JobState, TaskStatus, Used
from nemo_run.core.execution.slurm.handle import Handle

_FIELDS = ("JobArrayID", "State", "exit_code", "StartTime", "EndTime", "NodeList", "Reason")
_SQUEUE_FORMAT = ",".join(f"{name}:|" for name in (*_FIELDS, "Command"))
SQUEUE = ("squeue", "--me", "-h", "-r", "-t", "all", f"--Format={_SQUEUE_FORMAT}")
"""Asks for all of one's own jobs, with every task of an array on a line of its own."""
SACCT = ("sacct", "-n", "-P", "-X", "-o", "JobID,State,ExitCode,Start,End,NodeList,Reason,WorkDir")
"""Asks for jobs whose ids follow after ``-j``."""

USAGE = ("sacct", "-n", "-P", "-X", "-D", "-o", "JobID,ElapsedRaw,AllocTRES,WorkDir")
"""Asks for what every start of jobs used, whose ids follow after ``-j``."""

_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "SUSPENDED", "STOPPED"}
_FAILURES = {
    "TIMEOUT": "its time limit was reached",
    "OUT_OF_MEMORY": "it used more memory than it had asked for",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node could not be booted",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "it was preempted",
    "FAILED": "",
    "LAUNCH_FAILED": "it could not be launched",
    "RECONFIG_FAIL": "its nodes could not be reconfigured",
}
_CAUSES = {"TIMEOUT": TIME_LIMIT, "PREEMPTED": PREEMPTION, "NODE_FAIL": NODE_FAILURE, "BOOT_FAIL": NODE_FAILURE}
_REASONS = {
    "Priority": "waits behind jobs of higher priority",
    "Resources": "waits for nodes to become free",
    "Dependency": "waits for the jobs that it depends on",
    "BeginTime": "waits for the time of its start",
    "JobHeldUser": "held by its user",
    "JobHeldAdmin": "held by an administrator",
    "ReqNodeNotAvail": "waits for a node that is not available",
    "launch failed requeued held": "held, as a node could not start it; let it go on with: scontrol release JOB",
    "QOSMaxJobsPerUserLimit": "waits: you run as many jobs as you may",
    "AssocGrpGRES": "waits: your account uses as many devices as it may",
    "JobLaunchFailure": "it could not be started on its node, or the node failed",
}
NOT_BEGUN = ("", _REASONS["JobLaunchFailure"])
"""What is said of jobs of which Slurm knows no more than that they failed."""
_NEVER = "DependencyNeverSatisfied"
_BY = "by user "
_NO_REASON = {"", "None", "NonZeroExitCode"}
WHY = {"memory": _FAILURES["OUT_OF_MEMORY"], "group": "ended with its group", "node": "a node of it does not answer"}
"""By the word that a batch script notes: why a step ended."""


@dataclass(frozen=True)
class Record:
    """One line of an answer: a job, a task of an array, or a component of a heterogeneous job.

    Attributes:
        name: Its id, as ``123``, ``123_4`` or ``123+1``.
        state: Slurm's word for its state.
        exit_code: Its exit code; ``128 + n`` where signal n ended it.
        start: When it began, or is expected to; ``None`` where nobody knows.
        end: When it ended, or will have to.
        nodes: Where it runs.
        reason: Slurm's word for why it is in its state.
        script: Its batch script, as squeue says it.
        folder: Its working directory, as sacct says it.
    """

    name: str
    state: str
    exit_code: int | None
    start: float | None
    end: float | None
    nodes: str
    reason: str
    script: str = ""
    folder: str = ""

    @property
    def job(self) -> str:
        """Id of the job that it is, or is part of."""
        return self.name.partition("_")[0].partition("+")[0]


def parse_squeue(text: str) -> list[Record]:
    """Return the records in the answer to :data:`SQUEUE`, with times in seconds.

    >>> parse_squeue("7_1|FAILED|768|100|160|node1|NonZeroExitCode|")[0].exit_code
    3
    """
    records = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) >= len(_FIELDS):
            name, state, status, start, end, nodes, reason = parts[:7]
            script = "|".join(parts[7:]).removesuffix("|")
            code = _from_wait_status(status)
            records.append(Record(name, state, code, _time(start), _time(end), _nodes(nodes), reason, script))
    return records


def parse_sacct(text: str) -> list[Record]:
    """Return the records in the answer to :data:`SACCT`, with times in seconds.

    >>> parse_sacct("7|CANCELLED by 1000|0:15|100|160|node1|None")[0].state
    'CANCELLED'
    """
    records = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) >= len(_FIELDS):
            name, state, code, start, end, nodes, reason = parts[:7]
            word, _, user = state.partition(" by ")
            reason = f"{_BY}{user}" if user else reason
            where, folder = _nodes(nodes), "|".join(parts[7:])
            records.append(Record(name, word, _from_pair(code), _time(start), _time(end), where, reason, folder=folder))
    return records


def parse_usage(text: str) -> dict[str, dict[str, Used]]:
    r"""Return what jobs and tasks of arrays used, by their ids and then folders, from the answer to :data:`USAGE`.

    >>> parse_usage("7|60|cpu=1,gres/gpu:h100=4,gres/gpu=4|/a\n7|30|cpu=1,gres/gpu=4|/a\n7|5|cpu=1|/b")
    {'7': {'/a': Used(seconds=90, gpus=4), '/b': Used(seconds=5, gpus=None)}}
    """
    found: dict[str, dict[str, Used]] = {}
    for line in text.splitlines():
        job, elapsed, resources, folder = [*line.split("|", 3), "", "", ""][:4]
        if elapsed.isdigit():
            gpus = re.search(r"gres/gpu=(\d+)", resources)
            before = found.setdefault(job, {}).get(folder, Used(0))
            found[job][folder] = Used(before.seconds + int(elapsed), int(gpus[1]) if gpus else before.gpus)
    return found


@dataclass(frozen=True)
class End:
    """How an attempt ended, as it noted itself.

    Attributes:
        code: Its exit code.
        when: When that was.
        reason: Why, where more than the code is known.
        with_group: Its group was ended, and so it was.
    """

    code: int
    when: float | None = None
    reason: str = ""
    with_group: bool = False


def parse_end(line: str) -> End | None:
    """Return the end in a line of the answer to ``commands.ENDS``; ``None`` where it is not known for all of an array.

    >>> parse_end("- 0,3,100.5,"), parse_end("1-3%2 1,0,100, 2,4,101,"), parse_end("-")
    (End(code=3, when=100.5, reason='', with_group=False), None, None)
    >>> parse_end("1-2 1,0,100, 2,4,101,")
    End(code=4, when=101.0, reason='1 of the 2 tasks of the array failed: 2', with_group=False)
    """
    array, *texts = line.split(" ")
    ends = {number: end for number, end in map(_end_of_one, texts) if end}
    if array == "-" or "member" in ends:
        return ends.get("member") or ends.get("0")
    tasks = _tasks_of_array(array)
    if not tasks or not tasks <= ends.keys():
        return None
    failed = sorted((name for name in tasks if ends[name].code), key=int)
    when = max(_known(ends[name].when for name in tasks), default=None)
    if not failed:
        return End(0, when)
    first = ends[failed[0]]
    status = TaskStatus(JobState.FAILED, reason=first.reason)
    return End(first.code, when, _together([f"_{name}" for name in failed], status, len(tasks)))


def without_end(status: TaskStatus, line: str, folder: str) -> TaskStatus:
    """Return the status of a failed attempt that noted no end, with what its files tell all the same.

    Args:
        status: What Slurm says.
        line: The answer to ``commands.ENDS``.
        folder: Folder of the attempt.
    """
    reason = status.reason
    if line == "gone":
        reason = "; ".join(filter(None, [reason, f"its files are gone from the cluster: {folder}"]))
    elif line == "unseen" and reason in NOT_BEGUN:
        reason = (
            f"{reason or 'its script did not begin'}; nodes that do not see {folder} run nothing: job_dir is to be a "
            "folder that all share"
        )
    return replace(status, reason=reason)


def failed_task(line: str) -> int | None:
    """Return the first task of an array that failed, or else left no end, in a line of the answer to ``commands.ENDS``.

    >>> failed_task("1-3 1,0,100, 2,4,101, 3,5,102,"), failed_task("1-2 1,0,100,"), failed_task("- 0,3,100,")
    (2, 2, None)
    """
    array, *texts = line.split(" ")
    ends = dict(map(_end_of_one, texts))
    tasks = sorted(map(int, _tasks_of_array(array)))
    failed = [task for task in tasks if (end := ends.get(str(task))) and end.code]
    return next(iter([*failed, *(task for task in tasks if not ends.get(str(task)))]), None)


def _end_of_one(text: str) -> tuple[str, End | None]:
    number, code, when, why = [*text.split(","), "", "", ""][:4]
    if not code.isdigit():
        return number, None
    return number, End(int(code), float(when or 0) or None, WHY.get(why, ""), why == "group")


def _tasks_of_array(text: str) -> set[str]:
    """Return the tasks that the option ``--array`` names; empty where it cannot be read.

    >>> sorted(_tasks_of_array("0,4-8:2%3")), _tasks_of_array("x")
    (['0', '4', '6', '8'], set())
    """
    tasks: set[str] = set()
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?", part)
        if not match:
            return set()
        tasks.update(map(str, range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))))
    return tasks


def job_status(records: Sequence[Record]) -> TaskStatus:
    """Status of one job from all its records: those of a heterogeneous job or of an array are taken together."""
    if not records:
        return TaskStatus(JobState.UNKNOWN)
    if len(records) == 1:
        return _status(records[0])
    each = {record.name: _status(record) for record in records}
    state = _state_of_all([status.state for status in each.values()])
    deciding = [name for name, status in each.items() if status.state is state]
    first = each[deciding[0]] if deciding else next(iter(each.values()))
    return TaskStatus(
        state,
        first.exit_code,
        _together(deciding, first, len(records)),
        _earliest(status.started for status in each.values()),
        max(_known(status.ended for status in each.values()), default=None) if state.is_final else None,
        ",".join(dict.fromkeys(record.nodes for record in records if record.nodes)),
        cause=first.cause if state is JobState.FAILED else "",
        expected=_earliest(status.expected for status in each.values()),
    )


_DECIDING = (JobState.RUNNING, JobState.PENDING, JobState.FAILED, JobState.CANCELLED, JobState.UNKNOWN)


def _state_of_all(states: Sequence[JobState]) -> JobState:
    state = next((state for state in _DECIDING if state in states), JobState.SUCCEEDED)
    has_begun = any(other.is_final for other in states)
    return JobState.RUNNING if state is JobState.PENDING and has_begun else state


def _earliest(times: Iterable[float | None]) -> float | None:
    return min(_known(times), default=None)


def _known(times: Iterable[float | None]) -> list[float]:
    return [time for time in times if time]


def _together(names: Sequence[str], first: TaskStatus, count: int) -> str:
    if "_" not in (names or [""])[0] or not first.state.is_final or first.state is JobState.SUCCEEDED:
        return first.reason
    numbers = [name.partition("_")[2] for name in names]
    shown = ", ".join(numbers[:10]) + (", …" if len(numbers) > 10 else "")
    why = f": {first.reason}" if first.reason else ""
    return f"{len(names)} of the {count} tasks of the array {first.state.name.lower()}: {shown}{why}"


def _status(record: Record) -> TaskStatus:
    if record.state in _RUNNING:
        reason = "" if record.state in ("RUNNING", "COMPLETING") else record.state.lower()
        return TaskStatus(JobState.RUNNING, None, reason, record.start, None, record.nodes)
    if record.state == "COMPLETED":
        return TaskStatus(JobState.SUCCEEDED, 0, "", record.start, record.end, record.nodes)
    if record.state == "CANCELLED":
        reason = (
            "not run: a job that it depends on did not end as it should" if record.reason == _NEVER else "cancelled"
        )
        reason = f"cancelled {record.reason}" if record.reason.startswith(_BY) else reason
        return TaskStatus(JobState.CANCELLED, None, reason, record.start, record.end, record.nodes)
    if record.state in _FAILURES:
        reason = _FAILURES[record.state] or ("" if record.reason in _NO_REASON else _words(record.reason))
        code = record.exit_code if record.state == "FAILED" else record.exit_code or None
        cause = _CAUSES.get(record.state, "")
        return TaskStatus(JobState.FAILED, code, reason, record.start, record.end, record.nodes, cause=cause)
    return TaskStatus(JobState.PENDING, None, _why_pending(record), expected=_expected(record))


def why_full(said: str) -> str:
    """Return why a job waits that sbatch did not take for now.

    >>> why_full("sbatch: error: AssocMaxSubmitJobLimit sbatch: error: Batch job submission failed")
    'waits to be submitted: you may have so many jobs only (AssocMaxSubmitJobLimit)'
    """
    limit = re.search(r"(?:Assoc|QOS)(Grp)?\w*Submit\w*", said)
    if limit is None:
        return f"waits to be submitted: {said.strip()}"
    who = "your account" if limit[1] else "you"
    return f"waits to be submitted: {who} may have so many jobs only ({limit[0]})"


def _words(reason: str) -> str:
    plain = reason.partition(",")[0].strip("()")
    return _REASONS.get(plain) or _REASONS.get(plain.replace("_", " "), reason)


def _expected(record: Record) -> float | None:
    return record.start if record.start and record.start > time.time() else None


def _why_pending(record: Record) -> str:
    reason = "" if record.reason in _NO_REASON else _words(record.reason)
    if expected := _expected(record):
        reason += (
            f"{'; ' if reason else ''}expected to start {time.strftime('%Y-%m-%d %H:%M', time.localtime(expected))}"
        )
    return reason


def _from_wait_status(text: str) -> int | None:
    if not text.isdigit():
        return None
    status = int(text)
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def _from_pair(text: str) -> int | None:
    code, _, number = text.partition(":")
    if not code.isdigit():
        return None
    return 128 + int(number) if number.isdigit() and int(number) else int(code)


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() and int(text) else None


def _nodes(text: str) -> str:
    return "" if text in ("None assigned", "None", "(null)") else text


def by_job(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the records of every job, and of every task of an array by its own id, such as ``7_1``."""
    jobs: dict[str, list[Record]] = {}
    for record in records:
        jobs.setdefault(record.job, []).append(record)
        if "_" in record.name:
            jobs.setdefault(record.name, []).append(record)
    return jobs


def with_end(status: TaskStatus, end: End) -> TaskStatus:
    """Return the status of a job as a whole, with how this attempt itself ended."""
    if status.state is JobState.CANCELLED and end.code != 0:
        return status
    if end.code == 0:
        state, reason = JobState.SUCCEEDED, ""
    elif end.with_group:
        state, reason = JobState.CANCELLED, end.reason
    else:
        known = status.reason if status.state is JobState.FAILED else ""
        state, reason = JobState.FAILED, known or end.reason
    cause = NODE_FAILURE if reason == WHY["node"] else status.cause
    return replace(status, state=state, exit_code=end.code, reason=reason, ended=end.when or status.ended, cause=cause)


@dataclass(frozen=True)
class JobOrigin:
    """What Slurm was given for an attempt. A job with its id is its job only if Slurm says the same of that.

    A controller that died, or lost its memory, may give an id to another job.

    Attributes:
        handle: The attempt.
        script: Its batch script, which it may share with others.
        folder: The working directory of that.
    """

    handle: Handle
    script: str
    folder: str

    @classmethod
    def of(cls, handle: Handle, script: str, chdir: str) -> JobOrigin:
        """Return that of an attempt from the answer to ``commands.SCRIPTS``, which is empty where its files are gone.

        >>> JobOrigin.of(Handle("7", "/e/a/attempts/1"), "", "").script
        '/e/a/attempts/1/job.sh'
        """
        try:
            words = shlex.split(chdir)
        except ValueError:
            words = []
        own_folder = posixpath.dirname(posixpath.dirname(handle.folder))
        return cls(handle, script or f"{handle.folder}/job.sh", words[0] if words else own_folder)

    def is_of(self, script: str, folder: str) -> bool:
        """Whether a job with this script is that of the attempt; or with this folder, where the script is not known.

        >>> origin = JobOrigin.of(Handle("7", "/e/a/attempts/1"), "", "")
        >>> [origin.is_of(script, "") for script in ("/e/a/attempts/1/job.sh", "/e/a/attempts/2/job.sh", "", "(null)")]
        [True, False, False, False]
        """
        own_folder = self.folder.replace('"', "`")  # so the accounts have it
        if script in (self.script, "") and (script or folder in (self.folder, own_folder)):
            return True
        shares = self.handle.member or "_" in self.handle.job
        if not shares or self.script != f"{self.handle.folder}/job.sh":
            return False
        found = posixpath.dirname(posixpath.dirname(script)) if script else folder  # its leader is not known any more
        return f"{found}/".startswith(f"{self.handle.experiment}/")


class Origins:
    """What the attempts were submitted with that have been asked for."""

    def __init__(self) -> None:
        self._known: dict[str, JobOrigin] = {}

    def unknown(self, handles: Iterable[Handle]) -> list[Handle]:
        """Return an attempt for each folder that ``commands.SCRIPTS`` has not been asked of yet."""
        return list({handle.folder: handle for handle in handles if handle.folder not in self._known}.values())

    def learn(self, handles: Iterable[Handle], answers: Mapping[int, str]) -> None:
        """Note what ``commands.SCRIPTS`` says of attempts, by the numbers of its lines."""
        for number, handle in enumerate(handles):
            script, chdir = (answers.get(2 * number + line, "") for line in (0, 1))
            self._known[handle.folder] = JobOrigin.of(handle, script, chdir)

    def own(self, records: Mapping[str, Sequence[Record]], handle: Handle) -> Sequence[Record]:
        """Return the records of an attempt's job; none where its id is that of another job now."""
        found, origin = records.get(handle.job, ()), self._known[handle.folder]
        return found if any(origin.is_of(record.script, record.folder) for record in found) else ()

    def used(self, found: Mapping[str, Mapping[str, Used]], handle: Handle) -> Used | None:
        """Return what an attempt used, from :func:`parse_usage`; the first member's is that of its whole group."""
        origin = self._known[handle.folder]
        own = [used for folder, used in found.get(handle.job, {}).items() if origin.is_of("", folder)]
        return (Used(0, 0) if handle.member else own[0]) if own else None
