"""Ray on this machine: all nodes of a cluster in one supervised task of the local engine."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core import extras
from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command, JobState, TaskStatus
from nemo_run.core.execution.launcher import Launcher
from nemo_run.core.execution.local import LocalExecutor, available_gpus, ray_nodes
from nemo_run.core.execution.local.backend import LocalBackend
from nemo_run.core.execution.shared.inherited import write_environment
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.execution.shared.units import parse_size
from nemo_run.core.files import folder_name, make_folder, read_json, write_json
from nemo_run.core.ray.engine import (
    DASHBOARD_PORT,
    ClusterExecutor,
    ClusterSpec,
    ClusterState,
    ClusterStatus,
    Dashboard,
    KeptJob,
    Record,
)
from nemo_run.core.ray.jobs_api import JobsApi, alive_nodes
from nemo_run.core.ray.kept import JOBS, ended_with, keep_details, keep_logs, read_kept
from nemo_run.core.ray.node import divided, last_words
from nemo_run.core.runners.interpreter import import_environment
from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.execution.jobs import Plan

_RECORD = "record.json"
_STORE_SHARE = 0.3  # of the memory, for the objects of all nodes; as Ray itself has it for one
_LEAST_STORE = 80 << 20  # bytes; with less Ray does not start
_SHARED = "/dev/shm"  # noqa: S108  (where Ray keeps objects)
_NOTICED = 15.0  # seconds after which a dashboard that is silent is not just ending
_LONGEST_TEMP = 14  # characters; sockets lie up to 92 below, whose paths the system limits to 107


class LocalRay:
    """Clusters on this machine; each listens on 127.0.0.1 only, on ports of its own."""

    def place(self, executor: ClusterExecutor) -> str:
        """This machine."""
        return ""

    def describe(self, spec: ClusterSpec) -> str:
        """Return the command that runs the nodes."""
        plan = _plan(spec, _folder(spec.name), _temporary_folder())
        return LocalBackend().describe(plan)

    def start(self, spec: ClusterSpec) -> Record:
        """Start the nodes under a supervisor."""
        _check_installed()
        folder = make_folder(_folder(spec.name))
        temporary = _temporary_folder()
        plan = _plan(spec, folder, temporary)
        write_environment(folder / "environment.json", _environment())
        with contextlib.suppress(FileNotFoundError):
            _clean_up(read_json(folder / _RECORD))
        attempts = [int(path.name) for path in folder.glob("attempts/*") if path.name.isdigit()]
        number = max(attempts, default=0) + 1
        backend = LocalBackend()
        record = {
            "handle": backend.expected_handle(plan, number),
            "nodes": spec.executor.nnodes(),
            "temp_dir": temporary,
        }
        write_json(folder / _RECORD, record)  # first, so that nothing runs that is not known
        try:
            backend.start(plan, number)
        finally:
            backend.close()
        return record

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return one that was started by a process that was killed before it could tell."""
        try:
            record: Record = read_json(_folder(spec.name) / _RECORD)
        except FileNotFoundError:
            return None
        job = _job(record)
        return None if _is_over(job) else record

    def status(self, record: Record) -> ClusterStatus:
        """Return how the cluster is: what its supervisor says, and then what Ray says."""
        job, facts = _job(record), _facts(record)
        wanted = record["nodes"]
        token = str(_attempt(record) / ray_nodes.TOKEN)
        gcs = facts.get("gcs", "")
        details = {"dashboard": facts.get("dashboard", ""), "gcs_address": gcs, "address": gcs, "token_file": token}
        if _is_over(job):
            return ClusterStatus(_END[job.state], _why(record, job), 0, wanted, details)
        if _is_ending(record, facts):
            return ClusterStatus(ClusterState.STOPPING, facts.get("why", "its processes end"), 0, wanted, details)
        if not facts.get("ready"):
            reason = job.reason or facts.get("stage") or "its process is started"
            return ClusterStatus(ClusterState.STARTING, reason, facts.get("joined", 0), wanted, details)
        return self._status_of_ready(record, facts, details)

    def _status_of_ready(self, record: Record, facts: Record, details: dict[str, str]) -> ClusterStatus:
        wanted, pauses = record["nodes"], Pauses(until=time.monotonic() + _NOTICED)
        while True:
            try:
                alive = min(alive_nodes(_dashboard(record, facts)), facts["joined"])  # Ray notices deaths late
                break
            except EngineUnreachableError:
                if _is_ending(record, _facts(record)) or _is_over(_job(record)):  # since it was looked at
                    return self.status(record)
                if pauses.over:
                    raise
                pauses.sleep()
        lost = (
            f"{wanted - alive} of {wanted} nodes died, and are not replaced; to have them again, stop the cluster first"
        )
        reason = "" if alive >= wanted else lost
        return ClusterStatus(ClusterState.READY, reason, alive, wanted, details)

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Yield the REST API, which is on this machine."""
        yield _dashboard(record, _reached(record))

    @contextlib.contextmanager
    def forward(self, record: Record, port: int, target_port: int) -> Iterator[str]:
        """Pass connections to one port on to another."""
        target = int(_reached(record)["dashboard"].rpartition(":")[2]) if target_port == DASHBOARD_PORT else target_port
        with LocalTunnel(job_dir="").forward(target, "127.0.0.1", port) as here:
            yield f"http://127.0.0.1:{here}"

    def tail(self, record: Record, lines: int) -> str:
        """Return what the process of the nodes wrote, which ends with Ray's own logs where Ray failed."""
        log = FileLog(_attempt(record) / "log", lines)
        try:
            text = b"".join(iter(log.read, b"")).decode(errors="replace")
        finally:
            log.close()
        if _job(record).state.is_final:
            return text
        return "\n".join([text.rstrip("\n"), *last_words(Path(record["temp_dir"], "ray"))]).lstrip("\n")

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return what the nodes' process, or :meth:`stop`, left of a job."""
        end = _job(record)
        if not _is_over(end):
            return None
        logs = Path(record["temp_dir"], ray_nodes.LOGS)
        why = "" if end.state is JobState.CANCELLED else _why(record, end) or "its process ended"
        return read_kept(_attempt(record) / JOBS, logs, job, why)

    def stop(self, record: Record) -> None:
        """End the nodes; how their jobs were is written down first."""
        if not _job(record).state.is_final:
            _keep_jobs(record)
            LocalBackend().cancel([record["handle"]])
            _wait_for_end(record)
        _clean_up(record)


