"""Ray jobs, as users hold them."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo_run.config.escaping import escaped
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.ray_address import RayAddressExecutor
from nemo_run.core.files import folder_name
from nemo_run.core.packaging.base import Packager
from nemo_run.core.ray.engine import ClusterSpec, get_engine
from nemo_run.core.ray.jobs_api import UNKNOWN, JobsApi, check_installed
from nemo_run.errors import ConfigError, ExecutorError, JobNotFoundError
from nemo_run.run.catalog import check_title
from nemo_run.run.ray import packages, records, runtime_env
from nemo_run.run.ray.cluster import RayCluster, set_log_level
from nemo_run.run.ray.records import StoredCluster, StoredRayJob
from nemo_run.run.ray.watching import WatchedJob, in_words, is_final

logger = logging.getLogger(__name__)

_NAME = "nemo_run_name"  # in the metadata of a job


@dataclass
class RayJob:
    """A job on a Ray cluster by its name: it goes on when this process ends, and is found again from another one.

    Without ``cluster_name`` the job has a cluster of its own, which ends with it, watched or not.

    Example:
        >>> import nemo_run as run
        >>> from nemo_run.run.ray import RayJob
        >>> job = RayJob(name="train", executor=run.LocalExecutor(nodes=2))
        >>> job.status(display=False)["state"]
        'UNKNOWN'

    Attributes:
        name: Its name, unique where the executor has it run.
        executor: Where it runs; its ``env_vars`` are set for the job, and its ``packager`` says which code goes along.
        pre_ray_start_commands: Shell commands that each node of a cluster of its own runs before it starts Ray.
        log_level: Least level of the messages that are logged.
        cluster_name: A cluster that runs already.
        cluster_ready_timeout: Seconds to wait for the cluster.
        address: Address of the dashboard of a cluster that runs already, and that is not managed here; then of the
            executor only ``env_vars`` and ``packager`` matter, and there need not be one.
        token: With which that lets its users in.
    """

    name: str
    executor: Executor = None  # type: ignore[assignment]  # __post_init__ sees to it that there is one
    pre_ray_start_commands: list[str] | None = None
    log_level: str = "INFO"
    cluster_name: str | None = None
    cluster_ready_timeout: int | None = 1800
    address: str = ""
    token: str = field(default="", repr=False)
    _own: StoredRayJob | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_title(self.name)
        set_log_level(self.log_level)
        if self.address:
            self._use_address()
        elif self.executor is None:
            raise ConfigError(f"RayJob({self.name!r}): give an executor, or the address of a Ray cluster that runs")

    def _use_address(self) -> None:
        variables = self.executor.env_vars if self.executor is not None else {}
        packager = self.executor.packager if self.executor is not None else Packager()
        self.executor = RayAddressExecutor(
            address=self.address, token=self.token, env_vars=dict(variables), packager=packager
        )
        self.executor.check()
        self.cluster_name = self.address

    # starting

    def start(
        self,
        command: str,
        workdir: str,
        runtime_env_yaml: str | None = None,
        pre_ray_start_commands: list[str] | None = None,
        dryrun: bool = False,
        *,
        entrypoint_num_cpus: float | None = None,
        entrypoint_num_gpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: Mapping[str, float] | None = None,
    ) -> Any:
        """Submit the job, once its cluster is ready; does not wait for its end.

        Args:
            command: Shell command that Ray runs on the cluster.
            workdir: Folder of this machine that is sent along, in which the command runs; empty for none. Files that
                git ignores stay here, unless the executor's packager says otherwise.
            runtime_env_yaml: File with a runtime environment: ``env_vars``, ``pip``, ``excludes``, …
            pre_ray_start_commands: Shell commands that each node of a cluster of its own runs before it starts Ray.
            dryrun: Only show what would be done.
            entrypoint_num_cpus: CPU cores that Ray keeps for the command itself; with any of these the command runs
                on a node that has them, not always on the head.
            entrypoint_num_gpus: GPUs that Ray keeps for it.
            entrypoint_memory: Bytes of memory that Ray keeps for it.
            entrypoint_resources: Custom resources that Ray keeps for it.

        Returns:
            The job itself.

        Raises:
            ExecutorError: A job of that name is running, or its cluster cannot be had.
        """
        _check_command(command)
        variables = self.executor.env_vars if dryrun else runtime_env.exact(self.executor.env_vars)
        env = runtime_env.with_variables(runtime_env.read_runtime_env(runtime_env_yaml), variables)
        folders = runtime_env.local_folders(env, workdir)
        commands = tuple(pre_ray_start_commands or self.pre_ray_start_commands or ())
        submission_id = f"{folder_name(self.name)}-{secrets.token_hex(4)}"
        own = not self.cluster_name
        needs = {
            "entrypoint_num_cpus": entrypoint_num_cpus,
            "entrypoint_num_gpus": entrypoint_num_gpus,
            "entrypoint_memory": entrypoint_memory,
            "entrypoint_resources": dict(entrypoint_resources or {}),
        }
        needs = {name: value for name, value in needs.items() if value}
        spec = ClusterSpec(self._cluster.name, self.executor, commands, submission_id if own else "")
        if dryrun:
            sent = runtime_env.with_code(runtime_env.shown(env), workdir, str)
            job = {"entrypoint": command, **needs, "runtime_env": sent}
            shown = [self._cluster.describe(spec)] if own else []
            print(*shown, json.dumps(job, indent=2, ensure_ascii=False), sep="\n")  # noqa: T201  what was asked for
            return self
        check_installed()
        with records.submitting(self.executor.engine, self._place, self.name), contextlib.ExitStack() as packing:
            self._refuse_if_running()
            packed = {
                name: packing.enter_context(packages.packed(folder, self.executor.packager, env, name))
                for name, folder in folders.items()
            }
            cluster = self._cluster.launch(spec, new=True) if own else self._cluster.running()
            stored = self._remember(cluster, submission_id)
            with _stopped_on_failure(stored) if own else contextlib.nullcontext():
                self._cluster.wait_until_ready(cluster, self.cluster_ready_timeout or float("inf"))
                with get_engine(cluster.engine).dashboard(cluster.record) as dashboard, JobsApi(dashboard) as api:
                    env = runtime_env.with_code(env, workdir, lambda name: api.upload(packed[name]))
                    api.submit(command, submission_id, env, {_NAME: self.name}, needs)
        logger.info("the Ray job %r is submitted to the cluster %r", self.name, cluster.name)
        return self

    @property
    def _cluster(self) -> RayCluster:
        return RayCluster(self.cluster_name or self.name, self.executor, self.log_level)

    def _refuse_if_running(self) -> None:
        stored = self._newest() or self._found_on_cluster()
        if stored is None:
            return
        with WatchedJob(stored) as job:
            details = job.details()
            begun = stored.own_cluster or "start_time" in details  # else the process that started it was interrupted
            if not is_final(details) and begun:
                raise ExecutorError(
                    f"the Ray job {self.name!r} is running already; give this one another name, or stop that one: "
                    f"nemorun ray stop {self.name} --job"
                )
            job.wait_for_own_cluster()

    def _remember(self, cluster: StoredCluster, submission_id: str) -> StoredRayJob:
        stored = StoredRayJob(
            name=self.name,
            engine=cluster.engine,
            place=cluster.place,
            cluster=cluster.name,
            record=cluster.record,
            submission_id=submission_id,
            created=time.time(),
            own_cluster=not self.cluster_name,
        )
        records.write(stored)
        self._own = stored
        return stored

    # finding it

    def _stored(self) -> StoredRayJob | None:
        """Return what this object has submitted, or else what is remembered of the last job of that name."""
        if self._own is not None:
            return self._own
        return self._newest() or self._found_on_cluster()

    def _newest(self) -> StoredRayJob | None:
        return records.read(StoredRayJob, self.executor.engine, self._place, self.name)

    @property
    def _place(self) -> str:
        return get_engine(self.executor.engine).place(self.executor)

    def _found_on_cluster(self) -> StoredRayJob | None:
        """Return the job, submitted by another machine."""
        cluster = self._cluster.find()
        if cluster is None:
            return None
        try:
            with get_engine(cluster.engine).dashboard(cluster.record) as dashboard, JobsApi(dashboard) as api:
                mine = [job for job in api.list() if (job.get("metadata") or {}).get(_NAME) == self.name]
        except ExecutorError:  # it is not ready yet
            return None
        return self._remember(cluster, mine[-1]["submission_id"]) if mine else None

    def known(self) -> StoredRayJob:
        """Return what is remembered of the job of that name that was submitted last.

        Raises:
            JobNotFoundError: Nothing is.
        """
        stored = self._stored()
        if stored is None:
            raise JobNotFoundError(f"no Ray job {self.name!r} is known here; see those there are: nemorun ray jobs")
        return stored

    # looking at it

    def status(self, display: bool = True) -> dict[str, Any]:
        """Return the state of the job.

        Args:
            display: Print it, too.

        Returns:
            ``state`` (``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``STOPPED`` or ``UNKNOWN``), ``exit_code``,
            ``reason``, ``started``, ``ended``, and its names.
        """
        stored = self._stored()
        if stored is None:
            status = {"name": self.name, "state": UNKNOWN, "exit_code": None, "reason": "no such job is known here"}
        else:
            with WatchedJob(stored) as job:
                status = job.status()
        if display:
            print(escaped(in_words(status)))  # noqa: T201
        return status

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end of the job.

        Args:
            timeout: Seconds to wait; without end by default.

        Returns:
            What :meth:`status` returns.

        Raises:
            RayJobFailedError: It did not succeed; has the exit code, and the end of the log.
            ExecutorError: It has not ended in time; it goes on.
        """
        with WatchedJob(self.known()) as job:
            return job.wait_for_success(timeout)

    def logs(self, *, follow: bool = False, lines: int = 100, timeout: int = 100) -> None:
        """Print what the job has written.

        Args:
            follow: Go on as it writes, until it has ended.
            lines: How many lines of what is there already.
            timeout: Seconds in which a cluster that does not answer has to do so. A job that is pending is waited for,
                without limit, and what it waits for is told.
        """
        with WatchedJob(self.known()) as job:
            for text in job.follow(lines, patience=timeout) if follow else [job.last_lines(lines)]:
                sys.stdout.write(text)
                sys.stdout.flush()

    # ending it

    def stop(self, wait: bool = False) -> None:
        """End the job, and the cluster of its own if it has one. One that has ended is left as it is.

        Args:
            wait: Return when it has ended.
        """
        with WatchedJob(self.known()) as job:
            job.stop(wait=wait)


