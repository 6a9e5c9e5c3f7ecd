"""SkyPilot's clusters: every attempt of a task is a job in the queue of one, which SkyPilot makes if need be."""

from __future__ import annotations

import base64
import contextlib
import io
import shlex
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import JobRequest
from nemo_run.core.execution.jobs import JobState, JobStatus, Plan
from nemo_run.core.execution.sky import log as sky_log, spec as sky_task
from nemo_run.core.execution.sky.backend import Handle, Job, SkypilotBackend
from nemo_run.core.execution.sky.client import asking, is_a, make_task, plain
from nemo_run.core.packaging.globs import Patterns
from nemo_run.errors import EngineUnreachableError, ExecutorError

_STATES = {
    "INIT": JobState.SUBMITTED,
    "PENDING": JobState.PENDING,
    "SETTING_UP": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "FAILED_SETUP": JobState.FAILED,
    "FAILED_DRIVER": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
_REASONS = {
    "SETTING_UP": "its setup runs",
    "FAILED_SETUP": "its setup failed",
    "FAILED_DRIVER": "what SkyPilot runs beside the task failed, perhaps for want of memory",
}


@dataclass(kw_only=True)
class SkypilotExecutor(sky_task.SkypilotOptions):
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
        """Cluster, name and number of a job, from ``experiment___cluster___name___number``.

        >>> SkypilotExecutor.parse_app("exp_1___my-cluster___train___3")
        ('my-cluster', 'train', 3)
        """
        parts = app_id.split("___")
        if len(parts) != 4 or not all(parts[1:]) or not parts[3].isdigit():
            raise ExecutorError(f"{app_id!r} is not of the form experiment___cluster___name___number")
        return parts[1], parts[2], int(parts[3])

    @classmethod
    def status(cls, app_id: str) -> tuple[Any, dict[str, Any] | None]:
        """What SkyPilot says of a job's cluster, and of the job; ``None`` for what is not there."""
        cluster, _, number = cls.parse_app(app_id)
        with asking(f"cluster {cluster!r}") as sky:
            records = sky.get(sky.status([cluster]))
            if not records:
                return None, None
            jobs = _queue(sky, cluster) or []
        return records[0]["status"], next((dict(job) for job in jobs if job["job_id"] == number), None)

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
            sky_task.print_file(Path(fallback_path, "run.log"))

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
        cluster = cluster_name or self.cluster_name or sky_task.safe_name(self.experiment_id or "nemo-run")
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


class SkypilotClusterBackend(SkypilotBackend):
    """Runs attempts as jobs on clusters."""

    name: ClassVar[str] = "skypilot"
    request_name: ClassVar[str] = "sky.launch"
    executor_class: ClassVar[type[sky_task.SkypilotOptions]] = SkypilotExecutor

    def cluster_of(self, executor: sky_task.SkypilotOptions, request: JobRequest) -> str:
        """The cluster that the executor names, or one for all jobs of the experiment with the same resources."""
        return sky_task.cluster_name(executor, request)

    def command_line(self, spec: Mapping[str, Any]) -> str:
        """``sky launch``."""
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

    def list_jobs(self, cluster: str) -> dict[str, Job] | None:
        """The queue of a cluster."""
        with asking(f"cluster {cluster!r}") as sky:
            records = _queue(sky, cluster)
        return None if records is None else {record["job_name"]: _job(record, cluster) for record in records}

    def stop(self, sky: Any, cluster: str, ids: list[int]) -> None:
        """Cancel jobs of a cluster."""
        sky.get(sky.cancel(cluster, job_ids=ids))

    def give_up(self, sky: Any, handle: Handle) -> None:
        """Take a cluster down that was only being made, if it was to go with its jobs anyway."""
        if handle.launch["down"] and not self.list_jobs(handle.cluster):
            with contextlib.suppress(ValueError):  # there is none
                sky.get(sky.down(handle.cluster))

    def follow(self, sky: Any, cluster: str, job: int, tail: int) -> Iterator[str | None]:
        """The log of a running job."""
        chunks: Iterator[str | None] = sky.tail_logs(cluster, job, follow=True, tail=tail, preload_content=False)
        return chunks

    def keep_logs(self, cluster: str, jobs: Mapping[int, Handle]) -> dict[int, str]:
        """Download the logs of ended jobs, and what the jobs left with them."""
        with asking(f"the logs of cluster {cluster!r}") as sky, contextlib.redirect_stdout(io.StringIO()):
            folders = sky.download_logs(cluster, [str(number) for number in jobs])
        said = {}
        for number, handle in jobs.items():
            folder = Path(folders.get(str(number), "/nowhere")).expanduser()
            said[number] = _text(folder / "run.log")
            exact = folder / "tasks" / "run.log"
            sky_log.save(handle.folder, said[number], _text(exact) if exact.exists() else None)
            left = folder / sky_task.ARTIFACTS
            if left.is_dir():
                shutil.copytree(left, handle.folder / "artifacts", dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        return said

    def fetch_artifacts(self, plan: Plan, handle: str, patterns: Sequence[str], folder: Path) -> None:
        """What the task left in its folder of artifacts came with its log; the rest a job on the cluster brings."""
        parsed = Handle.parse(handle)
        left = parsed.folder / "artifacts"
        if left.is_dir():
            shutil.copytree(left, folder, dirs_exist_ok=True)
            shutil.rmtree(left)
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

    def _fetch(self, handle: Handle, plan: Plan, patterns: Sequence[str], folder: Path) -> None:
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
            if content is not None and wanted.match(name) and ".." not in Path(name).parts:
                (folder / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                (folder / name).write_bytes(content.read())


def _queue(sky: Any, cluster: str) -> list[Any] | None:
    try:
        return list(sky.get(sky.queue(cluster, all_users=True)))
    except Exception as e:
        if is_a(e, "ClusterDoesNotExist"):
            return None
        if is_a(e, "ClusterNotUpError"):
            if getattr(getattr(e, "cluster_status", None), "value", "") == "STOPPED":
                return None
            raise EngineUnreachableError(f"the cluster {cluster!r} is not up now: {plain(e)}") from e
        raise


def _job(record: Mapping[str, Any], cluster: str) -> Job:
    state = record["status"].value
    status = JobStatus(
        _STATES[state],
        reason=_REASONS.get(state, ""),
        started=record["start_at"] or None,
        ended=record["end_at"] or None,
        node=cluster,
    )
    return Job(record["job_id"], status)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
