"""Pods for the tests: processes of this machine, each with its own root, host name and process tree, and a volume."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# In namespaces of its own: a root that forgets what is written to it, with the volumes in it.
_ENTER = """\
set -e
name=$1 hosts=$2 volumes=$3; shift 3
scratch=/mnt
mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch/up" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/up,workdir=$scratch/work" "$scratch/root"
mount -t proc proc "$scratch/root/proc"
mount --rbind /dev "$scratch/root/dev"
echo "$volumes" | while IFS='|' read -r source target; do
  [ -n "$source" ] || continue
  mkdir -p "$scratch/root/$target"
  mount --bind "$source" "$scratch/root/$target"
done
echo "$hosts" > "$scratch/root/etc/hosts"
hostname "$name"
exec chroot "$scratch/root" "$@"
"""
_NAMESPACES = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private")


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether this machine can run pods."""
    check = [*_NAMESPACES, "sh", "-c", _ENTER, "sh", "pod", "", "", "/bin/true"]
    try:
        return subprocess.run(check, capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def expanded(text: str, env: Mapping[str, str]) -> str:
    """What Kubernetes makes of a value, an argument or a command.

    >>> expanded("$(A) $(B) $$(A) $$ $", {"A": "1"})
    '1 $(B) $(A) $ $'
    """

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^()]*)\)", one, text)


class Network:
    """A network of its own for some pods, in which each has an address of this machine's loopback."""

    def __init__(self) -> None:
        up = "import fcntl,socket,struct;fcntl.ioctl(socket.socket(),0x8914,struct.pack('16sh',b'lo',65))"
        script = f'python3 -c "{up}" && echo up && exec cat'  # until we let go of it, or are gone
        command = ["unshare", "--net", "sh", "-c", script]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == b"up\n"
        self.path = f"/proc/{self._process.pid}/ns/net"

    def connect(self, port: int) -> socket.socket:
        """Connect to a port in there."""
        found: list[socket.socket | OSError] = []

        def inside() -> None:  # a thread of its own, which can enter the network alone
            with Path(self.path).open() as namespace:
                ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0)
            try:
                found.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            except OSError as e:
                found.append(e)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0]

    def close(self) -> None:
        """Let go of it."""
        self._process.kill()
        self._process.communicate()


class Pod:
    """One pod. What it writes is in ``log``."""

    def __init__(self, name: str, folder: Path, ended: Callable[[], None]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.log.touch()
        self.process: subprocess.Popen[bytes] | None = None
        self.started: float | None = None
        self.ended: float | None = None
        self.code: int | None = None
        self.out_of_memory = False
        self._on_end = ended
        self._stopped = False
        self._killed = False

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        volumes: Mapping[str, str],
        hosts: Sequence[str],
        network: Network | None = None,
    ) -> None:
        """Run a command; ``volumes`` are folders of this machine by their paths in the pod."""
        if self._stopped:
            return
        known: dict[str, str] = {}
        for variable, value in env.items():
            known[variable] = expanded(value, known)
        argv = [expanded(word, known) for word in argv]
        mounts = "\n".join(f"{source}|{target}" for target, source in volumes.items())
        addresses = [f"127.0.1.{index + 1}" if network else "127.0.0.1" for index in range(len(hosts))]
        lines = [f"{address} {host}" for address, host in zip(addresses, hosts, strict=True)]
        names = "\n".join(["127.0.0.1 localhost", *lines])
        inside = ["nsenter", f"--net={network.path}"] if network else []
        command = ["env", "-C", "/", *inside, *_NAMESPACES, "sh", "-c", _ENTER, "sh", self.name, names, mounts, *argv]
        environment = {"PATH": _PATH, "HOME": "/root", "HOSTNAME": self.name, **known}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self.started = time.time()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        assert self.process
        code = self.process.wait()
        self.ended = time.time()
        self.code = 137 if self._killed else 128 - code if code < 0 else code  # some unshare(1) end with 1 then
        self._on_end()

    def stop(self, grace: float) -> None:
        """Ask the first process to end, and kill all after the grace; returns when it has ended."""
        self._stopped = True
        if self.process is None:
            return
        deadline = time.monotonic() + grace
        asked = False
        while self.process.poll() is None and time.monotonic() < deadline:
            if not asked and (first := self._first_process()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(first, signal.SIGTERM)
                asked = True
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self._killed = self.ended is None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first_process() or self.process.pid, signal.SIGKILL)
            self.process.wait()
            while self.ended is None:
                time.sleep(0.005)

    def _first_process(self) -> int | None:
        """What is process number 1 in there, once it is past the preparations."""
        assert self.process
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children and Path(f"/proc/{children[0]}/root").readlink() != Path("/"):
                return int(children[0])
        except OSError:
            pass
        return None
