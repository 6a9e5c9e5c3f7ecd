"""Plain Kubernetes: every attempt of a task is a Job (batch/v1), or one Job for each of its nodes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.execution.kubernetes.options import KubernetesOptions
from nemo_run.core.execution.pods import shipping
from nemo_run.core.execution.pods.client import KubernetesClient, context_namespace
from nemo_run.core.execution.pods.shipping import VolumeClaim
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class KubernetesExecutor(KubernetesOptions):
    """Runs each task as a Job of Kubernetes; nothing has to be installed on the cluster.

    The job's folder is ``/nemo_run`` in the pod; the packaged code is in ``/nemo_run/code``, where the task runs.

    Example:
        >>> import nemo_run as run
        >>> executor = run.KubernetesExecutor(image="pytorch/pytorch", num_nodes=2, gpus_per_node=8)
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)
    """

    def copy_to_workspace(self, local_path: str, remote_path: str) -> None:
        """Copy a file or folder of this machine to a path on ``workdir_pvc``."""
        client, claim = self._workspace()
        with contextlib.closing(client):
            shipping.copy_to_volume(client, claim, Path(local_path), self._on_volume(remote_path))

    def copy_from_workspace(self, remote_path: str, local_path: str) -> None:
        """Copy a file or folder on ``workdir_pvc`` to a path of this machine."""
        client, claim = self._workspace()
        with contextlib.closing(client):
            shipping.copy_from_volume(client, claim, self._on_volume(remote_path), Path(local_path))

    def _workspace(self) -> tuple[KubernetesClient, VolumeClaim]:
        connection = self.connection()
        volume = VolumeClaim.of(self, self.namespace or context_namespace(connection))
        if volume is None:
            raise ExecutorError(f"{type(self).__name__} has no volume to copy to; name its claim with workdir_pvc=")
        return KubernetesClient(connection), volume

    def _on_volume(self, path: str) -> str:
        return str(Path(self.workdir_pvc_path, path))
