"""Supervisor of local tasks; runs on its own, with nothing but the standard library.

:func:`main` reads lines from its standard input, each a JSON list of attempts: the folder of each, and the environment
that its task inherits, which is in no file. For each attempt it forks a supervisor, which lives in its own session, and
it answers once these have taken their attempts: with the pid of each, or with what went wrong. A supervisor depends on
nothing else but the attempt's folder:

- ``spec.json``: what to run; written by the launching process
- ``supervisor.json``: the claim: who runs the attempt. Created once, whole, by a hard link, so that an attempt is run
  once or never. The supervisor holds it open, which proves who it is, and locked, which proves that it lives
- ``cancel``: a request to cancel, put there before the supervisor is signalled
- ``exit.json``, ``log``: how it ended, and what the task wrote

Processes are forked here, not in the caller, because this one is small and has a single thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if TYPE_CHECKING or __name__ != "supervisor":
    from nemo_run.core.execution.local import system
else:  # on its own: with what is beside this file, and nothing else
    import system

MARKER = system.MARKER

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_LEASE_POLL = 0.1  # seconds between two looks for a free device
_MEMORY_POLL = 0.2  # seconds between two looks at the memory in use
_LARGEST = 1 << 28  # bytes of a file that is read; a device has no end
_TAKEN = "taken"


def write_json(path: str, doc: dict[str, Any]) -> None:
    """Replace a file as a whole; readable by its owner only."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w") as f:
            json.dump(doc, f)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_json(path: str) -> dict[str, Any]:
    """Read a file; the error names it where it is damaged."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as f:  # a pipe in its place is not waited for
        try:
            doc: dict[str, Any] = json.loads(f.read(_LARGEST))
        except (ValueError, RecursionError) as e:
            raise ValueError(f"{path} is damaged: {e}") from e
    return doc


def claim(folder: str, doc: dict[str, Any], *, hold: bool = False) -> bool:
    """Take the attempt: true for exactly one of all who ever try. Who holds the claim can prove that it is theirs."""
    path = os.path.join(folder, "supervisor.json")
    temporary = f"{path}.{os.getpid()}.claim"
    write_json(temporary, doc)
    fd = os.open(temporary, os.O_RDWR)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.link(temporary, path)
    except FileExistsError:
        hold = False
        return False
    finally:
        os.unlink(temporary)
        if not hold:
            os.close(fd)
    return True


# --- processes and devices ---------------------------------------------------------------------------------------


def task_of(folder: str) -> dict[str, Any]:
    """Return what is noted of the first process of an attempt's task; empty where nothing is, or it is damaged."""
    try:
        running = read_json(os.path.join(folder, "running.json"))
    except (OSError, ValueError):
        return {}
    task = running.get("task") if isinstance(running, dict) else None
    return task if isinstance(task, dict) and isinstance(task.get("pid"), int) and task["pid"] > 1 else {}


def members(folder: str, above: int | None = None) -> dict[int, int]:
    """Return the living processes of an attempt, with their resident memory in bytes; see :func:`system.members`."""
    task = task_of(folder)
    leader = task.get("pid")
    if leader and above is None and not system.HAS_PROC and system.start_time(leader) not in (None, task.get("start")):
        leader = None  # another process has its number now
    return system.members(folder, above, leader)


def end_members(folder: str, above: int | None = None, *, patience: float = 0.0) -> None:
    """End all processes of an attempt: ask, and kill after ``patience`` seconds those that are still there."""
    asked: set[int] = set()
    kill_at = time.monotonic() + patience
    give_up = kill_at + 10.0  # a process that hangs in the kernel dies when that lets it go
    while left := members(folder, above):
        now = time.monotonic()
        if now >= give_up:
            return
        for pid in left:
            if now >= kill_at or pid not in asked:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if now >= kill_at else signal.SIGTERM)
        asked.update(left)
        time.sleep(0.01)


def reap(pid: int) -> tuple[int | None, bool]:
    """Take note of the children that have ended: the wait status of ``pid`` if it is one of them, and whether any live.

    What the task leaves behind is a child of this process, too.
    """
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found, False
        if not ended:
            return found, True
        if ended == pid:
            found = status


def lease(folder: str, kind: str, ids: list[str], count: int) -> tuple[list[str], list[int]]:
    """Lock up to ``count`` free devices of a kind; the locks live as long as the file descriptors returned."""
    taken: list[str] = []
    locks: list[int] = []
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for device in ids:
        if len(taken) == count:
            break
        name = f"{kind}-{device.replace('/', '_')}.lock"
        fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
        else:
            taken.append(device)
            locks.append(fd)
    return taken, locks


