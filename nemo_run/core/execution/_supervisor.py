"""Supervisor of local tasks; runs on its own, with nothing but the standard library.

``python -I -S _supervisor.py`` reads one line for every attempt from its standard input: the folder of the attempt,
as a JSON string.  For each it forks a supervisor, which lives in its own session, and answers with the supervisor's
pid.  A supervisor depends on nothing but the attempt's folder:

=================== =====================================================================================
``spec.json``       what to run; written by whoever asks
``supervisor.json`` the claim: who runs the attempt. Created once, whole, by a hard link, so that an attempt is
                    run once or never
``cancel``          a request to cancel, put there before the supervisor is signalled
``exit.json``       how it ended
``log``             what the task wrote
=================== =====================================================================================

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

MARKER = "NEMO_RUN_ATTEMPT_DIR"
"""Environment variable by which the processes of an attempt are recognised."""

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_LEASE_POLL = 0.1  # seconds between two looks for a free device


# --- files -------------------------------------------------------------------------------------------------------


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


def claim(folder: str, doc: dict[str, Any]) -> bool:
    """Take the attempt: true for exactly one of all who ever try."""
    path = os.path.join(folder, "supervisor.json")
    temporary = f"{path}.{os.getpid()}.claim"
    write_json(temporary, doc)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid, its identity. ``None`` once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """Identity of this start of this machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            return f.read().strip()
    except OSError:
        return ""


# --- limits ------------------------------------------------------------------------------------------------------


def session_memory(session: int) -> list[int]:
    """Resident memory, in bytes, of each living process of a session."""
    page, sizes = os.sysconf("SC_PAGE_SIZE"), []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                fields = f.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in (b"Z", b"X"):
            sizes.append(int(fields[21]) * page)
    return sizes