def run_once(cluster: StoredCluster, command: str, workdir: str, variables: Mapping[str, str]) -> StoredRayJob:
    """Submit a job that nobody wants to find again to a cluster that runs; it is not remembered."""
    _check_command(command)
    check_installed()
    submission_id = f"exec-{secrets.token_hex(8)}"
    env = runtime_env.with_variables({}, runtime_env.exact(variables))
    with contextlib.ExitStack() as stack:
        packed = {
            name: stack.enter_context(packages.packed(folder, Packager(), env, name))
            for name, folder in runtime_env.local_folders(env, workdir).items()
        }
        dashboard = stack.enter_context(get_engine(cluster.engine).dashboard(cluster.record))
        api = stack.enter_context(JobsApi(dashboard))
        env = runtime_env.with_code(env, workdir, lambda name: api.upload(packed[name]))
        api.submit(command, submission_id, env, {})
    where = (cluster.engine, cluster.place, cluster.name, cluster.record)
    return StoredRayJob(submission_id, *where, submission_id, time.time(), own_cluster=False)


def _check_command(command: object) -> None:
    if not isinstance(command, str) or not command.strip():
        raise ConfigError(f"command={command!r}: give the shell command that Ray is to run")


@contextlib.contextmanager
def _stopped_on_failure(job: StoredRayJob) -> Iterator[None]:
    """Stop the cluster of a job that cannot be submitted to it."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ExecutorError):  # what matters is why it was not submitted
            get_engine(job.engine).stop(job.record)
        raise
