"""The backend of SkyPilot's clusters: every attempt is a job in the queue of one."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shlex
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.core.execution.shared import leftovers
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.sky import log as sky_log, spec as sky_task
from nemo_run.core.execution.sky.backend import SkyHandle, SkyJob, SkypilotBackend
from nemo_run.core.execution.sky.client import asking, make_task
from nemo_run.core.execution.sky.leaving import unpack_left
from nemo_run.core.execution.sky.options import SkypilotOptions
from nemo_run.core.execution.skypilot.queue import job_of, records
from nemo_run.core.inside import copy_linked, open_inside
from nemo_run.core.packaging.archive import leads_out
from nemo_run.core.packaging.globs import Patterns
from nemo_run.errors import ExecutorError


@door("SkyPilot")
class SkypilotClusterBackend(SkypilotBackend):
    """Runs attempts as jobs on clusters."""

    name: ClassVar[str] = "skypilot"
    request_name: ClassVar[str] = "sky.launch"
    executor_name: ClassVar[str] = "SkypilotExecutor"

    def cluster_of(self, executor: SkypilotOptions, request: TaskRequest) -> str:
        """Return the cluster that the executor names, or one for all jobs of the experiment with the same resources."""
        return sky_task.cluster_name(executor, request)

    def command_line(self, spec: Mapping[str, Any]) -> str:
        """Return the ``sky launch`` command."""
        words = ["sky", "launch", "--cluster", spec["cluster"], "--fast"]
        words += ["--down"] if spec["down"] else []
        words += ["--retry-until-up"] if spec["retry_until_up"] else []
        if spec["idle_minutes"] is not None:
            words += ["--idle-minutes-to-autostop", str(spec["idle_minutes"])]
        return shlex.join([*words, "task.yaml"])

    def launch(self, sky: Any, task: Any, spec: Mapping[str, Any]) -> str:
        """Ask for a launch; on a cluster that is up this only adds a job to its queue."""
        return str(
            sky.launch(
                task,
                cluster_name=spec["cluster"],
                down=spec["down"],
                idle_minutes_to_autostop=spec["idle_minutes"],
                retry_until_up=spec["retry_until_up"],
                fast=True,
            )
        )

    def list_jobs(self, cluster: str) -> dict[str, SkyJob] | None:
        """Return the queue of a cluster."""
        with asking(f"cluster {cluster!r}") as sky:
            found = records(sky, cluster)
        return None if found is None else {record["job_name"]: job_of(record, cluster) for record in found}

    def stop(self, sky: Any, cluster: str, ids: list[int]) -> None:
        """Cancel jobs of a cluster."""
        sky.get(sky.cancel(cluster, job_ids=ids))

    def give_up(self, sky: Any, handle: SkyHandle) -> None:
        """Take a cluster down that was only being made, if it was to go with its jobs anyway."""
        if handle.launch["down"] and not self.list_jobs(handle.cluster):
            with contextlib.suppress(ValueError):  # there is none
                sky.get(sky.down(handle.cluster))

    def follow(self, sky: Any, cluster: str, job: int, tail: int) -> Iterator[str | None]:
        """Return the log of a running job."""
        chunks: Iterator[str | None] = sky.tail_logs(cluster, job, follow=True, tail=tail, preload_content=False)
        return chunks

    def keep_logs(self, cluster: str, jobs: Mapping[int, SkyHandle]) -> dict[int, str]:
        """Download the logs of ended jobs, and what the jobs left with them."""
        with asking(f"the logs of cluster {cluster!r}") as sky, contextlib.redirect_stdout(io.StringIO()):
            folders = sky.download_logs(cluster, [str(number) for number in jobs])
        said = {}
        for number, handle in jobs.items():
            folder = Path(folders.get(str(number), "/nowhere")).expanduser()
            said[number] = _text(folder / "run.log")
            exact = folder / "tasks" / "run.log"
            sky_log.save(handle.folder, said[number], _text(exact) if exact.exists() else None)
            for end in ("tar.gz", "left"):
                if (left := folder / f"{sky_task.ARTIFACTS}.{end}").is_file():
                    copy_linked(left, folder, handle.folder, f"artifacts.{end}")
            shutil.rmtree(folder, ignore_errors=True)
        return said

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """Move the artifacts that came with the log, and let a job on the cluster bring what matches the patterns."""
        parsed = SkyHandle.parse(handle)
        with leftovers.gathered() as left:
            left.update(unpack_left(parsed.folder, folder))
            if patterns:
                self._fetch(parsed, plan, patterns, folder)

    def _await(self, cluster: str, number: int) -> None:
        """Wait for the end of a job that collects files, which may have to queue behind others."""
        while True:
            job = next((job for job in (self.list_jobs(cluster) or {}).values() if job.id == number), None)
            if job is None or job.status.state in (JobState.FAILED, JobState.CANCELLED):
                raise ExecutorError(f"job {number} on cluster {cluster!r}, which collects them, did not succeed")
            if job.status.state is JobState.SUCCEEDED:
                return
            time.sleep(self.poll_interval)

    def _fetch(self, handle: SkyHandle, plan: Plan, patterns: Sequence[str], folder: Path) -> None:
        """Let a job of its own write the files to its log, which is all that SkyPilot brings back."""
        task = make_task(sky_task.collecting_task(plan.spec["task"], patterns))
        with asking(f"files of {handle.name!r}") as sky, contextlib.redirect_stdout(io.StringIO()):
            number, _ = sky.get(sky.exec(task, cluster_name=handle.cluster))
        self._await(handle.cluster, number)
        with asking(f"files of {handle.name!r}") as sky, contextlib.redirect_stdout(io.StringIO()):
            folders = sky.download_logs(handle.cluster, [str(number)])
        log = Path(folders[str(number)]).expanduser()
        _unpack(base64.b64decode(sky_log.task_text(_text(log / "run.log"))), Patterns(patterns, descend=True), folder)
        shutil.rmtree(log, ignore_errors=True)


def _unpack(archive: bytes, wanted: Patterns, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            content = tar.extractfile(member)
            if content is not None and wanted.match(name) and not leads_out(name):
                with os.fdopen(open_inside(folder, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                    shutil.copyfileobj(content, file)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
