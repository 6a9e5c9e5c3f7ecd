"""The backend of SkyPilot's managed jobs."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.leaving import parted
from nemo_run.core.execution.sky import log as sky_log, spec as sky_task
from nemo_run.core.execution.sky.backend import SkyHandle, SkyJob, SkypilotBackend
from nemo_run.core.execution.sky.client import asking
from nemo_run.core.execution.sky.leaving import unpack_left
from nemo_run.core.execution.sky.options import SkypilotOptions
from nemo_run.core.execution.skypilot_jobs.queue import job_of, records
from nemo_run.core.files import write_text
from nemo_run.errors import ExecutorError

_TOO_LARGE = "artifacts.size"
_BUCKET = "let the task write to a bucket, with storage_mounts= of SkypilotJobsExecutor"


@door("SkyPilot")
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
            whole = out.getvalue()
            said[number] = sky_log.without_artifacts(whole)
            sky_log.save(handle.folder, said[number])
            _, words = parted(sky_log.task_text(whole, 0).encode("utf-8", "surrogateescape"), sky_task.IN_LOG)
            _keep(words, handle.folder)
        return said

    def after_task(self) -> str:
        """Return what nodes run after a task: the machine is gone when the job has ended, its log is kept."""
        return sky_task.leaving_in_log()

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Unpack the artifacts that came with the log.

        Raises:
            ExecutorError: They were too large for it, or patterns are given: the machine is gone with its other files.
        """
        attempt = SkyHandle.parse(handle).folder
        with leftovers.gathered() as left:
            left.update(unpack_left(attempt, folder))
            if (attempt / _TOO_LARGE).exists():
                size = (attempt / _TOO_LARGE).read_text()
                raise ExecutorError(f"its artifacts (packed, {size} bytes) are more than a log can hold; {_BUCKET}")
            if patterns:
                raise ExecutorError(f"the machine of a managed job is gone when it has ended; {_BUCKET}")


def _keep(words: Sequence[bytes], attempt: Path) -> None:
    """Keep artifacts that came in a log."""
    said = next((word[1:] for word in words if word.startswith(b"~")), b"")
    if not words or words[-1] != b"end":
        return
    if b"!" in words:
        write_text(attempt / _TOO_LARGE, words[-2].decode())
        return
    content = b"".join(word for word in words[:-1] if not word.startswith(b"~"))
    with contextlib.suppress(binascii.Error):
        write_text(attempt / "artifacts.left", base64.b64decode(said))
        write_text(attempt / "artifacts.tar.gz", base64.b64decode(content, validate=True))
