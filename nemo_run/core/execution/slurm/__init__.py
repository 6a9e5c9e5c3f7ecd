"""The Slurm engine: tasks as batch jobs of a cluster, from a node of it or through SSH."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from nemo_run.core.execution.shared.findings import Finding
from nemo_run.core.execution.slurm.interactive import (
    InteractiveSlurm,
    examine,
    note_space as note_space,
    read_space as read_space,
    space_folder as space_folder,
)
from nemo_run.core.execution.slurm.options import (
    ResourceRequest,
    SlurmJobDetails as SlurmJobDetails,
    get_packaging_job_key as get_packaging_job_key,
)
from nemo_run.core.packaging.archive import package_digest
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import LocalTunnel as LocalTunnel, PackagingJob, SSHTunnel as SSHTunnel
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class SlurmExecutor(InteractiveSlurm):
    """Runs tasks on a Slurm cluster: from a machine of the cluster, or from elsewhere through an SSH tunnel.

    Every option of ``sbatch`` that is a field has the name that it has there; any other goes into
    ``additional_parameters``.

    Example:
        >>> import nemo_run as run
        >>> executor = run.SlurmExecutor(
        ...     account="research", partition="gpu", nodes=2, gpus_per_node=8, time="04:00:00",
        ...     tunnel=run.SSHTunnel(host="login.example.com", user="me", job_dir="/scratch/me/runs"),
        ... )
        >>> executor.nproc_per_node()
        8
    """

    ResourceRequest: ClassVar[type[ResourceRequest]] = ResourceRequest

    def examine(self) -> Iterable[Finding]:
        """Look at the cluster before a first job: login shell, commands, clocks, folder, accounts, limits, a node."""
        return examine(self, self.slurm)

    def package(self, packager: Packager, job_name: str) -> None:
        """Note for a job that its code lies on the cluster already, where its packager says so."""
        source = packager.symlink_from_remote_dir
        key = get_packaging_job_key(str(self.experiment_id), job_name)
        self.tunnel.packaging_jobs[key] = PackagingJob(
            symlink=bool(source), src_path=source, dst_path=f"{self.tunnel.job_dir}/{job_name}/code" if source else None
        )

    def note_package(self, archive: str, job_name: str) -> None:
        """Note in the tunnel where the cluster has a job's code, for those who link to it instead of sending it."""
        self.package(self.packager, job_name)
        if archive:
            key = get_packaging_job_key(str(self.experiment_id), job_name)
            base = self.tunnel.job_dir.rstrip("/") or str(Path(self.experiment_dir).parents[1])
            code = f"{base}/.packages/{package_digest(archive)[:32]}"
            self.tunnel.packaging_jobs[key] = PackagingJob(dst_path=code)

    @classmethod
    def merge(cls, executors: list[SlurmExecutor], num_tasks: int) -> SlurmExecutor:
        """Return the first executor, which knows the resources of all tasks of a job group.

        Args:
            executors: One for all tasks, or one for each.
            num_tasks: Number of tasks.

        Raises:
            ExecutorError: Their numbers do not fit.
        """
        if len(executors) not in (1, num_tasks):
            raise ExecutorError(f"{len(executors)} executors for {num_tasks} tasks: give one for all, or one for each")
        first = executors[0]
        first.run_as_group = True
        if len(executors) == 1 and not first.heterogeneous:
            return first
        indices = first.component_indices(num_tasks)
        names = {f.name for f in fields(ResourceRequest)} - {"het_group_index"}
        first.resource_group = [
            ResourceRequest(
                **{name: deepcopy(getattr(one, name)) for name in names},
                het_group_index=index if first.het_group_indices else None,
            )
            for one, index in zip(executors if len(executors) > 1 else executors * num_tasks, indices, strict=True)
        ]
        return first
