"""What a user says about workloads on DGX Cloud."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.shared.checks import check_at_least, check_image, check_json
from nemo_run.core.execution.shared.service_names import folder_there
from nemo_run.core.images import Image
from nemo_run.errors import ExecutorError

PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.,+@=/-]*\Z")
"""Paths that need no quotes: what is sent to the service is quoted by it once more."""


@dataclass(kw_only=True)
class DGXCloudOptions(Executor):
    """The options of a workload on DGX Cloud.

    Attributes:
        base_url: The service's API, ``https://HOST/api/v1``.
        kube_apiserver_url: The Kubernetes API of the cluster, for logs, exit codes and artifacts; may be empty where
            the volume is mounted here.
        client_id: Name of the client (access key, or service account).
        client_secret: Its secret. Kept in ``credentials`` in the NeMo-Run home, readable by its owner only, and nowhere
            else; empty: ``$DGXCLOUD_CLIENT_SECRET``, or what was kept.
        project_name: The project; empty for the first one.
        container_image: The image; it needs ``/bin/sh`` and, for functions and Python scripts, Python 3.9 or newer.
        pvc_nemo_run_dir: Folder on one of ``pvcs`` in which jobs run.
        launched_from_cluster: The volume is mounted on this machine, too, at the same path.
        nodes: Number of nodes.
        gpus_per_node: GPUs of each node.
        nprocs_per_node: Processes that a launcher starts on each node, where there are no GPUs.
        pvcs: Persistent volume claims to mount, as the service describes them.
        distributed_framework: Framework of a workload on several nodes.
        custom_spec: Further fields of the workload's ``spec``, which go before all others.
        MAX_ARGS_CHARS: Length of the longest command that is sent; the service takes 10,000 characters.
    """

    base_url: str
    kube_apiserver_url: str
    client_id: str
    client_secret: str = field(repr=False)
    project_name: str
    container_image: str | Image
    pvc_nemo_run_dir: str
    launched_from_cluster: bool = False
    nodes: int = 1
    gpus_per_node: int = 0
    nprocs_per_node: int = 1
    pvc_job_dir: str = field(init=False, default="")
    pvcs: list[dict[str, Any]] = field(default_factory=list)
    distributed_framework: str = "PyTorch"
    custom_spec: dict[str, Any] = field(default_factory=dict)
    MAX_ARGS_CHARS: int = 9500

    def connection(self) -> dict[str, Any]:
        """Return how to reach the service, as plain JSON values and without the secret."""
        return {
            "base_url": self.base_url.rstrip("/"),
            "kube_apiserver_url": self.kube_apiserver_url,
            "client_id": self.client_id,
            "project_name": self.project_name,
            "pvcs": self.pvcs,
            "mounted": self.launched_from_cluster,
            "longest_command": self.MAX_ARGS_CHARS,
        }

    def nnodes(self) -> int:
        """Return the number of nodes."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Return the processes on each node: one for each GPU, where there are any."""
        return self.gpus_per_node or self.nprocs_per_node or 1

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        where = type(self).__name__
        for name in ("base_url", "kube_apiserver_url"):
            value = getattr(self, name)
            if not re.match(r"https?://[^\s/]+", value) and (value or name == "base_url"):
                raise ExecutorError(f"{where}.{name}={value!r} is not an address; write https://HOST/…")
        check_image(f"{where}.container_image", self.container_image)
        check_at_least(f"{where}.nodes", self.nodes, 1)
        check_at_least(f"{where}.gpus_per_node", self.gpus_per_node, 0)
        if not 1000 <= self.MAX_ARGS_CHARS <= 10_000:
            raise ExecutorError(f"{where}.MAX_ARGS_CHARS={self.MAX_ARGS_CHARS}; it is from 1000 to 10000")
        check_json(f"{where}.custom_spec", self.custom_spec)
        check_json(f"{where}.pvcs", self.pvcs)
        self._check_volume()

    def _check_volume(self) -> None:
        where, folder = type(self).__name__, self.pvc_nemo_run_dir
        if not PLAIN_PATH.match(folder):
            raise ExecutorError(f"{where}.pvc_nemo_run_dir={folder!r} must be an absolute path of plain characters")
        paths = [str(pvc.get("path", "")) for pvc in self.pvcs]
        if not any(path and f"{posixpath.normpath(folder)}/".startswith(f"{path.rstrip('/')}/") for path in paths):
            raise ExecutorError(
                f"{where}.pvc_nemo_run_dir={folder!r} is on none of the volumes in pvcs, which are at "
                f"{', '.join(paths) or 'no path'}; add the claim that holds it, or correct one of the paths"
            )

    def get_launcher_prefix(self) -> list[str] | None:
        """Return the profiler arguments that go before the command; its files go to the job's folder."""
        return self.get_launcher().get_nsys_prefix(profile_dir=self.pvc_job_dir or "/nemo_run")

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Note which job the executor is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self._check_volume()
        self.pvc_job_dir = folder_there(self.pvc_nemo_run_dir, get_nemorun_home(), self.job_dir)