_END = {
    JobState.SUCCEEDED: ClusterState.STOPPED,
    JobState.CANCELLED: ClusterState.STOPPED,
    JobState.FAILED: ClusterState.FAILED,
    JobState.UNKNOWN: ClusterState.UNKNOWN,
}


def _folder(name: str) -> Path:
    return Path(get_nemorun_home(), "ray", "local", folder_name(name))


_TEMPORARY = "nemo-ray-"


def _temporary_folder() -> str:
    """Return a new name for Ray's own files."""
    base = tempfile.gettempdir()
    return str(Path(base if len(base) <= _LONGEST_TEMP else "/tmp", f"{_TEMPORARY}{secrets.token_hex(6)}"))  # noqa: S108


def _plan(spec: ClusterSpec, folder: Path, temporary: str) -> Plan:
    executor = spec.executor
    if not isinstance(executor, LocalExecutor):
        raise ExecutorError(f"Ray cluster {spec.name!r}: the local engine needs a LocalExecutor, not {executor!r}")
    if executor.nodes < 1:
        raise ExecutorError(f"LocalExecutor.nodes={executor.nodes}, but a Ray cluster has at least one node, its head")
    alone = copy.deepcopy(executor)
    alone.launcher = Launcher()
    alone.gpus = len(available_gpus()) if executor.gpus is None else executor.gpus  # no two clusters have the same
    none = {"CUDA_VISIBLE_DEVICES": ""} if executor.gpus == 0 else {}
    settings = {
        "nodes": executor.nodes,
        "temp_dir": temporary,
        **_sizes(spec, executor),
        "idle_timeout": spec.idle_timeout,
        "until_job": spec.until_job,
    }
    argv: tuple[str, ...] = (sys.executable, "-u", "-m", ray_nodes.__name__, json.dumps(settings))
    if spec.pre_ray_start_commands:
        argv = ("bash", "-ec", "\n".join([*spec.pre_ray_start_commands, 'exec "$@"']), "bash", *argv)
    request = TaskRequest(
        experiment_id="",
        job_id=spec.name,
        directory=str(folder),
        executor=alone,
        command=Command(argv, {**import_environment(), **executor.env_vars, **none}),
        cwd=str(Path.cwd()),
        environment_file=str(folder / "environment.json"),
        lease_dir=str(Path(get_nemorun_home(), "leases")),
    )
    (plan,) = LocalBackend().render([request])
    return plan


