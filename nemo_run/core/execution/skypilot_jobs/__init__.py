"""SkyPilot's managed jobs: each attempt on a cluster of its own, which SkyPilot makes, recovers and takes down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.sky.client import asking
from nemo_run.core.execution.sky.standalone import StandaloneSkypilot, print_file
from nemo_run.core.execution.skypilot_jobs.queue import records
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class SkypilotJobsExecutor(StandaloneSkypilot):
    """Runs each task as a managed job of SkyPilot, which moves on to another machine when its own is taken away.

    Example:
        >>> import nemo_run as run
        >>> executor = run.SkypilotJobsExecutor(gpus=["A100", "H100"], gpus_per_node=8, use_spot=True)
        >>> executor.nproc_per_node()
        8
    """

    engine: ClassVar[str] = "skypilot_jobs"

    @classmethod
    def parse_app(cls, app_id: str) -> tuple[str, str, int]:
        """Return the cluster, name and number of a job, from ``cluster___name___number``.

        >>> SkypilotJobsExecutor.parse_app("my-cluster___train___3")
        ('my-cluster', 'train', 3)
        """
        parts = app_id.split("___")
        if len(parts) != 3 or not all(parts) or not parts[2].isdigit():
            raise ExecutorError(f"{app_id!r} is not of the form cluster___name___number")
        return parts[0], parts[1], int(parts[2])

    @classmethod
    def status(cls, app_id: str) -> dict[str, Any] | None:
        """Return what SkyPilot says of a job; ``None`` where it is not there."""
        number = cls.parse_app(app_id)[2]
        with asking(f"job {number}") as sky:
            found = records(sky, [number])
        return dict(found[0]) if found else None

    @classmethod
    def cancel(cls, app_id: str) -> None:
        """Cancel a job; one that is not there is left as it is."""
        if cls.status(app_id):
            number = cls.parse_app(app_id)[2]
            with asking(f"job {number}") as sky:
                sky.get(sky.jobs.cancel(job_ids=[number]))

    @classmethod
    def logs(cls, app_id: str, fallback_path: str | None) -> None:
        """Print the log of a job, as it grows; of one that is gone, ``run.log`` in a folder of logs."""
        number = cls.parse_app(app_id)[2]
        if cls.status(app_id):
            with asking(f"job {number}") as sky:
                sky.jobs.tail_logs(job_id=number, follow=True)
        elif fallback_path:
            print_file(Path(fallback_path, "run.log"))

    def launch(self, task: Any, num_nodes: int | None = None) -> tuple[int | None, Any]:
        """Launch a task of SkyPilot's as a managed job.

        Args:
            task: What :meth:`to_task` made.
            num_nodes: Number of nodes, instead of the task's own.

        Returns:
            Number of the job, and SkyPilot's handle of the jobs controller.
        """
        if num_nodes:
            task.num_nodes = num_nodes
        with asking(f"task {task.name!r}") as sky:
            numbers, handle = sky.get(sky.jobs.launch(task, name=task.name))
        return (numbers[0] if numbers else None), handle
