"""Kubeflow Trainer: every attempt of a task is a TrainJob, whose pods a runtime of the cluster describes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nemo_run.core.execution.kubeflow import standalone
from nemo_run.core.execution.kubeflow.backend import served_field
from nemo_run.core.execution.kubeflow.options import KubeflowOptions
from nemo_run.core.execution.kubeflow.spec import described_body, slug
from nemo_run.core.execution.kubeflow.standalone import KubeflowJobState
from nemo_run.core.execution.kubeflow.train_job import API_VERSION, KIND, for_version
from nemo_run.core.execution.pods import shipping
from nemo_run.core.execution.pods.shipping import VolumeClaim
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class KubeflowExecutor(KubeflowOptions):
    """Runs each task as a TrainJob of Kubeflow Trainer (2.0 and later).

    Example:
        >>> import nemo_run as run
        >>> executor = run.KubeflowExecutor(image="pytorch/pytorch", num_nodes=2, gpus_per_node=8, launcher="torchrun")
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)
    """

    def get_job_body(self, name: str, command: list[str]) -> dict[str, Any]:
        """Return the TrainJob that runs a command as it is, for Kubeflow Trainer 2.1. Pure."""
        return for_version("podTemplateOverrides", described_body(self, name, command))

    def copy_to_workspace(self, local_path: str, remote_path: str, label: str = "datamover") -> None:
        """Copy a file or folder of this machine to a path on ``workdir_pvc``, if there is one."""
        if claim := VolumeClaim.of(self, self.namespace):
            with standalone.connected(self) as client:
                shipping.copy_to_volume(client, claim, Path(local_path), self._on_volume(remote_path))

    def copy_from_workspace(self, remote_path: str, local_path: str, label: str = "datamover") -> None:
        """Copy a file or folder on ``workdir_pvc`` to a path of this machine, if there is one."""
        if claim := VolumeClaim.of(self, self.namespace):
            with standalone.connected(self) as client:
                shipping.copy_from_volume(client, claim, self._on_volume(remote_path), Path(local_path))

    # without an experiment

    def launch(
        self, name: str, cmd: list[str], wait: bool = False, timeout: int = 300, poll_interval: int = 10
    ) -> tuple[str, KubeflowJobState]:
        """Create a TrainJob that runs a command as it is, outside of any experiment.

        Returns:
            The name of the TrainJob, and its state.
        """
        with standalone.connected(self) as client:
            field = served_field(client)
        name = slug(self.train_job_basename or name)
        job = for_version(field, described_body(self, name, cmd), name)
        state = standalone.create(self, job)
        if wait:
            state = standalone.wait_until_running(self, name, timeout, poll_interval)
        return name, state

    def status(self, job_name: str) -> KubeflowJobState | None:
        """Return the state of a TrainJob; ``None`` if there is none."""
        with standalone.connected(self) as client:
            return standalone.state_of(client.get(API_VERSION, KIND, self.namespace, job_name))

    def fetch_logs(self, job_name: str, stream: bool = False, lines: int = 100, timeout: int = 60) -> Iterable[str]:
        """Return the last lines of the logs of a TrainJob, or with ``stream`` all lines until it has ended."""
        return standalone.follow(self, job_name) if stream else standalone.last_lines(self, job_name, lines)

    def cancel(self, job_name: str, wait: bool = False, timeout: int = 300, poll_interval: int = 5) -> bool | None:
        """Delete a TrainJob; with ``wait``, return whether it and its pods are gone in time."""
        there = standalone.delete(self, job_name)
        return standalone.is_gone_within(self, job_name, timeout, poll_interval) if there and wait else None

    def materialize_launch_script(self, cmd: list[str], max_retries: int = 0) -> None:
        """Write ``launch.sh`` into the job's folder; the words of the command are a line of shell."""
        standalone.write_launch_script(self, cmd, max_retries)

    def package(self, packager: Packager, job_name: str) -> None:
        """Copy the job's folder and ``workdir_local_path`` to ``code_dir``, if there is a volume."""
        for folder in filter(None, (self.workdir_local_path, self.job_dir)):
            self.copy_to_workspace(folder, self.code_dir, label=job_name)

    def pull_results(self, job_name: str, dest_dir: str | None = None) -> None:
        """Copy what is in ``code_dir`` to a folder of this machine; by default to the job's folder."""
        target = dest_dir or self.job_dir
        if not target:
            raise ExecutorError(f"pull_results({job_name!r}): say where to with dest_dir=")
        self.copy_from_workspace(self.code_dir, target, label=job_name)

    def _on_volume(self, path: str) -> str:
        return str(PurePosixPath(self.workdir_pvc_path, path))
