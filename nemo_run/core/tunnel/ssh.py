"""Connections to other machines through the user's own OpenSSH client.

One connection serves all commands of all processes of this user that go to the same address: OpenSSH's own
multiplexing.  What the user has set up for their terminal (``~/.ssh/config``, agents, jump hosts, hardware keys, known
hosts) holds here too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.files import is_locked, locked
from nemo_run.errors import ExecutorError, TunnelError

_FORWARD = ".forward"  # ending of a file that is locked while a port is forwarded
_IDLE = 600  # seconds that an unused connection stays open
_LONGEST_SOCKET = 80  # of the 104 bytes that a socket's name may have, less what OpenSSH adds while it makes it


@dataclass(frozen=True)
class Address:
    """Where a connection goes to, as far as the user's SSH configuration does not say.

    Attributes:
        host: Host name, or an alias in the SSH configuration.
        user: User there; empty for the one that the SSH configuration names.
        port: Port; ``None`` for the one that the SSH configuration names.
        identity: Private key file; empty for the usual ones.
    """

    host: str
    user: str = ""
    port: int | None = None
    identity: str = ""

    def __post_init__(self) -> None:
        for name, value in (("host", self.host), ("user", self.user)):
            if value.startswith("-") or any(c.isspace() or not c.isprintable() for c in value):
                raise ExecutorError(f"SSHTunnel.{name}: {value!r} cannot be the name of a {name}")
        if not self.host:
            raise ExecutorError("SSHTunnel.host is empty; give a host name, or an alias of your ~/.ssh/config")

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


@dataclass(frozen=True)
class Connection:
    """A connection that is opened when it is needed, and again when it was lost.

    All that is known of it lies beside its socket, so that it is the same for all tunnels and processes.
    """

    address: Address

    def argv(self, command: str, *, tty: bool = False) -> list[str]:
        """Return the arguments of a local process that runs ``command`` there."""
        return ["ssh", "-t" if tty else "-T", "-oClearAllForwardings=yes", *self._options(), command]

    def _options(self) -> list[str]:
        """Return what every call of ssh needs; ends with the host."""
        address = self.address
        options = [f"-oControlPath={self._socket()}", "-oControlMaster=no", "-oRemoteCommand=none"]
        options += [f"-oBatchMode={'no' if _at_a_terminal() else 'yes'}", "-oConnectTimeout=20"]
        options += ["-oServerAliveInterval=15", "-oServerAliveCountMax=3"]
        options += ["-l", address.user] if address.user else []
        options += ["-p", str(address.port)] if address.port else []
        options += ["-i", _existing(address.identity)] if address.identity else []
        return [*options, "--", address.host]

    def _socket(self) -> str:
        name = hashlib.sha256(repr(self.address).encode()).hexdigest()[:16]
        return str(_control_folder() / name)

    def is_alive(self) -> bool:
        """Check whether the connection is open, as far as is known here."""
        return self._control("check").returncode == 0

    def _control(self, what: str, *options: str) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", "-O", what, *options, f"-oControlPath={self._socket()}", "--", self.address.host]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )

    def open(self) -> None:
        """Open the connection, unless it is open.

        Raises:
            TunnelError: It cannot be opened; the message has what ssh said.
        """
        if self.is_alive():
            return
        with locked(Path(f"{self._socket()}.lock")):  # two processes must not open it at once
            if not self.is_alive():
                self._start()

    def _start(self) -> None:
        path = Path(self._socket())
        path.unlink(missing_ok=True)  # what a connection left behind that was cut off
        argv = self.argv("exit 0")
        argv[1:1] = ["-oControlMaster=yes", f"-oControlPersist={_IDLE}"]
        # Not a pipe: the process that stays in the background would hold it open for ever.
        with tempfile.TemporaryFile() as said:
            code = subprocess.run(
                argv, stdin=None if _at_a_terminal() else subprocess.DEVNULL, stdout=said, stderr=said, check=False
            ).returncode
            if code != 0 or not self.is_alive():
                said.seek(0)
                raise TunnelError(_explain(self.address, said.read().decode(errors="replace").strip(), code))
        for forward in self._forwards():
            self._control("forward", "-L", forward)

    def close(self) -> None:
        """Close the connection when the commands that run over it have ended; who comes now opens another one."""
        self._control("stop")

    @contextlib.contextmanager
    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> Iterator[int]:
        """Forward a port of this machine to one that can be reached from there; the port of this machine."""
        if host.startswith("-") or any(c.isspace() for c in host):
            raise ExecutorError(f"cannot forward to {host!r}: that is no host name")
        self.open()
        here = local_port or free_port()
        forward = f"127.0.0.1:{here}:{f'[{host}]' if ':' in host else host}:{port}"
        answer = self._control("forward", "-L", forward)
        if answer.returncode != 0:
            raise TunnelError(
                f"{self.address}: port {here} cannot be forwarded to {host}:{port}: {answer.stderr.strip()}"
            )
        note = Path(f"{self._socket()}.{here}{_FORWARD}")
        with locked(note):  # as long as it is in use
            try:
                note.write_text(forward)
                yield here
            finally:
                note.unlink(missing_ok=True)
                self._control("cancel", "-L", forward)

    def _forwards(self) -> Iterator[str]:
        """Yield the forwards that are in use, in any process; forget those whose process is gone."""
        socket_path = Path(self._socket())
        for note in socket_path.parent.glob(f"{socket_path.name}.*{_FORWARD}"):
            if is_locked(note):
                yield note.read_text()
            else:
                note.unlink(missing_ok=True)


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _explain(address: Address, said: str, code: int) -> str:
    lowered = said.lower()
    if "host key" in lowered or "host identification" in lowered:
        how = f"check the host's key, then accept it once in a terminal: ssh {address}"
    elif "permission denied" in lowered:
        how = f"see in a terminal whether you can log in: ssh {address}; set identity=, or start an SSH agent"
    else:
        how = f"see in a terminal: ssh -v {address}"
    return f"cannot connect to {address}: {said or f'ssh ended with {code}'}\n{how}"


def _existing(identity: str) -> str:
    path = Path(identity).expanduser()
    if not path.is_file():
        raise TunnelError(
            f"SSHTunnel.identity: there is no key file {str(path)!r}; make one with ssh-keygen, or name another"
        )
    return str(path)


def _at_a_terminal() -> bool:
    """Check whether a user can be asked for a password."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _control_folder() -> Path:
    """Return the folder of the sockets of all connections; nobody else can enter it."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime, "nemo-run") if runtime else Path(tempfile.gettempdir(), f"nemo-run-{os.getuid()}")
    if len(os.fsencode(folder)) > _LONGEST_SOCKET - 17:
        folder = Path(f"/tmp/nemo-run-{os.getuid()}")  # noqa: S108  (whose it is is looked at next)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ExecutorError(f"{folder}: must be a folder that only you can enter; remove it, or set XDG_RUNTIME_DIR")
    return folder