def _sizes(spec: ClusterSpec, executor: LocalExecutor) -> dict[str, Any]:
    """Return what Ray is told: what each node has of what the executor has for all of them."""
    limit = parse_size(executor.memory)
    store = spec.object_store_memory or int(min(limit or sys.maxsize, _memory()) * _STORE_SHARE)
    return {
        "object_store_memory": max(store // executor.nodes, _LEAST_STORE),
        "memory": max(limit - store, limit // 2) // executor.nodes if limit else None,
        "resources": {name: divided(total, executor.nodes) for name, total in spec.resources.items()},
    }


def _memory() -> int:
    """Memory that objects may use: what this machine has, no more than its shared memory."""
    return min(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), int(shutil.disk_usage(_SHARED).total / _STORE_SHARE)
    )


def _environment() -> dict[str, str]:
    """Return the environment of this process, less what would lead Ray to another cluster, or keep it from starting."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_JOB_", "RAY_ADDRESS"))}
    if "error" in env.get("PYTHONWARNINGS", ""):  # Ray's own processes warn
        del env["PYTHONWARNINGS"]
    return env


def _check_installed() -> None:
    # aiohttp_cors belongs to ray[default], which has the REST API
    extras.require(("ray", "aiohttp_cors", "httpx", "websockets"), "ray", "a Ray cluster on this machine")


def _attempt(record: Record) -> Path:
    return Path(record["handle"].removeprefix("local://"))


def _is_over(job: TaskStatus) -> bool:
    """Check whether nothing is left that could be a cluster."""
    return job.state.is_final or job.state is JobState.UNKNOWN


def _job(record: Record) -> TaskStatus:
    return LocalBackend().states([record["handle"]])[record["handle"]]


def _facts(record: Record) -> dict[str, Any]:
    """Return what the nodes' process says of itself; empty while it says nothing."""
    try:
        return dict(read_json(_attempt(record) / ray_nodes.CLUSTER))
    except FileNotFoundError:
        return {}


def _is_ending(record: Record, facts: Mapping[str, Any]) -> bool:
    return "ending" in facts or (_attempt(record) / "cancel").exists()


def _reached(record: Record) -> dict[str, Any]:
    facts = _facts(record)
    job = _job(record)
    if job.state.is_final:
        raise ExecutorError(f"the Ray cluster has ended ({_why(record, job) or 'it was stopped'}); start it again")
    if not facts.get("ready"):
        raise ExecutorError(f"the Ray cluster is not ready yet: {facts.get('stage') or 'its process is started'}")
    return facts


def _why(record: Record, job: TaskStatus) -> str:
    if job.state is JobState.CANCELLED:
        return ""
    why = _facts(record).get("why", "")
    if job.reason or job.state is not JobState.FAILED:
        return job.reason or why
    what = why or f"the process of its nodes ended with exit code {job.exit_code}"
    return f"{what}; see {shlex.quote(str(_attempt(record) / 'log'))}"


def _clean_up(record: Record) -> None:
    """Delete Ray's own files of a cluster that has ended; where its process was killed, the logs are kept first."""
    folder = Path(record["temp_dir"])
    if not folder.name.startswith(_TEMPORARY):
        raise ExecutorError(f"{folder}: is no folder of a Ray cluster; nothing of it is deleted")
    keep_logs(folder / ray_nodes.LOGS, _attempt(record) / JOBS)
    shutil.rmtree(folder, ignore_errors=True)


def _dashboard(record: Record, facts: Mapping[str, Any]) -> Dashboard:
    return Dashboard(facts["dashboard"], ray_nodes.bearer(_attempt(record) / ray_nodes.TOKEN))


def _keep_jobs(record: Record) -> None:
    """Write down how the jobs of a cluster are; they end with it."""
    facts, folder = _facts(record), _attempt(record) / JOBS
    if not facts.get("ready"):
        return
    with contextlib.suppress(EngineUnreachableError), JobsApi(_dashboard(record, facts), tries=1) as jobs:
        for job in jobs.list():
            keep_details(folder, job["submission_id"], ended_with(job, ""))


def _wait_for_end(record: Record) -> None:
    backend = LocalBackend()
    give_up = time.monotonic() + 60
    while not _job(record).state.is_final:
        if time.monotonic() > give_up:
            raise ExecutorError(f"the processes of the Ray cluster do not end; see {_attempt(record) / 'log'}")
        backend.wait([record["handle"]], 1.0)
    backend.close()
