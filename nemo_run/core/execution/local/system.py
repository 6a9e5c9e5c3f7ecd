"""What the local engine asks of the system: the only home of what Linux has and other systems do not.

Elsewhere, as on macOS, ``ps`` tells of processes, and a few things cannot be had; :func:`lacks` says which.
Like the supervisor, which stands alone, this needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARKER = "NEMO_RUN_ATTEMPT_DIR"
"""Environment variable by which the processes of an attempt are recognised. A copy of that in ``core.runners``,
which a script that runs on its own cannot import."""

HAS_PROC = os.path.exists("/proc/self/stat")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PS = "/bin/ps"
_COLUMNS = "pid=,ppid=,pgid=,stat=,rss=,lstart=,command="  # lstart has five words


class Process:
    """A process, as ``ps`` tells of it."""

    def __init__(self, line: str) -> None:
        import calendar  # takes long to import, and only systems without /proc need it

        pid, parent, group, self.state, kilobytes, *began = line.split(maxsplit=10)
        self.pid, self.parent, self.group, self.memory = int(pid), int(parent), int(group), int(kilobytes) * 1024
        self.start = calendar.timegm(time.strptime(" ".join(began[:5]), "%a %b %d %H:%M:%S %Y"))
        self.command = began[5] if len(began) > 5 else ""

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self.state.startswith("Z")

    def is_marked(self, folder: str) -> bool:
        """Check that its environment, as far as it is shown, has the mark of an attempt."""
        return f"{self.command} ".find(f" {MARKER}={folder} ") >= 0


def processes(*which: str) -> list[Process]:
    """Return all processes, or some (``"-p", "123"``), from ``ps``."""
    import subprocess

    for flags in ("-wwE", "-ww"):  # with the environment, where that can be shown
        command = [_PS, flags, *(which or ["-ax"]), "-o", _COLUMNS]
        asking = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, errors="surrogateescape", env={"LC_ALL": "C", "TZ": "UTC"},
        )  # fmt: skip
        found = [Process(line) for line in asking.communicate()[0].splitlines() if len(line.split()) >= 10]
        if found or asking.returncode == 0:
            return [process for process in found if process.pid != asking.pid]
    return []


def one_process(pid: int | str) -> Process | None:
    """Return a process; ``None`` once it has ended."""
    return next((one for one in processes("-p", str(pid)) if one.is_alive), None)


# --- who is who --------------------------------------------------------------------------------------------------


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks or seconds: with the pid, its identity. ``None`` once it is gone."""
    if not HAS_PROC:
        found = one_process(pid)
        return found.start if found else None
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _stat(pid: int | str) -> list[bytes]:
    """Return what the kernel says of a process, from its state on: ``/proc/PID/stat`` behind the name."""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()


def boot_id() -> str:
    """Return the identity of this start of this machine; empty where it cannot be told."""
    if HAS_PROC:
        with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as f:
            return f.read().strip()
        return ""
    import subprocess

    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()
    return ""


def parent_runs(pid: int, program: str) -> bool:
    """Check that the parent of a process has a program among its arguments."""
    if not HAS_PROC:
        child = one_process(pid)
        return child is not None and runs(child.parent, program)
    try:
        return runs(int(_stat(pid)[1]), program)
    except OSError:  # it has ended
        return False


def runs(pid: int, program: str) -> bool:
    """Check that a process has a program among its arguments."""
    if not HAS_PROC:
        found = one_process(pid)
        return found is not None and program in found.command
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:  # it has ended
        return os.fsencode(program) in f.read().split(b"\0")
    return False


