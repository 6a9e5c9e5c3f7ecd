"""SkyPilot's managed jobs: each attempt on a cluster of its own, which SkyPilot makes, recovers and takes down."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import JobRequest
from nemo_run.core.execution.jobs import JobState, JobStatus, Plan
from nemo_run.core.execution.sky import log as sky_log, spec as sky_task
from nemo_run.core.execution.sky.backend import Handle, Job, SkypilotBackend
from nemo_run.core.execution.sky.client import asking, is_a
from nemo_run.errors import ExecutorError

_STATES = {
    "PENDING": JobState.PENDING,
    "SUBMITTED": JobState.PENDING,
    "STARTING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "WINDING_DOWN": JobState.RUNNING,
    "RECOVERING": JobState.RUNNING,
    "CANCELLING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "CANCELLED": JobState.CANCELLED,
}  # the others are kinds of failure
_REASONS = {
    "PENDING": "it waits for SkyPilot's jobs controller",
    "STARTING": "SkyPilot makes a machine ready for it",
    "RECOVERING": "SkyPilot recovers it from a machine that was lost",
    "CANCELLING": "it is being cancelled",
    "FAILED_SETUP": "its setup failed",
    "FAILED_PRECHECKS": "SkyPilot could not launch it",
    "FAILED_NO_RESOURCE": "SkyPilot found no machine for it",
    "FAILED_CONTROLLER": "SkyPilot's jobs controller failed",
}
_FIELDS = ["job_id", "job_name", "status", "start_at", "end_at", "failure_reason", "recovery_count"]


@dataclass(kw_only=True)
class SkypilotJobsExecutor(sky_task.SkypilotOptions):
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
        """Cluster, name and number of a job, from ``cluster___name___number``.

        >>> SkypilotJobsExecutor.parse_app("my-cluster___train___3")
        ('my-cluster', 'train', 3)
        """
        parts = app_id.split("___")
        if len(parts) != 3 or not all(parts) or not parts[2].isdigit():
            raise ExecutorError(f"{app_id!r} is not of the form cluster___name___number")
        return parts[0], parts[1], int(parts[2])

    @classmethod
    def status(cls, app_id: str) -> dict[str, Any] | None:
        """What SkyPilot says of a job; ``None`` where it is not there."""
        number = cls.parse_app(app_id)[2]
        with asking(f"job {number}") as sky:
            records = _queue(sky, [number])
        return dict(records[0]) if records else None

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
            sky_task.print_file(Path(fallback_path, "run.log"))

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


class SkypilotJobsBackend(SkypilotBackend):
    """Runs attempts as managed jobs."""

    name: ClassVar[str] = "skypilot_jobs"
    request_name: ClassVar[str] = "sky.jobs.launch"
    executor_class: ClassVar[type[sky_task.SkypilotOptions]] = SkypilotJobsExecutor

    def cluster_of(self, executor: sky_task.SkypilotOptions, request: JobRequest) -> str:
        """None: SkyPilot makes one for every job."""
        return ""

    def command_line(self, spec: Mapping[str, Any]) -> str:
        """``sky jobs launch``."""
        return shlex.join(["sky", "jobs", "launch", "--name", spec["task"]["name"], "task.yaml"])

    def launch(self, sky: Any, task: Any, spec: Mapping[str, Any]) -> str:
        """Hand the job to the jobs controller."""
        return str(sky.jobs.launch(task, name=task.name, job_group=None))

    def list_jobs(self, cluster: str) -> dict[str, Job] | None:
        """All managed jobs."""
        with asking("managed jobs") as sky:
            records = _queue(sky, None)
        return {record["job_name"]: _job(record) for record in records}

    def stop(self, sky: Any, cluster: str, ids: list[int]) -> None:
        """Cancel managed jobs."""
        sky.get(sky.jobs.cancel(job_ids=ids))

    def give_up(self, sky: Any, handle: Handle) -> None:
        """Nothing was made: the controller makes machines only for jobs that it has."""

    def follow(self, sky: Any, cluster: str, job: int, tail: int) -> Iterator[str | None]:
        """The log of a running job."""
        chunks: Iterator[str | None] = sky.jobs.tail_logs(
            job_id=job, follow=True, tail=tail or None, preload_content=False
        )
        return chunks

    def keep_logs(self, cluster: str, jobs: Mapping[int, Handle]) -> dict[int, str]:
        """The logs of ended jobs, which the jobs controller has kept."""
        said = {}
        for number, handle in jobs.items():
            out = io.StringIO()
            with asking(f"the log of {handle.name!r}") as sky:
                sky.jobs.tail_logs(job_id=number, follow=False, output_stream=out)
            said[number] = out.getvalue()
            sky_log.save(handle.folder, said[number])
        return said

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Nothing is left: the machine of a managed job is gone when the job has ended."""
        if patterns:
            raise ExecutorError(
                "the machine of a managed job is gone when it has ended; let the task write to a bucket, with "
                "storage_mounts= of SkypilotJobsExecutor"
            )


def _queue(sky: Any, numbers: list[int] | None) -> list[Any]:
    try:
        return list(sky.get(sky.jobs.queue_v2(refresh=False, job_ids=numbers, fields=_FIELDS))[0])
    except Exception as e:
        if is_a(e, "ClusterNotUpError"):  # there is no controller yet, so there are no jobs
            return []
        raise


def _job(record: Mapping[str, Any]) -> Job:
    state = record["status"].value
    reason = _REASONS.get(state, "")
    if detail := record.get("failure_reason"):
        reason = f"{reason}: {detail}" if reason else ""
    status = JobStatus(
        _STATES.get(state, JobState.FAILED),
        reason=reason,
        started=record.get("start_at") or None,
        ended=record.get("end_at") or None,
    )
    return Job(record["job_id"], status)