def lease(folder: str, kind: str, ids: list[str], count: int) -> tuple[list[str], list[int]]:
    """Lock up to ``count`` free devices of a kind; the locks live as long as the file descriptors returned."""
    taken: list[str] = []
    locks: list[int] = []
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for device in ids:
        if len(taken) == count:
            break
        fd = os.open(os.path.join(folder, f"{kind}-{device}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
        else:
            taken.append(device)
            locks.append(fd)
    return taken, locks


# --- one attempt -------------------------------------------------------------------------------------------------


class Attempt:
    """Runs the task of one attempt and records how it ended."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(self.file("spec.json")) as f:
            self.spec = json.load(f)
        self.pid = 0
        self.ending = ""  # why the task is being ended by us
        self.kill_at: float | None = None
        self.started: float | None = None

    def base_environment(self) -> dict[str, str]:
        """Environment of whoever launched the experiment, as it was then."""
        path = self.spec.get("environment_file")
        if not path:
            return {}
        with open(path) as f:
            env: dict[str, str] = json.load(f)
        return env

    def file(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def run(self) -> None:
        """Claim the attempt, run it to its end, and record that."""
        pid = os.getpid()
        identity = {"pid": pid, "start": start_time(pid), "boot": boot_id(), "host": os.uname().nodename}
        if not claim(self.folder, {**identity, "claimed": time.time()}):
            return
        try:
            env = self.devices()
            code, reason = self.execute(env) if env is not None else (None, "")
        except OSError as e:
            code, reason = 127, f"cannot start: {e}"
        self.record(code, reason)

    def devices(self) -> dict[str, str] | None:
        """Environment for the devices that the task is given; waits for them. ``None``: cancelled meanwhile."""
        while True:
            env = self.try_devices()
            if env is not None:
                return env
            if signal.sigtimedwait(_SIGNALS - {signal.SIGCHLD}, _LEASE_POLL) is not None:
                self.ending = self.ending_reason()
                return None

    def try_devices(self) -> dict[str, str] | None:
        """All the devices, or none: who held some while waiting for others could block another for ever."""
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
                os.sched_setaffinity(0, {int(i) for i in ids})
                env["OMP_NUM_THREADS"] = str(len(ids))
            else:
                env["CUDA_VISIBLE_DEVICES"] = ",".join(ids)
        return env

    def execute(self, device_env: dict[str, str]) -> tuple[int, str]:
        log = os.open(self.file("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.started = time.time()
        write_json(self.file("running.json"), {"started": self.started})
        self.pid = os.fork()
        if self.pid == 0:
            self.become_task(log, device_env)
        os.close(log)
        status = self.supervise()
        self.end_leftovers()
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return 128 - code, self.ending or f"ended by {signal.Signals(-code).name}"
        return code, self.ending

    def become_task(self, log: int, device_env: dict[str, str]) -> None:
        """In the child: turn into the task. Never returns."""
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for s in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; a task expects the default
                signal.signal(s, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            env = {**self.base_environment(), **self.spec["env"], **device_env, MARKER: self.folder}
            os.chdir(self.spec["cwd"])
            os.execvpe(self.spec["argv"][0], self.spec["argv"], env)
        except OSError as e:
            name = e.filename if e.filename is not None else self.spec["argv"][0]
            os.write(2, f"cannot run {name!r}: {e.strerror}\n".encode())
            os._exit(126 if e.errno == errno.EACCES else 127)
        except BaseException as e:  # noqa: BLE001  # anything else must not fall back into the supervisor's code
            os.write(2, f"cannot run {self.spec['argv'][0]!r}: {e}\n".encode())
            os._exit(127)

    def supervise(self) -> int:
        """Wait for the task, minding signals and limits; its wait status."""
        limit, memory = self.spec.get("timeout"), self.spec.get("memory")
        deadline = time.monotonic() + limit if limit else None
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            now = time.monotonic()
            if deadline is not None and now >= deadline and not self.ending:
                self.end(f"time limit of {limit:g} s reached")
            if memory and not self.ending:
                used = sum(session_memory(self.pid))
                if used > memory:
                    self.end(f"out of memory: {used} bytes in use, the limit is {memory}", now=True)
            if self.kill_at is not None and now >= self.kill_at:
                self.kill(signal.SIGKILL)
                self.kill_at = None
            wakeups = [t for t in (deadline if not self.ending else None, self.kill_at) if t is not None]
            pause = min([max(t - now, 0) for t in wakeups] + [0.2 if memory else 3600.0])
            got = signal.sigtimedwait(_SIGNALS, pause)
            if got is not None and got.si_signo == signal.SIGHUP:
                continue  # a terminal that goes away takes nothing along
            if got is not None and got.si_signo != signal.SIGCHLD and not self.ending:
                self.end(self.ending_reason())

    def ending_reason(self) -> str:
        return "cancelled" if os.path.exists(self.file("cancel")) else "its supervisor was told to stop"

    def end(self, reason: str, *, now: bool = False) -> None:
        """End the task: ask, and kill what is left after the grace period."""
        self.ending = reason
        self.kill(signal.SIGKILL if now else signal.SIGTERM)
        self.kill_at = time.monotonic() + float(self.spec.get("grace", 10.0))

    def kill(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def end_leftovers(self) -> None:
        """The job's end is the end of its processes: no child that it left behind goes on."""
        for signum, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0)):
            try:
                os.killpg(self.pid, signum)
            except ProcessLookupError:
                return
            end = time.monotonic() + patience
            while session_memory(self.pid):  # dead ones that nobody has reaped yet do not count
                if time.monotonic() > end:
                    break
                time.sleep(0.01)
            else:
                return

    def record(self, code: int | None, reason: str) -> None:
        """Write the end down; where the disk is full, try again for a while, so that it is not lost."""
        doc = {
            "exit_code": code,
            "reason": reason or self.ending,
            "cancelled": self.ending == "cancelled",
            "started": self.started,
            "ended": time.time(),
        }
        for pause in (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 60, 60):
            try:
                write_json(self.file("exit.json"), doc)
            except OSError:
                time.sleep(pause)
            else:
                return


# --- the process that forks supervisors --------------------------------------------------------------------------


def start(folder: str) -> int:
    """Fork the supervisor of an attempt; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        for s in _SIGNALS:
            signal.signal(s, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, null + 1)
        Attempt(folder).run()
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who launched
    for line in iter(sys.stdin.readline, ""):
        pid = start(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