def has_open(pid: int, path: str) -> bool | None:
    """Check that a process of this user has a file open; ``None`` where the system does not tell."""
    if not HAS_PROC:
        return None
    folder = f"/proc/{pid}"
    try:
        wanted = os.stat(path)
        if os.stat(folder).st_uid != os.getuid():
            return False
        for name in os.listdir(f"{folder}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.path.samestat(os.stat(f"{folder}/fd/{name}"), wanted):
                    return True
    except OSError:  # it is gone, or of somebody else
        pass
    return False


# --- the processes of an attempt ---------------------------------------------------------------------------------


def members(folder: str, above: int | None = None, leader: int | None = None) -> dict[int, int]:
    """Return the living processes of an attempt, with their resident memory in bytes.

    They are those that have its mark in their environment, and what is below these; and what is below the process
    ``above``, its supervisor, which becomes the parent of all that lose theirs. What has another mark is not of it.
    Where the system shows no environment, the process group of ``leader``, the task, counts as well.
    """
    return _members_in_proc(folder, above) if HAS_PROC else _members_by_ps(folder, above, leader)


def _members_in_proc(folder: str, above: int | None) -> dict[int, int]:
    page, marks, alive = os.sysconf("SC_PAGE_SIZE"), dict[int, "str | None"](), dict[int, list[bytes]]()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # gone
            alive[int(name)], marks[int(name)] = _stat(name), _mark_of(name)
    parents = {pid: int(fields[1]) for pid, fields in alive.items()}
    living = ((pid, fields) for pid, fields in alive.items() if fields[0] not in (b"Z", b"X") and pid != above)
    belongs = _belonging(parents, above, {pid: mark == folder for pid, mark in marks.items() if mark is not None})
    return {pid: int(fields[21]) * page for pid, fields in living if belongs(pid)}


def _members_by_ps(folder: str, above: int | None, leader: int | None) -> dict[int, int]:
    found = {process.pid: process for process in processes()}
    ours = {pid: True for pid, one in found.items() if one.is_marked(folder) or (leader and one.group == leader)}
    belongs = _belonging({pid: process.parent for pid, process in found.items()}, above, ours)
    return {pid: process.memory for pid, process in found.items() if process.is_alive and pid != above and belongs(pid)}


def _belonging(parents: dict[int, int], above: int | None, known: dict[int, bool]) -> Callable[[int], bool]:
    """Return what tells whether a process, or the nearest one above it that is known, belongs to an attempt."""

    def belongs(pid: int) -> bool:
        for _ in parents:  # at most: while processes come and go, a circle may be seen
            if pid == above or pid in known or pid not in parents:
                return pid == above or known.get(pid, False)
            pid = parents[pid]
        return False

    return belongs


def _mark_of(pid: str) -> str | None:
    """Return the attempt that a process was started for; empty where it says that it is of none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as f:  # gone, or of another user
        for entry in f.read().split(b"\0"):
            if entry.startswith(f"{MARKER}=".encode()):
                return os.fsdecode(entry.partition(b"=")[2])
    return None


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty where the system does not show it."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as f:
        pairs = (entry.partition(b"=") for entry in f.read().split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}
    return {}


def memory_of(found: dict[int, int]) -> int:
    """Return the memory that processes use together, in bytes; what they share counts once, where that is told."""
    total = 0
    for pid, resident in found.items():
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as f:
                shares = [line.split()[1] for line in f if line.startswith(b"Pss:")]
            total += int(shares[0]) * 1024
        except (OSError, IndexError):  # it has ended meanwhile, and uses nothing, or this system does not tell
            total += _resident_now(pid) if HAS_PROC else resident
    return total


def _resident_now(pid: int) -> int:
    """Return the resident memory of a process in bytes; none once it has ended."""
    try:
        state, *fields = _stat(pid)
    except OSError:
        return 0
    return 0 if state in (b"Z", b"X") else int(fields[20]) * os.sysconf("SC_PAGE_SIZE")


# --- this process ------------------------------------------------------------------------------------------------


def prepare() -> None:
    """Load what the children of this process would otherwise load, each for itself."""
    import ctypes  # noqa: F401


def die_with(parent: int) -> None:
    """Have the kernel kill this process, and the program it becomes, when its parent is gone; where it can."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def guard() -> int:
    """Start what kills a process group when this process is gone, where the kernel does not: see :func:`die_with`.

    Returns:
        A descriptor: the number of the group is written there, and ``x`` once nothing is to be killed any more.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:  # no child of the supervisor, so none of its task's processes
                os.setsid()
                os.dup2(reader, 0)
                os.closerange(1, 1024)  # the supervisor's claim and locks
                told = b""
                while more := os.read(0, 100):
                    told += more
                if told.isdigit():
                    os.killpg(int(told), signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(reader)
    os.waitpid(child, 0)
    return writer


def adopt_orphans() -> bool:
    """Have the kernel make this process the parent of descendants that lose theirs; false where it cannot."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    """Set one of the kernel's options for this process; false on a system that has none."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except AttributeError:
        return False
    return True


def block(signals: Iterable[int]) -> None:
    """Keep signals for :func:`wait_for_signal`."""
    for one in signals:
        signal.signal(one, signal.SIG_DFL)
    if not hasattr(signal, "sigtimedwait"):  # there, a signal that is ignored by default is not kept
        signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*signals, signal.SIGALRM})


def wait_for_signal(signals: Iterable[int], timeout: float) -> int | None:
    """Wait for one of some signals that are blocked; ``None`` after so many seconds."""
    if hasattr(signal, "sigtimedwait"):
        got = signal.sigtimedwait(signals, timeout)
        return got.si_signo if got else None
    signal.setitimer(signal.ITIMER_REAL, max(timeout, 1e-6))
    number = signal.sigwait({*signals, signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, 0)
    return None if number == signal.SIGALRM else int(number)


def cpus() -> list[int]:
    """Return the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(cores: Iterable[int]) -> None:
    """Let this process, and what it starts, use these cores only; where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(cores))


def watch(pid: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends; ``None`` where it has to be polled."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # it has ended already, or too many files are open
            return os.pidfd_open(pid)
    return None


def lacks() -> list[str]:
    """Return what cannot be had on this system, for people."""
    missing = {
        "tasks are not bound to the cores that they reserve": hasattr(os, "sched_setaffinity"),
        "memory limits count what processes share for each of them": HAS_PROC,
        "daemons that leave a task's process group are not ended with it": HAS_PROC,
    }
    return [text for text, is_there in missing.items() if not is_there]
