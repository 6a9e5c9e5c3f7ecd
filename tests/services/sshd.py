"""An SSH server on the loopback interface, which takes one key, and a client configuration that knows it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.services import installed


def available() -> bool:
    """Can this machine run an SSH server?"""
    return installed(("sshd", "ssh-keygen", "ssh"), ("openssh-server", "openssh-client"))


class Sshd:
    """The server. As root it lets in any user of ``users``, else the user who started it.

    Args:
        users: Who is let in.
        environment: Variables that those who log in find.
    """

    def __init__(self, users: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-sshd-"))
        self.folder.chmod(0o755)
        self.users = users or (getpass.getuser(),)
        self.host, self.port = "127.0.0.1", _free_port()
        self.identity = self.folder / "id_ed25519"
        self.known_hosts = self.folder / "known_hosts"
        self.config = self.folder / "ssh_config"
        self._process: subprocess.Popen[bytes] | None = None
        self.make_key(self.folder / "host_key")
        self.make_key(self.identity)
        self._configure(environment or {})

    @staticmethod
    def make_key(path: Path) -> None:
        """Make a key pair."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)

    def _configure(self, environment: Mapping[str, str]) -> None:
        keys = self.folder / "keys"
        keys.mkdir()
        for user in self.users:
            shutil.copy(self.identity.with_suffix(".pub"), keys / user)
        (self.folder / "sshd_config").write_text(f"""
            ListenAddress {self.host}
            Port {self.port}
            HostKey {self.folder}/host_key
            PidFile none
            AuthorizedKeysFile {keys}/%u
            StrictModes no
            UsePAM no
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            PermitRootLogin prohibit-password
            MaxSessions 100
            Subsystem sftp internal-sftp
            {"SetEnv " + " ".join(f"{name}={value}" for name, value in environment.items()) if environment else ""}
        """)
        (self.folder / "run").mkdir(mode=0o700)
        self.trust_host()
        self.config.write_text(f"""
            Host cluster
              HostName {self.host}
              Port {self.port}
              User {self.users[0]}
              IdentityFile {self.identity}
            Host *
              IdentitiesOnly yes
              UserKnownHostsFile {self.known_hosts}
              GlobalKnownHostsFile /dev/null
        """)
        program = self.folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.config} "$@"\n')
        program.chmod(0o755)

    def trust_host(self) -> None:
        """Make the host's key a known one."""
        key = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {key}")

    def client_environment(self) -> dict[str, str]:
        """Variables with which the client uses this configuration, and connections of its own."""
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(self.folder / "run")}

    def start(self) -> None:
        """Start the server and wait until it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        log = self.folder / "log"
        argv = [program, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(log)]
        self._process = subprocess.Popen(argv, start_new_session=True)
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as s:
                if s.connect_ex((self.host, self.port)) == 0:
                    return
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the server and all its connections at once."""
        if self._process is None:
            return
        for pid in [*_children(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):  # it ended with the one before it
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End the server and remove its files."""
        self.kill()
        shutil.rmtree(self.folder)


def _children(pid: int) -> list[int]:
    """The processes that serve connections. What these have started is left alone, as on a real host."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            name = (path / "comm").read_text().strip()
        except OSError:
            continue
        if parent == pid and name == "sshd":
            child = int(path.name)
            found += [*_children(child), child]
    return found


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
