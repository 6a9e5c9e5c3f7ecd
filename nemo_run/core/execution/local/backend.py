"""The backend of the local engine: attempts as processes, each watched by a supervisor of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.core.execution.base import Backend, Capabilities, Submission, TaskRequest
from nemo_run.core.execution.jobs import Command, JobState, Plan, TaskStatus
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Layout
from nemo_run.core.execution.local import LocalExecutor, available_cpus, available_gpus, supervisor, system
from nemo_run.core.execution.local.shell import RunsBeside
from nemo_run.core.execution.shared import environments, leftovers
from nemo_run.core.execution.shared.attempt_files import attempt_folder, final_status, open_log, rank_logs
from nemo_run.core.execution.shared.inherited import read_environment
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.execution.shared.relocation import moved, moved_paths
from nemo_run.core.execution.shared.units import parse_duration, parse_size
from nemo_run.core.files import is_locked
from nemo_run.core.masking import masked, masked_arguments
from nemo_run.core.packaging.archive import extract
from nemo_run.errors import ExecutorError, StoreError

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import Tunnel


_SCHEME = "local://"
_GONE = 5.0  # seconds after which an attempt without folder and processes counts as lost
_AT_ONCE = 16  # attempts that are started at once
_START = """\
import sys
sys.path.append(sys.argv[1].rpartition("/")[0])
import supervisor
sys.path.pop()
supervisor.main()
"""  # imported, not run, because then it is compiled once only


class LocalBackend(RunsBeside, Backend):
    """Runs attempts through supervisors. All it knows of them is in their folders."""

    name: ClassVar[str] = "local"
    can: ClassVar[Capabilities] = Capabilities(
        shares_files=True, limits_time=True, makes_environments=True, keeps_folders=True
    )
    at_once: ClassVar[int] = 1 << 20
    poll_interval: ClassVar[float] = 0.2

    def __init__(self) -> None:
        self._forker: subprocess.Popen[str] | None = None
        self._pidfds: dict[str, int] = {}
        self._inherited: dict[str, dict[str, str]] = {}  # environments, by their files
        self._gone: dict[str, float] = {}  # since when the folder of an attempt is not there

    # describing

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def _render(self, request: TaskRequest) -> Plan:
        """Describe a job: one process, its environment and limits."""
        executor = request.executor
        if not isinstance(executor, LocalExecutor):
            raise ExecutorError(f"job {request.job_id!r}: the local engine needs a LocalExecutor, not {executor!r}")
        layout = Layout(
            nodes=1,  # this machine stands for all of them
            processes_per_node=executor.nodes * executor.ntasks_per_node,
            log_dir=ATTEMPT_FOLDER,
            profile_dir=request.directory,
            restarts=executor.restarts is not None,
        )
        command = _command(request, layout)
        base = str(Path(request.directory, "code")) if request.code_archive else request.cwd
        env = dict(command.env)
        if request.code_archive:
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [base, env.get("PYTHONPATH", "")]))
        spec = {
            "argv": list(command.argv),
            "env": env,
            "code_archive": request.code_archive,
            "environment_file": request.environment_file,
            "cwd": str(Path(base, Path(executor.working_dir).expanduser(), command.cwd)),
            "timeout": parse_duration("LocalExecutor.timeout", executor.timeout),
            "notice": executor.restarts.seconds_of_notice if executor.restarts else 0.0,
            "memory": parse_size(executor.memory),
            "grace": executor.grace,
            "leases": _leases(executor, request.lease_dir),
        }
        return Plan(self.name, request.job_id, request.directory, spec)

    def relocated(self, plan: Plan, roots: Mapping[str, str]) -> Plan:
        """Return the plan with the code of other folders."""
        cwd, env = plan.spec["cwd"], dict(plan.spec["env"])
        if "PYTHONPATH" in env:
            env["PYTHONPATH"] = moved_paths(env["PYTHONPATH"], roots, cwd)
        argv = [moved(argument, roots, cwd) for argument in plan.spec["argv"]]
        return replace(plan, spec={**plan.spec, "argv": argv, "env": env})

    def describe(self, plan: Plan) -> str:
        """Return the command as a shell would take it; values of secrets masked."""
        spec = plan.spec
        env = [f"{name}={shlex.quote(value)}" for name, value in masked(spec["env"]).items()]
        lines = [f"cd {shlex.quote(spec['cwd'])}"] if spec["cwd"] else []
        argv = _argv(plan, attempt_folder(plan, 1))
        return "\n".join([*lines, " ".join([*env, *map(shlex.quote, masked_arguments(argv))])])

    # submitting

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the attempt's folder, as a handle."""
        return f"{_SCHEME}{attempt_folder(plan, attempt)}"

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, each under a supervisor of its own."""
        answers: list[str | ExecutorError] = []
        for begin in range(0, len(submissions), _AT_ONCE):
            answers += self._submit_some(submissions[begin : begin + _AT_ONCE])
        return answers

    def _submit_some(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        answers: dict[str, str | ExecutorError] = {}  # by handle
        inherited: dict[str, dict[str, str]] = {}
        for plan, attempt in ((submission.plan, submission.attempt) for submission in submissions):
            handle = self.expected_handle(plan, attempt)
            try:
                inherited[handle] = self._inherited_by(plan)
                _lay_out(plan, attempt)
                answers[handle] = handle
            except (ExecutorError, StoreError) as e:
                answers[handle] = ExecutorError(str(e))
        ready = [handle for handle, answer in answers.items() if answer == handle]
        begun = self._fork([(str(_folder(handle)), inherited[handle]) for handle in ready])
        for handle, (pid, trouble) in zip(ready, begun, strict=True):
            if trouble:
                answers[handle] = ExecutorError(trouble)
                continue
            if (fd := system.watch(pid)) is not None:
                self._pidfds[handle] = fd
        return list(answers.values())

    def _inherited_by(self, plan: Plan) -> dict[str, str]:
        """Return the environment that a task inherits; that of an experiment is read once."""
        path = plan.spec.get("environment_file", "")
        if path not in self._inherited:
            self._inherited[path] = read_environment(path)
        return self._inherited[path]

    def _fork(self, attempts: Sequence[tuple[str, dict[str, str]]]) -> list[tuple[int, str]]:
        """Have supervisors forked for attempts; of each its pid, and what went wrong."""
        if not attempts:
            return []
        # Where the helper was killed, a new one is asked again: an attempt is run once, however often it is asked for.
        answer = self._ask(attempts) or self._ask(attempts)
        if not answer:
            trouble = "the process that starts local tasks was killed; resume the experiment to go on"
            return [(0, trouble)] * len(attempts)
        return [(pid, trouble) for pid, trouble in json.loads(answer)]

    def _ask(self, attempts: Sequence[tuple[str, dict[str, str]]]) -> str:
        if self._forker is not None and self._forker.poll() is not None:
            self._close_forker()
        if self._forker is None:
            # Names of folders cross these pipes, and what tasks inherit, which is in no file that others could read.
            self._forker = subprocess.Popen(
                [sys.executable, "-I", "-S", *_bytecode_options(), "-c", _START, supervisor.__file__],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
                env={supervisor.MARKER: ""}, start_new_session=True,
            )  # fmt: skip
        stdin, stdout = self._forker.stdin, self._forker.stdout
        if stdin is None or stdout is None:  # for the type checker: both were asked for
            raise ExecutorError("the process that starts local tasks has no pipes")
        try:
            stdin.write(json.dumps(attempts) + "\n")
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._close_forker()
        return answer

    def reach(self, plan: Plan) -> tuple[Tunnel, str]:
        """This machine, and the job's folder."""
        from nemo_run.core.tunnel.client import LocalTunnel

        return LocalTunnel(job_dir=""), plan.directory

    def recover(self, plan: Plan, attempt: int) -> str | None:
        """Return the attempt's handle if a supervisor has taken it; if none has, none ever will."""
        folder = attempt_folder(plan, attempt)
        if (folder / "exit.json").exists():
            return self.expected_handle(plan, attempt)
        if not folder.is_dir() or not (folder / "spec.json").exists():
            return None
        if supervisor.claim(str(folder), {"void": True}):
            return None
        try:
            void = _owner(folder)["void"]
        except ExecutorError:  # damaged; but somebody has taken it
            void = False
        return None if void else self.expected_handle(plan, attempt)

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Status of all these attempts."""
        return {handle: self._status(handle) for handle in handles}

    def _status(self, handle: str) -> TaskStatus:
        folder = _folder(handle)
        if folder.is_dir():
            self._gone.pop(handle, None)
            return _status(folder)
        if _has_supervisor(folder):
            return TaskStatus(JobState.RUNNING, reason=f"its folder was removed: {folder}")
        since = self._gone.setdefault(handle, time.monotonic())
        reason = f"there is no such attempt: {folder}"
        if time.monotonic() - since < _GONE:  # its supervisor may be about to write down how it ended
            return TaskStatus(JobState.UNKNOWN, reason=reason)
        reason = f"{reason}; how the task ended is not known"
        return TaskStatus(JobState.FAILED, reason=reason, ended=time.time(), lost=True)

    def cancel(self, handles: Iterable[str]) -> None:
        """Ask the supervisors to end their tasks; end what a lost supervisor left behind."""
        elsewhere = [host for handle in handles if (host := _cancel(_folder(handle)))]
        if elsewhere:
            raise ExecutorError(f"tasks that run on {', '.join(sorted(set(elsewhere)))} can only be cancelled there")

    def wait(self, handles: Sequence[str], timeout: float) -> list[str]:
        """Wait for supervisors to end; the attempts that may have changed."""
        poller, by_fd, blind = select.poll(), {}, []
        for handle in handles:
            fd = self._pidfd(handle)
            if fd is None:
                blind.append(handle)
            else:
                by_fd[fd] = handle
                poller.register(fd, select.POLLIN)
        pause = min(timeout, self.poll_interval) if blind else timeout
        ready = [by_fd[fd] for fd, _ in poller.poll(max(pause, 0) * 1000) if fd in by_fd]
        for handle in ready:
            os.close(self._pidfds.pop(handle))
        return ready + blind

    def _pidfd(self, handle: str) -> int | None:
        """Return a descriptor that becomes readable when the attempt's supervisor ends."""
        if handle in self._pidfds:
            return self._pidfds[handle]
        try:
            owner = _owner(_folder(handle))
            fd = system.watch(owner["pid"]) if _is_alive(owner) else None
        except ExecutorError:  # damaged
            fd = None
        if fd is None:
            return None
        self._pidfds[handle] = fd
        return fd

    # logs

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own."""
        return sorted(rank_logs(_folder(handle)))

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> FileLog:
        """Return the log of an attempt, or of one rank of it."""
        return open_log(_folder(handle), rank, tail)

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Copy what matches the patterns; what the task left in its folder of artifacts is there already."""
        leftovers.fetch_here(Path(plan.spec["cwd"]), patterns, folder)

    def close(self) -> None:
        """End the helper that starts tasks; the tasks go on."""
        self._close_forker()
        for fd in self._pidfds.values():
            os.close(fd)
        self._pidfds.clear()

    def _close_forker(self) -> None:
        if self._forker is not None:
            for pipe in (self._forker.stdin, self._forker.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # it may hold a request that a killed helper never read
                        pipe.close()
            self._forker.wait()
            self._forker = None


def _command(request: TaskRequest, layout: Layout) -> Command:
    """Return the command of a task, as its launcher starts it, in its environment where it has one. Pure."""
    launcher = request.executor.get_launcher()
    if not request.in_environment:
        return launcher.wrap(request.command, layout)
    argv = ("python3" if arg == sys.executable else arg for arg in request.command.argv)
    command = launcher.wrap(replace(request.command, argv=tuple(argv)), replace(layout, python="python3"))
    kept = str(Path(request.lease_dir).with_name("environments"))
    return environments.inside(command, request.directory, kept, sys.executable)


def _lay_out(plan: Plan, attempt: int) -> None:
    """Put what its supervisor needs into an attempt's folder."""
    folder = attempt_folder(plan, attempt)
    env = {**plan.spec["env"], "NEMO_RUN_ATTEMPT": str(attempt)}
    if plan.spec["code_archive"]:
        extract(plan.spec["code_archive"], Path(plan.directory, "code"))
    try:
        for part in (folder.parent, folder):
            part.mkdir(exist_ok=True, mode=0o700)
        supervisor.write_json(str(folder / "spec.json"), {**plan.spec, "argv": _argv(plan, folder), "env": env})
    except OSError as e:
        raise ExecutorError(f"{folder}: cannot be written: {e.strerror}") from e


def _bytecode_options() -> list[str]:
    """Return the options that have an isolated interpreter keep bytecode where this one does."""
    prefix = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
    return [*prefix, *(["-B"] if sys.dont_write_bytecode else [])]


def _leases(executor: LocalExecutor, folder: str) -> list[dict[str, Any]]:
    wanted = (("cpu", executor.cpus, available_cpus), ("gpu", executor.gpus, available_gpus))
    return [{"kind": kind, "count": count, "ids": ids(), "folder": folder} for kind, count, ids in wanted if count]


def _argv(plan: Plan, folder: Path) -> list[str]:
    return [arg.replace(ATTEMPT_FOLDER, str(folder)) for arg in plan.spec["argv"]]


def _folder(handle: str) -> Path:
    return Path(handle.removeprefix(_SCHEME))


def _read(path: Path, *keys: str) -> dict[str, Any]:
    """Return a file that a supervisor wrote; empty where it is not there."""
    try:
        doc = supervisor.read_json(str(path))
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise ExecutorError(str(e)) from e
    except OSError as e:
        raise ExecutorError(f"{path} cannot be read: {e.strerror}") from e
    if not isinstance(doc, dict) or any(key not in doc for key in keys):
        raise ExecutorError(f"{path} is damaged: it is not what a supervisor writes")
    return doc


def _owner(folder: Path) -> dict[str, Any]:
    """Who has claimed an attempt; empty where nobody has."""
    owner = _read(folder / "supervisor.json", "void")
    if owner and not owner["void"] and not _names_process(owner):
        raise ExecutorError(f"{folder / 'supervisor.json'} is damaged: it names no process")
    return owner


def _names_process(owner: Mapping[str, Any]) -> bool:
    """Check that a claim names one process; -1, 0 and 1 stand for all, for a group and for the system's first."""
    numbers = [owner.get("pid"), owner.get("start")]
    texts = [owner.get("boot"), owner.get("host")]
    typed = all(type(n) is int for n in numbers) and all(isinstance(text, str) for text in texts)
    return typed and owner["pid"] > 1


def _is_alive(owner: Mapping[str, Any]) -> bool:
    if not owner or owner["void"] or owner["boot"] != system.boot_id():
        return False
    return bool(system.start_time(owner["pid"]) == owner["start"])


def _has_supervisor(folder: Path) -> bool:
    """Check that a supervisor waits for the task of an attempt, whose folder was removed."""
    return any(system.parent_runs(pid, supervisor.__file__) for pid in supervisor.members(str(folder)))


def _is_held(folder: Path) -> bool:
    """Check that a supervisor lives, though it is none of the processes that can be seen from here."""
    try:
        return is_locked(folder / "supervisor.json")
    except StoreError:
        return False


def _stays_held(folder: Path) -> bool:
    """Check that a supervisor lives elsewhere; what one forked that was killed then holds its claim for a moment."""
    for _ in range(20):
        if not _is_held(folder):
            return False
        time.sleep(0.05)
    return True


def _holds_claim(pid: int, folder: Path) -> bool:
    """Check that a process is the supervisor of an attempt, whatever the files say: it has the claim open."""
    found = system.has_open(pid, str(folder / "supervisor.json"))
    return _is_held(folder) and system.runs(pid, supervisor.__file__) if found is None else found


def _cancel(folder: Path) -> str:
    """Cancel an attempt; the name of the machine where it runs if that is another one."""
    if not folder.is_dir():
        supervisor.end_members(str(folder))
        return ""
    if (folder / "exit.json").exists():
        return ""
    try:
        (folder / "cancel").touch(mode=0o600)
        if supervisor.claim(str(folder), {"void": True}):
            end = {"exit_code": None, "reason": "cancelled", "cancelled": True, "started": None, "ended": time.time()}
            supervisor.write_json(str(folder / "exit.json"), end)
            return ""
    except OSError as e:
        raise ExecutorError(f"{folder}: cannot be written: {e.strerror}; nothing was cancelled") from e
    try:
        owner = _owner(folder)
    except ExecutorError:  # damaged, but its processes can be told
        owner = {}
    if owner.get("host", os.uname().nodename) != os.uname().nodename:
        return str(owner["host"])
    if _is_alive(owner) and _holds_claim(owner["pid"], folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner["pid"], signal.SIGTERM)
        return ""
    if owner and not _is_alive(owner) and _stays_held(folder):
        return f"another container on {os.uname().nodename}"
    supervisor.end_members(str(folder))
    if _is_alive(owner):
        raise ExecutorError(
            f"{folder / 'supervisor.json'}: process {owner['pid']} is not the supervisor of this attempt, "
            "and was left alone; if the attempt was copied, cancel it where it was launched"
        )
    return ""


def _status(folder: Path) -> TaskStatus:
    try:
        return _recorded_status(folder)
    except ExecutorError as e:  # a damaged file
        if supervisor.members(str(folder)):
            return TaskStatus(JobState.RUNNING, reason=str(e))
        reason = f"{e}; how the task ended is not known"
        return TaskStatus(JobState.FAILED, reason=reason, ended=time.time(), lost=True)


def _recorded_status(folder: Path) -> TaskStatus:
    if end := _end(folder):
        return end
    owner = _owner(folder)
    if not owner or owner["void"]:
        return TaskStatus(JobState.SUBMITTED)
    host = owner["host"]
    if host != os.uname().nodename:
        return TaskStatus(JobState.UNKNOWN, reason=f"runs on {host}; ask there", node=host)
    running = _read(folder / "running.json", "started")
    if _is_alive(owner):
        if not running:
            return TaskStatus(JobState.PENDING, reason="waits for free devices", node=host)
        return TaskStatus(JobState.RUNNING, started=running["started"], node=host)
    is_held = _is_held(folder)
    if end := _end(folder):  # it may have ended meanwhile: its end is written before its claim is given up
        return end
    if is_held:
        return TaskStatus(JobState.UNKNOWN, reason=f"runs in another container on {host}; ask there", node=host)
    what = "how the task ended is not known" if running else "the task had not begun"
    reason = f"its supervisor was killed or the machine was restarted; {what}"
    return TaskStatus(JobState.FAILED, reason=reason, started=running.get("started"), ended=time.time(), lost=True)


def _end(folder: Path) -> TaskStatus | None:
    """Return how an attempt ended, once that is recorded."""
    end = _read(folder / "exit.json", "exit_code", "reason", "cancelled", "started", "ended")
    if end and not _is_end(end):
        raise ExecutorError(f"{folder / 'exit.json'} is damaged: it is not what a supervisor writes")
    return final_status(end) if end else None


def _is_end(end: Mapping[str, Any]) -> bool:
    times = (end["started"], end["ended"])
    return (
        isinstance(end["exit_code"], (int, type(None)))
        and isinstance(end["reason"], str)
        and all(isinstance(when, (int, float, type(None))) for when in times)
    )
