"""DGX Cloud (Run:ai): every attempt of a task is one workload, its files lie on a persistent volume."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nemo_run.core.execution.dgxcloud import spec as bodies, standalone
from nemo_run.core.execution.dgxcloud.backend import DGXCloudBackend, backend_of
from nemo_run.core.execution.dgxcloud.options import DGXCloudOptions

if TYPE_CHECKING:
    import httpx


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
class DGXCloudExecutor(DGXCloudOptions):
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
    """

    engine: ClassVar[str] = "dgxcloud"

    def backend(self) -> DGXCloudBackend:
        """Return the engine behind this executor."""
        return backend_of(self)

    # without an experiment

    def get_auth_token(self) -> str | None:
        """Return a bearer token of the service."""
        return standalone.token_of(self)

    def get_project_and_cluster_id(self, token: str) -> tuple[str | None, str | None]:
        """Return the ids of the project and of its cluster."""
        project = standalone.project_of(self)
        return project["id"], project["clusterId"]

    def launch(self, name: str, cmd: list[str]) -> tuple[str, str]:
        """Bring the job's folder to the volume and run a command there: id and phase of the workload."""
        Path(self.job_dir, "launch_script.sh").write_text(standalone.launch_script(self, cmd))
        project = standalone.project_of(self)
        self.move_data("", project["id"], project["clusterId"])
        safe = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        made = self.create_training_job("", project["id"], project["clusterId"], safe).json()
        return made["workloadId"], made["actualPhase"]

    def create_training_job(self, token: str, project_id: str, cluster_id: str, name: str) -> httpx.Response:
        """Create a workload that runs ``launch_script.sh`` of the job's folder on the volume."""
        command = f"/bin/bash {self.pvc_job_dir}/launch_script.sh"
        return standalone.create(self, project_id, cluster_id, name, command)

    def move_data(self, token: str, project_id: str, cluster_id: str, sleep: float = 10) -> None:
        """Bring the job's folder to the volume."""
        standalone.move_folder(self, self.job_dir, self.pvc_job_dir)

    def copy_directory_data_command(self, local_dir_path: str, dest_path: str) -> str:
        """Return a shell command that makes, where it is run, a folder like one of this machine."""
        return standalone.copy_command(local_dir_path, dest_path)

    def deploy_script_to_pvc(
        self,
        script_content: str,
        dest_path: str,
        token: str | None = None,
        project_id: str | None = None,
        cluster_id: str | None = None,
    ) -> None:
        """Write an executable file on the volume."""
        standalone.move_text(self, script_content, dest_path)

    def status(self, job_id: str) -> DGXCloudState | None:
        """Return the phase of a workload; ``None`` where it is gone."""
        with standalone.opened(self) as backend:
            workload = backend.client.get(standalone.kind_of(self), job_id)
        return DGXCloudState(bodies.phase_name(workload)) if workload else None

    def fetch_logs(
        self, job_id: str, stream: bool, stderr: bool | None = None, stdout: bool | None = None
    ) -> Iterable[str]:
        """Return the lines that a workload has written; with ``stream``, until it ends."""
        return standalone.follow(self, job_id) if stream else standalone.lines(self, job_id)

    def cancel(self, job_id: str) -> None:
        """Suspend a workload."""
        with standalone.opened(self) as backend:
            backend.client.suspend(standalone.kind_of(self), job_id)

    def delete_workload(self, token: str, workload_id: str) -> None:
        """Delete a workspace."""
        with standalone.opened(self) as backend:
            backend.client.delete(bodies.WORKSPACES, workload_id)
