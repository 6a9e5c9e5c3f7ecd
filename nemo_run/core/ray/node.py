"""One node of a Ray cluster in a Slurm job; runs on its own there, with nothing but the standard library and Ray.

``python3 ray_node.py FOLDER SETTINGS`` runs once on every node. The nodes find each other by files in ``FOLDER``, which
all of them see, as do those who look at the cluster from elsewhere:

================ ======================================================================================
``token``        what everybody has to show who speaks to this Ray
``ray.json``     written by the head: how it is reached, how many nodes live
``stop``         a request to end
``ended``        the head has ended, and so do the others
``jobs/``        of the jobs: how they ended, and their logs
================ ======================================================================================
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FINAL = ("STOPPED", "SUCCEEDED", "FAILED")


class Idleness:
    """Tells when nothing has run on a cluster for too long."""

    def __init__(self, limit: float) -> None:
        """Watch a cluster that may be idle for so many seconds; 0 for any time."""
        self.limit = limit or float("inf")
        self.busy = time.monotonic()

    def is_over(self, drivers: list[dict[str, Any]]) -> bool:
        """Return whether the limit is reached, when these are all programs that run or ran.

        >>> Idleness(0.0).is_over([]), Idleness(1e-9).is_over([]), Idleness(1e-9).is_over([{"status": "RUNNING"}])
        (False, True, False)
        """
        if any(driver["status"] not in FINAL for driver in drivers):
            self.busy = time.monotonic()
            return False
        return time.monotonic() - self.busy > self.limit

    @property
    def words(self) -> str:
        """Why the cluster ends then."""
        return f"nothing has run on it for {self.limit:g} s"


_POLL = 1.0  # seconds between two looks
_LOGS = ("gcs_server.out", "raylet.out", "raylet.err", "dashboard.log", "dashboard.err")
_TROUBLE = re.compile(r" [EWC] \d|ERROR|WARNING|Traceback|Error: ")
_TRIES = 4
_GIVES_UP = (20.0, 120.0)  # seconds after which Ray itself has given up starting, at least and at most
_STORE_SHARE = 0.3  # of the memory, for objects; as Ray itself has it
_LEAST_STORE = 80 << 20  # bytes; with less Ray does not start
_PR_SET_CHILD_SUBREAPER = 36


class Node:
    """What the head and the other nodes have in common."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self.wanted = int(os.environ.get("SLURM_NNODES", "1"))
        self.temp = Path(tempfile.mkdtemp(prefix="nemo-ray-", dir="/tmp"))  # sockets need a short path
        self.ray: subprocess.Popen[bytes] | None = None
        self.options: tuple[str, ...] = ()
        self.begun = 0.0
        self.tries_left = _TRIES
        have_this_python(self.temp)

    def has(self, name: str) -> bool:
        """Check whether a file is there; file systems of clusters remember for long that one is not, but do list it."""
        return any(path.name == name for path in self.folder.iterdir())

    def start(self, *options: str) -> None:
        """Start Ray on this node."""
        self.options = options
        resources = [f"--num-cpus={os.environ['SLURM_CPUS_ON_NODE']}"] if "SLURM_CPUS_ON_NODE" in os.environ else []
        memory = int(os.environ.get("SLURM_MEM_PER_NODE", "0")) << 20
        store = self.settings["object_store_memory"] // self.wanted or int(memory * _STORE_SHARE)
        if store:
            resources.append(f"--object-store-memory={max(store, _LEAST_STORE)}")
        if memory:
            resources.append(f"--memory={max(memory - store, memory // 2)}")
        index = int(os.environ.get("SLURM_NODEID", "0"))
        own = {name: divided(total, self.wanted)[index] for name, total in self.settings["resources"].items()}
        if own := {name: amount for name, amount in own.items() if amount}:
            resources.append(f"--resources={json.dumps(own)}")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        ports = [f"--dashboard-agent-listen-port={free_port()}"]  # what has a fixed port otherwise
        self.ray = subprocess.Popen([*command, *resources, *ports, f"--temp-dir={self.temp}", *options])
        self.begun = time.monotonic()
        self.tries_left -= 1

    def check(self) -> None:
        """Raise where Ray has ended; start it again where it was not up in the half minute that it grants itself."""
        if self.ray is None or (code := self.ray.poll()) is None:
            return
        message = f"Ray ended on {socket.gethostname()} with exit code {code}"
        slow = _GIVES_UP[0] < time.monotonic() - self.begun < _GIVES_UP[1]
        if not (slow and self.tries_left and self.may_start_again()):
            raise RuntimeError(message)
        sys.stderr.write(f"{message}; it is started again\n")
        kill_descendants()
        self.start(*self.options)

    def may_start_again(self) -> bool:
        """Return whether nobody knows of this head yet."""
        return True

    def tell(self, **facts: Any) -> None:
        """Say what is new, where this node has something to say."""

    def end(self) -> None:
        """End Ray, and all that it has started on this node."""
        if self.ray is not None and self.ray.poll() is None:
            self.ray.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ray.wait(5)
        kill_descendants()
        shutil.rmtree(self.temp, ignore_errors=True)


