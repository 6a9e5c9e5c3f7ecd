"""The executor of DGX Cloud (Run:ai): every attempt of a task is one workload, its files lie on a persistent volume."""

from __future__ import annotations

import enum
import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.dgxcloud import spec as bodies, standalone as direct
from nemo_run.core.execution.dgxcloud.client import (
    remember_secret,
)
from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    import httpx

    from nemo_run.core.execution.dgxcloud.backend import DGXCloudBackend


class DGXCloudState(enum.Enum):
    """Phase of a workload, as the service calls it."""

    CREATING = "Creating"
    INITIALIZING = "Initializing"
    RESUMING = "Resuming"
    PENDING = "Pending"
    DELETING = "Deleting"
    RUNNING = "Running"
    UPDATING = "Updating"
    STOPPED = "Stopped"
    STOPPING = "Stopping"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    COMPLETED = "Completed"
    TERMINATING = "Terminating"
    UNKNOWN = "Unknown"


@dataclass(kw_only=True)
class DGXCloudExecutor(Executor):
    """Runs each task as a workload of NVIDIA DGX Cloud (Run:ai), on one node or on several.

    Example:
        >>> import nemo_run as run
        >>> executor = run.DGXCloudExecutor(
        ...     base_url="https://mycloud.example/api/v1",
        ...     kube_apiserver_url="https://cluster.example:6443",
        ...     client_id="me",
        ...     client_secret="…",
        ...     project_name="team",
        ...     container_image="nvcr.io/nvidia/nemo:25.04",
        ...     pvc_nemo_run_dir="/workspace/nemo_run",
        ...     pvcs=[{"path": "/workspace", "claimName": "team-volume", "existingPvc": True}],
        ...     gpus_per_node=8,
        ... )
        >>> executor.nproc_per_node()
        8

    Attributes:
        base_url: The service's API, ``https://HOST/api/v1``.
        kube_apiserver_url: The Kubernetes API of the cluster, for logs, exit codes and artifacts; may be empty where
            the volume is mounted here.
        client_id: Name of the client (access key, or service account).
        client_secret: Its secret. Kept in ``credentials`` in the NeMo-Run home, readable by its owner only, and nowhere
            else; empty: ``$DGXCLOUD_CLIENT_SECRET``, or what was kept.
        project_name: The project; empty for the first one.
        container_image: The image; it needs ``/bin/sh`` and, for functions and Python scripts, Python 3.10 or newer.
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

    engine: ClassVar[str] = "dgxcloud"

    base_url: str
    kube_apiserver_url: str
    client_id: str
    client_secret: str = field(repr=False)
    project_name: str
    container_image: str
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

    def backend(self) -> DGXCloudBackend:
        """The engine behind this executor."""
        from nemo_run.core.execution.dgxcloud.backend import DGXCloudBackend

        remember_secret(self.base_url.rstrip("/"), self.client_id, self.client_secret)
        return DGXCloudBackend(**self.connection())

    def connection(self) -> dict[str, Any]:
        """How to reach the service, as plain JSON values and without the secret."""
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
        """Number of nodes."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Processes on each node: one for each GPU, where there are any."""
        return self.gpus_per_node or self.nprocs_per_node or 1

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        where = type(self).__name__
        for name in ("base_url", "kube_apiserver_url"):
            value = getattr(self, name)
            if not re.match(r"https?://[^\s/]+", value) and (value or name == "base_url"):
                raise ExecutorError(f"{where}.{name}={value!r} is not an address; write https://HOST/…")
        if not self.container_image or self.container_image.split() != [self.container_image]:
            raise ExecutorError(f"{where}.container_image: {self.container_image!r} is not the name of an image")
        if self.nodes < 1 or self.gpus_per_node < 0:
            raise ExecutorError(f"{where}: nodes={self.nodes} and gpus_per_node={self.gpus_per_node} cannot be had")
        if not 1000 <= self.MAX_ARGS_CHARS <= 10_000:
            raise ExecutorError(f"{where}.MAX_ARGS_CHARS={self.MAX_ARGS_CHARS}; it is from 1000 to 10000")
        for name, value in (("custom_spec", self.custom_spec), ("pvcs", self.pvcs)):
            try:
                json.dumps(value)
            except (TypeError, ValueError) as e:
                raise ExecutorError(f"{where}.{name} must be values that JSON can hold: {e}") from None
        self._check_volume()

    def _check_volume(self) -> None:
        where, folder = type(self).__name__, self.pvc_nemo_run_dir
        if not bodies.PLAIN_PATH.match(folder):
            raise ExecutorError(f"{where}.pvc_nemo_run_dir={folder!r} must be an absolute path of plain characters")
        paths = [str(pvc.get("path", "")) for pvc in self.pvcs]
        if not any(path and f"{posixpath.normpath(folder)}/".startswith(f"{path.rstrip('/')}/") for path in paths):
            raise ExecutorError(
                f"{where}.pvc_nemo_run_dir={folder!r} is on none of the volumes in pvcs, which are at "
                f"{', '.join(paths) or 'no path'}; add the claim that holds it, or correct one of the paths"
            )

    def get_launcher_prefix(self) -> list[str] | None:
        """Profiler arguments that the launcher wants before the command; its files go to the job's folder."""
        return self.get_launcher().get_nsys_prefix(profile_dir=self.pvc_job_dir or "/nemo_run")

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self._check_volume()
        self.pvc_job_dir = bodies.volume_folder(self.pvc_nemo_run_dir, get_nemorun_home(), self.job_dir)

    # without an experiment

    def get_auth_token(self) -> str | None:
        """A bearer token of the service."""
        return direct.token_of(self)

    def get_project_and_cluster_id(self, token: str) -> tuple[str | None, str | None]:
        """Ids of the project and of its cluster."""
        project = direct.project_of(self)
        return project["id"], project["clusterId"]

    def launch(self, name: str, cmd: list[str]) -> tuple[str, str]:
        """Bring the job's folder to the volume and run a command there: id and phase of the workload."""
        Path(self.job_dir, "launch_script.sh").write_text(direct.launch_script(self, cmd))
        project = direct.project_of(self)
        self.move_data("", project["id"], project["clusterId"])
        safe = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        made = self.create_training_job("", project["id"], project["clusterId"], safe).json()
        return made["workloadId"], made["actualPhase"]

    def create_training_job(self, token: str, project_id: str, cluster_id: str, name: str) -> httpx.Response:
        """Create a workload that runs ``launch_script.sh`` of the job's folder on the volume."""
        command = f"/bin/bash {self.pvc_job_dir}/launch_script.sh"
        return direct.create(self, project_id, cluster_id, name, command)

    def move_data(self, token: str, project_id: str, cluster_id: str, sleep: float = 10) -> None:
        """Bring the job's folder to the volume."""
        direct.move_folder(self, self.job_dir, self.pvc_job_dir)

    def copy_directory_data_command(self, local_dir_path: str, dest_path: str) -> str:
        """A shell command that makes, where it is run, a folder like one of this machine."""
        return direct.copy_command(local_dir_path, dest_path)

    def deploy_script_to_pvc(
        self,
        script_content: str,
        dest_path: str,
        token: str | None = None,
        project_id: str | None = None,
        cluster_id: str | None = None,
    ) -> None:
        """Write an executable file on the volume."""
        direct.move_text(self, script_content, dest_path)

    def status(self, job_id: str) -> DGXCloudState | None:
        """Phase of a workload; ``None`` where it is gone."""
        with direct.opened(self) as backend:
            workload = backend.service.get(direct.kind_of(self), job_id)
        return DGXCloudState(bodies.phase_name(workload)) if workload else None

    def fetch_logs(
        self, job_id: str, stream: bool, stderr: bool | None = None, stdout: bool | None = None
    ) -> Iterable[str]:
        """Lines that a workload has written; with ``stream``, until it ends."""
        return direct.follow(self, job_id, stream=stream)

    def cancel(self, job_id: str) -> None:
        """Suspend a workload."""
        with direct.opened(self) as backend:
            backend.service.suspend(direct.kind_of(self), job_id)

    def delete_workload(self, token: str, workload_id: str) -> None:
        """Delete a workspace."""
        with direct.opened(self) as backend:
            backend.service.delete(bodies.WORKSPACES, workload_id)
