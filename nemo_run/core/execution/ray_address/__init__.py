"""Ray clusters that somebody else manages: jobs are submitted to their addresses, and nothing is started or ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import urlsplit

from nemo_run.core.execution.base import Backend, Executor
from nemo_run.core.rest import is_loopback
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class RayAddressExecutor(Executor):
    """A Ray cluster that runs already, for :class:`~nemo_run.run.ray.job.RayJob`.

    Example:
        >>> RayAddressExecutor(address="http://127.0.0.1:8265").nnodes()
        1

    Attributes:
        address: Address of its dashboard, such as ``http://127.0.0.1:8265``.
        token: With which it lets its users in; kept in a file of your own, for that address only.
    """

    engine: ClassVar[str] = "ray_address"

    address: str = ""
    token: str = field(default="", repr=False)

    def nnodes(self) -> int:
        """Return 1: how many nodes there are is the cluster's own affair."""
        return 1

    def nproc_per_node(self) -> int:
        """Return 1, for the same reason."""
        return 1

    def backend(self) -> Backend:
        """Raise :class:`~nemo_run.errors.ExecutorError`: this executor is for Ray jobs only."""
        raise ExecutorError("a Ray cluster that runs already runs Ray jobs: use RayJob(name=…, address=…)")

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the address is none, or the token would be readable."""
        super().check()
        url = urlsplit(self.address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ExecutorError(f"address={self.address!r}: give that of the dashboard, such as http://127.0.0.1:8265")
        if url.username or url.password or url.query or url.fragment:
            raise ExecutorError("address: it has more than a host, a port and a path; a token is given as token=…")
        if self.token and url.scheme == "http" and not is_loopback(self.address):
            raise ExecutorError(
                f"a token would be readable on its way to {self.address}: give an address with https://, or forward "
                "the port to this machine and give http://127.0.0.1:PORT"
            )