class Worker(Node):
    """A node that joins."""

    def run(self) -> None:
        """Join the head, and stay until the cluster ends."""
        while not self.has("ray.json"):
            if self.has("ended"):
                return
            time.sleep(_POLL)
        self.start(f"--address={json.loads((self.folder / 'ray.json').read_text())['gcs']}")
        while not self.has("ended"):
            self.check()
            time.sleep(_POLL)


class Head(Node):
    """The node that the others join, and that jobs are submitted to."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        super().__init__(folder, settings)
        self.address = own_address()
        self.dashboard, self.client = free_port(), free_port()
        self.facts: dict[str, Any] = {}
        self.states: dict[str, str] = {}

    def run(self) -> None:
        """Start the head, and stay until the cluster ends."""
        options = {
            "port": free_port(), "node-ip-address": self.address, "ray-client-server-port": self.client,
            "dashboard-host": self.address, "dashboard-port": self.dashboard,
        }  # fmt: skip
        self.start("--head", *(f"--{name}={value}" for name, value in options.items()))
        address = self.temp / "ray_current_cluster"
        while not address.exists() or self.ask("/api/version") is None:
            self.check()
            time.sleep(0.2)
        self.tell(
            gcs=address.read_text().strip(),
            host=self.address,
            dashboard=self.dashboard,
            client=self.client,
            ready=False,
        )
        self.watch()

    def may_start_again(self) -> bool:
        """Return whether nobody knows of this head yet."""
        return not self.facts

    def watch(self) -> None:
        """Wait until the job that the cluster is for has ended, or the cluster is to end."""
        job = self.settings["until_job"]
        give_up = time.monotonic() + self.settings["patience"]
        idleness = Idleness(self.settings["idle_timeout"])
        while not self.has("stop"):
            self.check()
            if idleness.is_over(self.keep_jobs()):
                self.tell(why=idleness.words)
                return
            alive = self.alive()
            self.tell(alive=alive, ready=self.facts["ready"] or alive >= self.wanted)
            if not self.facts["ready"]:
                give_up = time.monotonic() + self.settings["patience"]
            details = self.ask(f"/api/jobs/{job}") if job else None
            if details and details["status"] in FINAL:
                return
            if details or not job:
                give_up = float("inf")
            if time.monotonic() > give_up:
                raise RuntimeError(f"the job {job} that this cluster is for was not submitted")
            time.sleep(_POLL)

    def alive(self) -> int:
        """Return how many nodes live."""
        nodes = (self.ask("/nodes?view=summary") or {"data": {"summary": []}})["data"]["summary"]
        return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in nodes)

    def tell(self, **facts: Any) -> None:
        """Write down what is new."""
        new = {**self.facts, **facts}
        if new != self.facts:
            self.facts = new
            write(self.folder / "ray.json", json.dumps(new))

    def ask(self, path: str) -> Any:
        """Return what Ray's REST API says; ``None`` where it has no answer."""
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"http://{self.address}:{self.dashboard}{path}", headers=headers)
        try:
            with opener.open(request, timeout=20) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None

    def keep_jobs(self) -> list[dict[str, Any]]:
        """Write down how the jobs are, less their environments, which may have secrets; keep their logs.

        It is done all the time, as this node can be lost at any moment. Returns all programs that run or ran.
        """
        kept = self.folder / "jobs"
        kept.mkdir(exist_ok=True)
        drivers = self.ask("/api/jobs/")
        jobs = [job for job in drivers or [] if job.get("submission_id")]
        for log in self.temp.glob("session_latest/logs/job-driver-*.log"):
            append(log, kept / log.name[len("job-driver-") :])
        for job in jobs:
            name, state = job["submission_id"], job["status"]
            if self.states.get(name) != state:
                job.pop("runtime_env", None)
                write(kept / f"{name}.json", json.dumps(job))
                self.states[name] = state
        return [{"status": "UNKNOWN"}] if drivers is None else list(drivers)

    def end(self) -> None:
        """Keep what the jobs left, and end all processes."""
        try:
            self.tell(ending=True)
            self.keep_jobs()
        finally:
            write(self.folder / "ended", "")
            super().end()


