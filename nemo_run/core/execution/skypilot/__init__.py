"""SkyPilot's clusters: every attempt of a task is a job in the queue of one, which SkyPilot makes if need be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.sky.client import asking
from nemo_run.core.execution.sky.options import safe_name
from nemo_run.core.execution.sky.standalone import StandaloneSkypilot, print_file
from nemo_run.core.execution.skypilot.queue import records
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class SkypilotExecutor(StandaloneSkypilot):
    """Runs each task on a cluster of SkyPilot: on Kubernetes, on Slurm, or in any cloud that SkyPilot knows.

    Example:
        >>> import nemo_run as run
        >>> executor = run.SkypilotExecutor(gpus="A100", gpus_per_node=8, num_nodes=2, infra="k8s/my-context")
        >>> executor.nnodes(), executor.nproc_per_node()
        (2, 8)
    """

    engine: ClassVar[str] = "skypilot"

    @classmethod
    def parse_app(cls, app_id: str) -> tuple[str, str, int]:
        """Return the cluster, name and number of a job, from ``experiment___cluster___name___number``.

        >>> SkypilotExecutor.parse_app("exp_1___my-cluster___train___3")
        ('my-cluster', 'train', 3)
        """
        parts = app_id.split("___")
        if len(parts) != 4 or not all(parts[1:]) or not parts[3].isdigit():
            raise ExecutorError(f"{app_id!r} is not of the form experiment___cluster___name___number")
        return parts[1], parts[2], int(parts[3])

    @classmethod
    def status(cls, app_id: str) -> tuple[Any, dict[str, Any] | None]:
        """Return what SkyPilot says of a job's cluster, and of the job; ``None`` for what is not there."""
        cluster, _, number = cls.parse_app(app_id)
        with asking(f"cluster {cluster!r}") as sky:
            clusters = sky.get(sky.status([cluster]))
            if not clusters:
                return None, None
            jobs = records(sky, cluster) or []
        return clusters[0]["status"], next((dict(job) for job in jobs if job["job_id"] == number), None)

    @classmethod
    def cancel(cls, app_id: str) -> None:
        """Cancel a job; one that is not there is left as it is."""
        cluster, _, number = cls.parse_app(app_id)
        if cls.status(app_id)[1]:
            with asking(f"job {number}") as sky:
                sky.get(sky.cancel(cluster, job_ids=[number]))

    @classmethod
    def logs(cls, app_id: str, fallback_path: str | None) -> None:
        """Print the log of a job, as it grows; of one that is gone, ``run.log`` in a folder of logs."""
        cluster, _, number = cls.parse_app(app_id)
        if cls.status(app_id)[1]:
            with asking(f"job {number}") as sky:
                sky.tail_logs(cluster, number, follow=True)
        elif fallback_path:
            print_file(Path(fallback_path, "run.log"))

    def launch(
        self, task: Any, cluster_name: str | None = None, num_nodes: int | None = None, dryrun: bool = False
    ) -> tuple[int | None, Any]:
        """Launch a task of SkyPilot's, and wait until its job is in the queue of its cluster.

        Args:
            task: What :meth:`to_task` made.
            cluster_name: The cluster; that of the executor or of the experiment by default.
            num_nodes: Number of nodes, instead of the task's own.
            dryrun: Only see whether it could be launched.

        Returns:
            Number of the job, and SkyPilot's handle of the cluster.
        """
        if num_nodes:
            task.num_nodes = num_nodes
        cluster = cluster_name or self.cluster_name or safe_name(self.experiment_id or "nemo-run")
        with asking(f"task {task.name!r}") as sky:
            number, handle = sky.get(
                sky.launch(
                    task,
                    cluster_name=cluster,
                    dryrun=dryrun,
                    down=self.autodown,
                    idle_minutes_to_autostop=self.idle_minutes_to_autostop,
                    retry_until_up=self.retry_until_up,
                    fast=True,
                )
            )
        return number, handle
