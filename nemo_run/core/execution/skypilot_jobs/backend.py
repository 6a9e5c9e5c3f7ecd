"""The backend of SkyPilot's managed jobs."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.sky import log as sky_log
from nemo_run.core.execution.sky.backend import SkyHandle, SkyJob, SkypilotBackend
from nemo_run.core.execution.sky.client import asking
from nemo_run.core.execution.sky.options import SkypilotOptions
from nemo_run.core.execution.skypilot_jobs.queue import job_of, records
from nemo_run.errors import ExecutorError


class SkypilotJobsBackend(SkypilotBackend):
    """Runs attempts as managed jobs."""

    name: ClassVar[str] = "skypilot_jobs"
    request_name: ClassVar[str] = "sky.jobs.launch"
    executor_name: ClassVar[str] = "SkypilotJobsExecutor"

    def cluster_of(self, executor: SkypilotOptions, request: TaskRequest) -> str:
        """Return nothing: SkyPilot makes a cluster for every job."""
        return ""

    def command_line(self, spec: Mapping[str, Any]) -> str:
        """Return the ``sky jobs launch`` command."""
        return shlex.join(["sky", "jobs", "launch", "--name", spec["task"]["name"], "task.yaml"])

    def launch(self, sky: Any, task: Any, spec: Mapping[str, Any]) -> str:
        """Hand the job to the jobs controller."""
        return str(sky.jobs.launch(task, name=task.name, job_group=None))

    def list_jobs(self, cluster: str) -> dict[str, SkyJob] | None:
        """Return all managed jobs."""
        with asking("managed jobs") as sky:
            found = records(sky, None)
        return {record["job_name"]: job_of(record) for record in found}

    def stop(self, sky: Any, cluster: str, ids: list[int]) -> None:
        """Cancel managed jobs."""
        sky.get(sky.jobs.cancel(job_ids=ids))

    def give_up(self, sky: Any, handle: SkyHandle) -> None:
        """Do nothing: the controller makes machines only for jobs that it has."""

    def follow(self, sky: Any, cluster: str, job: int, tail: int) -> Iterator[str | None]:
        """Return the log of a running job."""
        chunks: Iterator[str | None] = sky.jobs.tail_logs(
            job_id=job, follow=True, tail=tail or None, preload_content=False
        )
        return chunks

    def keep_logs(self, cluster: str, jobs: Mapping[int, SkyHandle]) -> dict[int, str]:
        """Return the logs of ended jobs, which the jobs controller has kept."""
        said = {}
        for number, handle in jobs.items():
            out = io.StringIO()
            with asking(f"the log of {handle.name!r}") as sky:
                sky.jobs.tail_logs(job_id=number, follow=False, output_stream=out)
            said[number] = out.getvalue()
            sky_log.save(handle.folder, said[number])
        return said

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Raise an error where patterns are given: the machine of a managed job is gone when the job has ended."""
        if patterns:
            raise ExecutorError(
                "the machine of a managed job is gone when it has ended; let the task write to a bucket, with "
                "storage_mounts= of SkypilotJobsExecutor"
            )