# --- this machine ----------------------------------------------------------------------------------------------------


def have_this_python(temp: Path) -> None:
    """See to it that ``python`` is the one that has Ray, also where there is only a ``python3``."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which("python") is None:
        python = temp / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o700)
        os.environ["PATH"] += f"{os.pathsep}{temp}"


def own_address() -> str:
    """Return the address by which the other nodes reach this one."""
    given = os.environ.get("head_node_ip", "")  # noqa: SIM112  (from the batch script)
    try:
        return socket.gethostbyname(given or socket.gethostname())
    except OSError:
        return socket.gethostbyname(socket.gethostname())


def divided(total: int, count: int) -> list[int]:
    """Return what each of so many nodes has of something that Ray counts in whole ones.

    >>> divided(5, 2)
    [3, 2]
    """
    return [total // count + (index < total % count) for index in range(count)]


def free_port() -> int:
    """Return a port that nobody listens on; jobs that share the node get others."""
    with socket.socket() as s:
        s.bind(("", 0))
        return int(s.getsockname()[1])


def kill_descendants() -> None:
    """Kill all processes below this one."""
    for _ in range(200):  # one that hangs in the kernel dies when that lets it go
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not descendants(os.getpid()):
            return
        time.sleep(0.05)


def descendants(root: int) -> set[int]:
    """Living processes below one."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            if fields[0] not in (b"Z", b"X"):
                parents[int(path.parent.name)] = int(fields[1])
    found: set[int] = set()
    new = {root}
    while new := {pid for pid, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def write(path: Path, text: str) -> None:
    """Replace a file as a whole; the umask says who can read it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def append(source: Path, target: Path) -> None:
    """Add to a copy of a growing file what is new."""
    known = target.stat().st_size if target.exists() else 0
    if source.stat().st_size > known:
        with source.open("rb") as old, target.open("ab") as new:
            old.seek(known)
            shutil.copyfileobj(old, new)


def last_words(temp: Path) -> Iterator[str]:
    """From Ray's own logs, what tells why it does not start, or died."""
    for name in _LOGS:
        with contextlib.suppress(OSError):
            lines = (temp / "session_latest" / "logs" / name).read_text(errors="replace").splitlines()
            if shown := [line for line in lines if _TROUBLE.search(line)][-5:] or lines[-2:]:
                yield "\n".join([f"--- {name}:", *shown])


def main(folder: Path, settings: dict[str, Any]) -> int:
    """Run this node; its exit code."""
    os.umask(0o077)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what loses its parent is still found below this one
    is_head = os.environ.get("SLURM_NODEID", "0") == "0"
    if is_head:
        write(folder / "token", secrets.token_hex(32))
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0")
    os.environ.update(DASHBOARD_METRIC_PORT=str(free_port()), AUTOSCALER_METRIC_PORT=str(free_port()))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    node = (Head if is_head else Worker)(folder, settings)
    try:
        node.run()
    except (RuntimeError, OSError) as e:
        words = list(last_words(node.temp))
        sys.stderr.write("\n".join([f"the Ray node on {socket.gethostname()} failed: {e}", *words, ""]))
        node.tell(why=": ".join([str(e), *words[-1:]])[-500:].replace("\n", " "))
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        node.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
