"""Tunnels: run commands, and move files, on this machine or on another one, in the same way."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemo_run.core import extras
from nemo_run.core.tunnel.answers import anywhere
from nemo_run.core.tunnel.base import Callback as Callback, PackagingJob as PackagingJob, Tunnel as Tunnel
from nemo_run.core.tunnel.result import RunResult as RunResult
from nemo_run.core.tunnel.ssh import Address, Connection, free_port


@dataclass(kw_only=True)
class LocalTunnel(Tunnel):
    r"""This machine, with the interface of a tunnel.

    Example:
        >>> LocalTunnel().run("echo hello").stdout
        'hello\n'

    Attributes:
        job_dir: Folder of the jobs; the experiment's own folder where it is empty.
    """

    job_dir: str = ""
    host: str = field(init=False, default="localhost")
    user: str = field(init=False, default="")

    def argv(self, command: str, *, tty: bool = False) -> list[str]:
        """Return the arguments of a process that runs a shell command."""
        return ["/bin/sh", "-c", command]

    def posix_argv(self, command: str) -> list[str]:
        """Return the arguments of a process that runs a command; bash hands on exported functions, as dash does not."""
        return [shutil.which("bash") or "/bin/sh", "-c", command]

    def connect(self) -> None:
        """Do nothing: this machine is always there."""

    @property
    def is_connected(self) -> bool:
        """Always."""
        return True

    @property
    def session(self) -> Any:
        """An Invoke context, for code that wants one; invoke is then needed.

        Raises:
            MissingExtraError: invoke is not installed.
        """
        return extras.load("invoke", "compat", "LocalTunnel.session").Context()

    @contextlib.contextmanager
    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> Iterator[int]:
        """Forward a port of this machine to another one, or to one of a host that can be reached from here."""
        from nemo_run.core.tunnel.relay import Relay

        here = local_port or free_port()
        with Relay(here, host, port):
            yield here

    def cleanup(self) -> None:
        """Do nothing."""

    def connection(self) -> dict[str, Any]:
        """Return how to get there."""
        return {"kind": "local"}


@dataclass(kw_only=True)
class SSHTunnel(Tunnel):
    """Another machine, through the OpenSSH client and all that the user has configured for it.

    One connection serves all tunnels to the same address.  A host whose key is not known, or has changed, is not
    connected to, unless the user's SSH configuration says otherwise.

    Example:
        >>> tunnel = SSHTunnel(host="login.example.com", user="me", job_dir="/scratch/me/runs", identity="~/.ssh/id_x")
        >>> tunnel.key
        'me@login.example.com'

    Attributes:
        host: Host name, or an alias in ``~/.ssh/config``.
        user: User there; empty for the one that ``~/.ssh/config`` names.
        port: Port; the one of ``~/.ssh/config`` by default.
        identity: Private key file; those of ``~/.ssh/config`` and of the agent by default.
        shell: Shell that runs the commands, such as ``/bin/bash``; the user's login shell by default.
        pre_command: Shell command that is run before every other one, such as ``module load slurm``.
    """

    host: str
    user: str
    port: int | None = None
    identity: str | None = None
    shell: str | None = None
    pre_command: str | None = None

    @property
    def _connection(self) -> Connection:
        return Connection(Address(self.host, self.user, self.port, self.identity or ""))

    def argv(self, command: str, *, tty: bool = False) -> list[str]:
        """Return the arguments of a process that runs a shell command there."""
        if self.pre_command:
            command = f"{self.pre_command} && {command}"
        if self.shell:
            command = f"{self.shell} -c {shlex.quote(command)}"
        return self._connection.argv(command, tty=tty)

    def posix_argv(self, command: str) -> list[str]:
        """Return the arguments of a process that runs a command of a POSIX shell there, whatever the login shell."""
        return self.argv(anywhere(command))

    def connect(self) -> None:
        """Open the connection, unless it is open.

        Raises:
            TunnelError: It cannot be opened; the message has what ssh said.
        """
        self._connection.open()

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open."""
        return self._connection.is_alive()

    @property
    def session(self) -> Any:
        """A Fabric connection to the same host, for code that wants one; fabric is then needed.

        Raises:
            MissingExtraError: fabric is not installed.
        """
        fabric = extras.load("fabric", "compat", "SSHTunnel.session")
        key = {"key_filename": [str(Path(self.identity).expanduser())]} if self.identity else {}
        return fabric.Connection(self.host, user=self.user or None, port=self.port, connect_kwargs=key)

    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> AbstractContextManager[int]:
        """Forward a port of this machine to a port there; it rides on the same connection, and survives its loss."""
        return self._connection.forward(port, host, local_port)

    def cleanup(self) -> None:
        """Close the connection once what others run over it has ended; it is opened again when it is needed."""
        self._connection.close()

    def connection(self) -> dict[str, Any]:
        """Return how to get there."""
        names = ("host", "user", "port", "identity", "shell", "pre_command")
        return {"kind": "ssh", **{name: value for name, value in asdict(self).items() if name in names}}


def make_tunnel(connection: Mapping[str, Any], job_dir: str = "") -> Tunnel:
    """Return the tunnel that :meth:`Tunnel.connection` described.

    >>> make_tunnel({"kind": "local"}).key
    'localhost'
    """
    options = dict(connection)
    if options.pop("kind") == "local":
        return LocalTunnel(job_dir=job_dir)
    return SSHTunnel(job_dir=job_dir, **options)
