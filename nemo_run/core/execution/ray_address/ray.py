"""Ray where it runs already: no cluster is started, found by a name, or ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.ray_address import RayAddressExecutor
from nemo_run.core.files import folder_name, make_folder, write_text
from nemo_run.core.ray.engine import (
    DASHBOARD_PORT,
    ClusterExecutor,
    ClusterSpec,
    ClusterState,
    ClusterStatus,
    Dashboard,
    KeptJob,
    Record,
)
from nemo_run.core.ray.jobs_api import alive_nodes
from nemo_run.core.ray.proxy import serving
from nemo_run.errors import ExecutorError


class RayByAddress:
    """Clusters of others. Their tokens are in files that the user alone can read, one for each address."""

    def place(self, executor: ClusterExecutor) -> str:
        """Return the address."""
        return _checked(executor).address.rstrip("/")

    def describe(self, spec: ClusterSpec) -> str:
        """Return what is used."""
        return f"the Ray cluster at {self.place(spec.executor)}, which runs already"

    def start(self, spec: ClusterSpec) -> Record:
        """Raise :class:`~nemo_run.errors.ExecutorError`: it runs already."""
        raise ExecutorError(f"the Ray cluster at {self.place(spec.executor)} is somebody else's, and is not started")

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return the record of the cluster at the address, whether it answers or not."""
        executor = _checked(spec.executor)
        executor.check()
        address = self.place(executor)
        if executor.token:
            make_folder(_token_file(address).parent)
            write_text(_token_file(address), executor.token)
        return {"address": address}

    def status(self, record: Record) -> ClusterStatus:
        """Return that it is ready, if it answers."""
        nodes = alive_nodes(_dashboard(record))
        return ClusterStatus(ClusterState.READY, "", nodes, nodes, {"dashboard": record["address"]})

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Yield the address, with the token for it."""
        yield _dashboard(record)

    @contextlib.contextmanager
    def forward(self, record: Record, port: int, target_port: int) -> Iterator[str]:
        """Serve the dashboard on this machine; its address leads to nothing else."""
        if target_port != DASHBOARD_PORT:
            raise ExecutorError(f"of the Ray cluster at {record['address']} only the dashboard can be reached")
        with serving(_dashboard(record), port) as address:
            yield address

    def tail(self, record: Record, lines: int) -> str:
        """Return nothing: the cluster has no log here."""
        return ""

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return nothing: what was seen of a job is kept by those who looked."""
        return None

    def stop(self, record: Record) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError`: it is not ours to end."""
        raise ExecutorError(f"the Ray cluster at {record['address']} is somebody else's, and is not ended")


def _checked(executor: ClusterExecutor) -> RayAddressExecutor:
    if not isinstance(executor, RayAddressExecutor):
        raise ExecutorError(f"a Ray cluster by its address needs a RayAddressExecutor, not {executor!r}")
    return executor


def _token_file(address: str) -> Path:
    return Path(get_nemorun_home(), "ray", "tokens", folder_name(address))


def _dashboard(record: Record) -> Dashboard:
    token = _token_file(record["address"])
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
    return Dashboard(record["address"], headers)
