"""DGX Cloud Lepton: every attempt of a task is one job there, with one replica for every node."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command, JobState
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.execution.lepton.backend import LeptonBackend, name_in
from nemo_run.core.execution.lepton.client import LeptonClient, default_connection
from nemo_run.core.execution.lepton.log import print_log
from nemo_run.core.execution.lepton.options import LeptonOptions
from nemo_run.core.execution.lepton.shipping import MountTransfer
from nemo_run.core.execution.lepton.spec import LeptonJobState
from nemo_run.core.execution.shared.small_tar import folder_archive
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class LeptonExecutor(LeptonOptions):
    """Runs each task as a job on DGX Cloud Lepton.

    The image needs ``sh``, ``tar`` and ``base64``, and for functions Python 3.9 or newer. The workspace is the one of
    ``LEPTON_WORKSPACE_ID`` and ``LEPTON_WORKSPACE_TOKEN``, or of ``lep login``.

    Example:
        >>> import nemo_run as run
        >>> executor = run.LeptonExecutor(
        ...     container_image="nvcr.io/nvidia/nemo:25.07", nemo_run_dir="/mnt/nemo", nodes=2, gpus_per_node=8,
        ...     resource_shape="gpu.8xh100-sxm", node_group="my-group", launcher="torchrun",
        ...     mounts=[{"path": "/", "mount_path": "/mnt", "from": "node-nfs:shared"}],
        ... )
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)
    """

    engine: ClassVar[str] = "lepton"

    def connection(self) -> dict[str, Any]:
        """Return the workspace that the ``lep`` command would use."""
        return dict(default_connection())

    def launch(self, name: str, cmd: list[str]) -> tuple[str, LeptonJobState]:
        """Start a command as a job, in the folder that :meth:`assign` has set; the job's id and its state."""
        if not self.job_dir:
            raise ExecutorError("LeptonExecutor.launch: there is no folder for the job yet; call assign() first")
        self.check()
        request = TaskRequest(
            self.experiment_id or "", name, self.job_dir, self, Command(tuple(cmd), dict(self.env_vars))
        )
        backend = LeptonBackend()
        try:
            (plan,) = backend.render([request])
            backend.preflight([plan])
            job_id = name_in(backend.start(plan))
            return job_id, self.status(job_id)
        finally:
            backend.close()

    def status(self, job_id: str) -> LeptonJobState:
        """Return the state of a job as Lepton names it; ``Running`` only where all its replicas run."""
        with _connected() as client:
            job = client.job(job_id) or {}
        said = LeptonJobState((job.get("status") or {}).get("state") or "UNK")
        waits = said is LeptonJobState.Running and bodies.job_state(job)[0] is JobState.PENDING
        return LeptonJobState.Starting if waits else said

    def stop_job(self, job_id: str) -> None:
        """Ask a job to end."""
        with _connected() as client:
            client.stop(job_id)

    def cancel(self, job_id: str) -> None:
        """Delete a job, which ends it."""
        with _connected() as client:
            client.delete(job_id)

    @classmethod
    def logs(cls, app_id: str, fallback_path: str | None) -> None:  # noqa: ARG003
        """Print the log of a job's first replica until it ends."""
        with _connected() as client:
            print_log(client, re.sub(r"^(?:.*?___){2}", "", app_id))

    def create_lepton_job(self, name: str) -> dict[str, Any]:
        """Create a job that runs ``launch_script.sh`` of the job's folder on the mount; the job."""
        command = ["/bin/bash", "-c", f"bash {self.lepton_job_dir}/launch_script.sh"]
        envs = bodies.variables(self.env_vars, self.secret_vars)
        with _connected() as client:
            group = client.node_group_id(self.node_group) if self.node_group else ""
            client.create(bodies.creation(name, bodies.lepton_spec(self), command, envs, group))
            return client.job(name) or {}

    def move_data(
        self,
        sleep: float = 10,
        timeout: int = 600,
        poll_interval: int = 5,
        unknowns_grace_period: int = 60,
    ) -> None:
        """Copy the job's folder to ``lepton_job_dir`` on the mount."""
        with _connected() as client:
            mount = MountTransfer.of_options(client, self)
            mount.send_folder(Path(self.job_dir), self.lepton_job_dir, timeout)

    def copy_directory_data_command(self, local_dir_path: str, dest_path: str) -> list[str]:
        """Return the command that unpacks a small folder of this machine somewhere else."""
        return bodies.unpack_command(dest_path, folder_archive(Path(local_dir_path)))


def _connected() -> closing[LeptonClient]:
    """Connect to the workspace of this process."""
    return closing(LeptonClient(default_connection()))
