"""The way to a pod: commands there, and ports of it, through the API of its cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.core.execution.pods.streams import execute, forwarded
from nemo_run.core.tunnel.client import Tunnel
from nemo_run.errors import CommandError, ExecutorError


@dataclass(kw_only=True)
class PodTunnel(Tunnel):
    """The way to a container of a running pod.

    Attributes:
        client: The client of its cluster, which its owner closes.
        namespace: Its namespace.
        container: The container.
    """

    client: KubernetesClient = field(repr=False)
    namespace: str
    container: str

    def execute(self, command: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        """Run a command of a POSIX shell in the container; what it writes. Where no pod runs yet, that is nothing.

        Raises:
            CommandError: Its exit code is not 0.
        """
        if not self.host:
            return b""
        argv = ("/bin/sh", "-c", command)
        done = execute(self.client, self.namespace, self.host, argv, container=self.container, stdin=stdin or None)
        if done.exit_code:
            words = done.stderr.decode(errors="replace").strip()
            raise CommandError(f"pod {self.host!r}: exit code {done.exit_code}: {words}", done)
        return done.stdout

    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> AbstractContextManager[int]:
        """Forward a port of this machine to one of the pod, whatever the host is called there."""
        return forwarded(self.client, self.namespace, self.host, port, local_port or 0)

    def connect(self) -> None:
        """Do nothing: every command connects by itself."""

    @property
    def is_connected(self) -> bool:
        """Whether commands get there now."""
        return True

    def cleanup(self) -> None:
        """Do nothing: the client is closed by its owner."""

    def argv(self, command: str, *, tty: bool = False) -> list[str]:
        """Raise an error: no process of this machine leads there."""
        raise ExecutorError(f"no process leads to pod {self.host!r}; use: kubectl exec -it {self.host} -- sh")

    def posix_argv(self, command: str) -> list[str]:
        """Raise an error: no process of this machine leads there."""
        return self.argv(command)

    def connection(self) -> dict[str, Any]:
        """Raise an error: the way is made anew for every command."""
        raise ExecutorError(f"the way to pod {self.host!r} cannot be stored")
