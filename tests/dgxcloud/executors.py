"""Executors for the service of the tests."""

from __future__ import annotations

from typing import Any

from nemo_run.core.execution.dgxcloud import DGXCloudExecutor
from nemo_run.core.packaging.base import Packager
from tests.dgxcloud import server

_running: list[server.Server] = []


def use(service: server.Server) -> None:
    """From now on, executors are for this service."""
    _running[:] = [service]


def make_executor(*, mounted: bool = False, **options: Any) -> DGXCloudExecutor:
    """An executor; the volume is mounted here, or not."""
    service = _running[0]
    path = str(service.volume) if mounted else server.VOLUME
    defaults: dict[str, Any] = {
        "base_url": f"{service.url}/api/v1",
        "kube_apiserver_url": f"{service.url}/kube",
        "client_id": server.CLIENT,
        "client_secret": server.SECRET,
        "project_name": server.PROJECT,
        "container_image": server.IMAGE,
        "pvc_nemo_run_dir": f"{path}/nemo_run",
        "pvcs": [{**server.CLAIM, "path": path}],
        "launched_from_cluster": mounted,
        "packager": Packager(),
    }
    return DGXCloudExecutor(**{**defaults, **options})