class Attempt:
    """Runs the task of one attempt and records how it ended."""

    def __init__(self, folder: str, inherited: dict[str, str], *, adopts: bool) -> None:
        self.adopts = adopts  # what loses its parent
        self.folder = folder
        self.inherited = inherited
        self.spec = read_json(self.file("spec.json"))
        self.pid = 0
        self.ending = ""  # why the task is being ended by us
        self.kill_at: float | None = None
        self.deadline: float | None = None
        self.notice_at: float | None = None  # when the task is told that its time limit is near
        self.told = False  # of its time limit
        self.cause = ""  # in the words of TaskStatus
        self.memory_poll = _MEMORY_POLL
        self.memory_look = 0.0
        self.started: float | None = None

    def file(self, name: str) -> str:
        """Return the path of a file of the attempt."""
        return os.path.join(self.folder, name)

    def take(self) -> bool:
        """Claim the attempt."""
        pid = os.getpid()
        identity = {"pid": pid, "start": system.start_time(pid), "boot": system.boot_id(), "host": os.uname().nodename}
        return claim(self.folder, {**identity, "void": False, "claimed": time.time()}, hold=True)

    def run(self) -> None:
        """Run the task to its end, and record that."""
        try:
            env = self.devices()
            code, reason = self.execute(env) if env is not None else (None, "")
        except OSError as e:
            code, reason = 127, f"cannot start: {e}"
        self.record(code, reason)

    def devices(self) -> dict[str, str] | None:
        """Wait for the devices of the task, and return the variables that name them; ``None`` if it was cancelled."""
        while True:
            env = self.try_devices()
            if not os.path.exists(self.file("supervisor.json")):
                self.ending = "its folder was removed"
                return None
            if env is not None:
                return env
            if system.wait_for_signal(_SIGNALS - {signal.SIGCHLD}, _LEASE_POLL) is not None:
                self.ending = self.ending_reason()
                return None

    def try_devices(self) -> dict[str, str] | None:
        """Return all the devices, or none: who held some while waiting for others could block another for ever."""
        env: dict[str, str] = {}
        held: list[int] = []
        for want in self.spec.get("leases", []):
            ids, locks = lease(want["folder"], want["kind"], want["ids"], want["count"])
            held += locks
            if len(ids) < want["count"]:
                for fd in held:
                    os.close(fd)
                return None
            if want["kind"] == "cpu":
                system.pin(int(i) for i in ids)
                env["OMP_NUM_THREADS"] = str(len(ids))
            else:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(ids)
        return env

    def execute(self, device_env: dict[str, str]) -> tuple[int, str]:
        """Run the command to its end; return its exit code and the reason."""
        log = os.open(self.file("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.started = time.time()
        write_json(self.file("running.json"), {"started": self.started})
        supervisor = os.getpid()
        guard = None if self.adopts else system.guard()
        self.pid = os.fork()
        if self.pid == 0:
            if guard is not None:
                os.write(guard, str(os.getpid()).encode())
            self.become_task(log, device_env, supervisor)
        os.close(log)
        if guard is not None:  # its processes cannot be told by their environment
            task = {"pid": self.pid, "start": system.start_time(self.pid)}
            write_json(self.file("running.json"), {"started": self.started, "task": task})
        status, left = self.supervise()
        if left or not self.adopts:  # nothing that it left behind goes on
            end_members(self.folder, os.getpid(), patience=2.0)
        if guard is not None:
            os.write(guard, b"x")
        code = os.waitstatus_to_exitcode(status)
        code, reason = (128 - code, f"ended by {signal.Signals(-code).name}") if code < 0 else (code, "")
        if self.told and code == 128 + signal.SIGUSR1:  # it did not mind the notice of its time limit
            self.cause = self.cause or "time limit"
            reason = "ended by SIGUSR1, the notice of its time limit: it neither traps it nor has called run.stopping()"
        return code, self.ending or reason

    def become_task(self, log: int, device_env: dict[str, str], supervisor: int) -> None:
        """In the child: turn into the task. Never returns."""
        try:
            system.die_with(supervisor)
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            # Python ignores two of them, a shell the third for what runs in the background; tasks expect the default.
            for s in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT):
                signal.signal(s, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            env = {**self.inherited, **self.spec["env"], **device_env, MARKER: self.folder}
            os.chdir(self.spec["cwd"])
            os.execvpe(self.spec["argv"][0], self.spec["argv"], env)
        except OSError as e:
            name = e.filename if e.filename is not None else self.spec["argv"][0]
            os.write(2, f"cannot run {name!r}: {e.strerror}\n".encode())
            os._exit(126 if e.errno == errno.EACCES else 127)
        except BaseException as e:  # noqa: BLE001  # anything else must not fall back into the supervisor's code
            os.write(2, f"cannot run {self.spec['argv'][0]!r}: {e}\n".encode())
            os._exit(127)

    def supervise(self) -> tuple[int, bool]:
        """Wait for the task, minding signals and limits; its wait status, and whether it has left processes behind."""
        if limit := self.spec.get("timeout"):
            self.deadline = time.monotonic() + limit
            notice = self.spec.get("notice") or 0.0
            self.notice_at = self.deadline - notice if notice else None
        while True:
            status, left = reap(self.pid)
            if status is not None:
                return status, left
            self.mind_limits()
            got = system.wait_for_signal(_SIGNALS, self.pause())
            if got not in (None, signal.SIGCHLD, signal.SIGHUP) and not self.ending:
                self.cause = "" if os.path.exists(self.file("cancel")) else "preemption"
                self.end(self.ending_reason())  # a terminal that goes away (SIGHUP) takes nothing along

    def mind_limits(self) -> None:
        """End the task where it is over a limit, and what is left of it after the grace period."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline and not self.ending:
            self.cause = "time limit"
            self.end(f"time limit of {self.spec['timeout']:g} s reached")
        elif self.notice_at is not None and now >= self.notice_at:
            self.notice_at, self.told = None, True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGUSR1)
        if self.spec.get("memory") and not self.ending and now >= self.memory_look:
            self.mind_memory(now)
        if self.kill_at is not None and now >= self.kill_at:
            end_members(self.folder, os.getpid())
            self.kill_at = None

    def mind_memory(self, now: float) -> None:
        """End the task where it uses more memory than it may."""
        memory, processes = self.spec["memory"], members(self.folder, os.getpid())
        if sum(processes.values()) > memory and (used := system.memory_of(processes)) > memory:
            self.end(f"out of memory: {used} bytes in use, the limit is {memory}", now=True)
        self.memory_poll = max(_MEMORY_POLL, 10 * (time.monotonic() - now))  # counting is slow among many processes
        self.memory_look = time.monotonic() + self.memory_poll

    def pause(self) -> float:
        """Return for how many seconds nothing is to be done."""
        now = time.monotonic()
        wakeups = [t for t in (None if self.ending else self.deadline, self.notice_at, self.kill_at) if t is not None]
        return min([max(t - now, 0) for t in wakeups] + [self.memory_poll if self.spec.get("memory") else 3600.0])

    def ending_reason(self) -> str:
        """Return why this supervisor ends the task."""
        return "cancelled" if os.path.exists(self.file("cancel")) else "its supervisor was told to stop"

    def end(self, reason: str, *, now: bool = False) -> None:
        """End the task: ask, and kill what is left after the grace period."""
        self.ending = reason
        self.kill_at = time.monotonic() + (0.0 if now else float(self.spec.get("grace", 10.0)))
        if now:
            return
        try:
            os.killpg(self.pid, signal.SIGTERM)
        except ProcessLookupError:  # it has no session of its own yet: a matter of microseconds
            os.kill(self.pid, signal.SIGTERM)

    def record(self, code: int | None, reason: str) -> None:
        """Write the end down; where the disk is full, try again for a while, so that it is not lost."""
        doc = {
            "exit_code": code,
            "reason": reason or self.ending,
            "cancelled": self.ending == "cancelled",
            "started": self.started,
            "ended": time.time(),
            "node": os.uname().nodename,
            "cause": self.cause,
        }
        for pause in (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 60, 60):
            try:
                with contextlib.suppress(FileExistsError):  # the task may have removed it
                    os.mkdir(self.folder, 0o700)
                write_json(self.file("exit.json"), doc)
            except FileNotFoundError:  # all of the experiment was removed: nobody waits for it
                return
            except OSError:
                time.sleep(pause)
            else:
                return


# --- the process that forks supervisors --------------------------------------------------------------------------


def start(attempts: list[tuple[str, dict[str, str]]]) -> list[tuple[int, str]]:
    """Fork the supervisors of attempts, and wait until they have taken them; for each its pid, and what went wrong."""
    readers: dict[int, int] = {}  # by pid
    begun: list[tuple[int, str]] = []
    for folder, inherited in attempts:
        try:
            begun.append((fork_supervisor(folder, inherited, readers), ""))
        except OSError as e:
            begun.append((0, f"its supervisor cannot be started: {e.strerror}"))
    return [(pid, trouble or answer_of(readers[pid])) for pid, trouble in begun]


def fork_supervisor(folder: str, inherited: dict[str, str], readers: dict[int, int]) -> int:
    """Fork the supervisor of an attempt; its pid. Where it answers is put among ``readers``."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        raise
    else:
        if pid == 0:
            for fd in (reader, *readers.values()):
                os.close(fd)
            become_supervisor(folder, inherited, writer)
        readers[pid] = reader
        return pid
    finally:
        os.close(writer)


def answer_of(reader: int) -> str:
    """Return what went wrong with a supervisor that was forked; empty once it has taken its attempt."""
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode(errors="replace")
    return "" if text == _TAKEN else text or "its supervisor was killed before it began"


def become_supervisor(folder: str, inherited: dict[str, str], answer: int) -> None:
    """In the child: supervise an attempt. Never returns."""
    status = 1
    try:
        os.setsid()
        adopts = system.adopt_orphans()
        system.block(_SIGNALS)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        try:
            attempt = Attempt(folder, inherited, adopts=adopts)
            taken = attempt.take()
            text = _TAKEN  # by us or by another
        except (OSError, ValueError) as e:
            taken, text = False, str(e)
        with contextlib.suppress(BrokenPipeError):  # the asking process is gone; the attempt is ours all the same
            os.write(answer, text.encode(errors="replace"))
        os.close(answer)
        if taken:
            attempt.run()
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve requests until standard input ends."""
    system.prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who launched
    for line in iter(sys.stdin.readline, ""):
        sys.stdout.write(json.dumps(start(json.loads(line))) + "\n")
        sys.stdout.flush()
