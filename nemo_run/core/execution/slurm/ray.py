"""Ray on Slurm: head and workers on the nodes of one job."""

from __future__ import annotations

import contextlib
import json
import posixpath
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.jobs import Command, JobState, TaskStatus
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Launcher
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.execution.slurm import SlurmExecutor, commands, spec as slurm_spec
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.files import folder_name, make_folder
from nemo_run.core.packaging.base import Packager
from nemo_run.core.ray import node
from nemo_run.core.ray.engine import (
    CLIENT_PORT,
    DASHBOARD_PORT,
    ClusterExecutor,
    ClusterSpec,
    ClusterState,
    ClusterStatus,
    Dashboard,
    KeptJob,
    Record,
)
from nemo_run.core.ray.jobs_api import PATIENCE, text_of
from nemo_run.core.ray.kept import ended_with
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel, make_tunnel
from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.execution.jobs import Plan

_NODE = "scripts/ray_node.py"  # one of the names that are sent along with a job
_ENDING = 30.0  # seconds in which a cluster ends by itself; then its job is cancelled


class RayOnSlurm:
    """Clusters as jobs of Slurm. All it knows of them is in the job's folder on the cluster."""

    def place(self, executor: ClusterExecutor) -> str:
        """Return the cluster's login node, and the user there."""
        return _checked(executor).tunnel.key

    def describe(self, spec: ClusterSpec) -> str:
        """Return the batch script, and the files that it needs."""
        plan = _plan(spec)
        return SlurmBackend(**plan.connection).describe(plan)

    def start(self, spec: ClusterSpec) -> Record:
        """Submit the job."""
        plan = _plan(spec)
        folder = make_folder(Path(plan.directory))
        make_folder(folder / "scripts")
        shutil.copyfile(node.__file__, folder / _NODE)
        backend = SlurmBackend(**plan.connection)
        backend.preflight([plan])
        return _record(backend.start(plan, time.time_ns() // 1_000_000), plan)

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return a job that Slurm has, submitted for a cluster of that name from another machine."""
        plan = _plan(spec)
        tunnel = make_tunnel(plan.connection["tunnel"])
        query = ("squeue", "--me", "-h", "-t", "PENDING,RUNNING", "--Format=JobID:|,Command:|")
        known = tunnel.execute(posix(commands.CALL, *query)).decode()
        for line in known.splitlines():
            job, _, command = line.partition("|")
            folder, name = posixpath.split(command.strip().removesuffix("|"))
            if name == "job.sh" and posixpath.dirname(folder) == f"{plan.spec['folder']}/attempts":
                return _record(str(Handle(job, folder)), plan)
        return None

    def status(self, record: Record) -> ClusterStatus:
        """Return how the cluster is: what Slurm says of the job, and then what its head says."""
        handle = Handle.parse(record["handle"])
        job, wanted = _job(record), record["nodes"]
        details: dict[str, Any] = {"job_id": handle.job, "folder": handle.folder, "host": _tunnel(record).key}
        if job.state in _END:
            reason = (_facts(record).get("why") if job.state is not JobState.CANCELLED else "") or job.reason
            return ClusterStatus(_END[job.state], reason, 0, wanted, details)
        if job.state is not JobState.RUNNING:
            return ClusterStatus(ClusterState.STARTING, f"Slurm: {job.reason or job.state.name}", 0, wanted, details)
        facts = _facts(record)
        if not facts:
            return ClusterStatus(ClusterState.STARTING, "the head starts Ray", 0, wanted, details)
        if facts.get("ending"):
            return ClusterStatus(ClusterState.STOPPING, "its processes end", 0, wanted, details)
        alive = facts.get("alive", 1)
        details |= {"gcs_address": facts["gcs"], "dashboard": f"http://{facts['host']}:{facts['dashboard']}"}
        if not facts["ready"]:
            return ClusterStatus(ClusterState.STARTING, "the other nodes join", alive, wanted, details)
        reason = "" if alive >= wanted else f"{wanted - alive} of {wanted} nodes are gone; see the log of the job"
        return ClusterStatus(ClusterState.READY, reason, alive, wanted, details)

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Yield the REST API, through the tunnel."""
        facts, token = _reached(record), _read(record, "token").strip()
        with _tunnel(record).forward(facts["dashboard"], facts["host"]) as port:
            yield Dashboard(f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"})

    @contextlib.contextmanager
    def forward(self, record: Record, port: int, target_port: int) -> Iterator[str]:
        """Yield a port of the head, through the tunnel."""
        facts = _reached(record)
        own = {DASHBOARD_PORT: "dashboard", CLIENT_PORT: "client"}
        target = facts.get(own.get(target_port, ""), target_port)
        with _tunnel(record).forward(target, facts["host"], port or None) as here:
            yield f"http://127.0.0.1:{here}"

    def tail(self, record: Record, lines: int) -> str:
        """Return the end of the job's log, and of what Slurm has to say."""
        handle = Handle.parse(record["handle"])
        show = 'cd -- "$1" && tail -q -n "$2" -- sbatch_*_"$3".out attempts/*/log.0.* 2>/dev/null || true'
        folder = posixpath.dirname(posixpath.dirname(handle.folder))
        show = show.replace("attempts/*/", f"attempts/{posixpath.basename(handle.folder)}/")
        out = _tunnel(record).execute(posix(show, folder, str(lines), handle.job)).decode(errors="replace")
        return "\n".join(out.splitlines()[-lines:])

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return what the head left of a job."""
        details, status = _read(record, f"jobs/{job}.json"), self.status(record)
        if not details or not status.state.is_final:
            return None
        why = "" if status.state is ClusterState.STOPPED else status.reason or "its job failed"
        known = ended_with(json.loads(details), why)
        return KeptJob(known, text_of(_read_bytes(record, f"jobs/{job}.log")))

    def stop(self, record: Record) -> None:
        """Ask the head to end, so that it keeps what is left of the jobs; cancel the job where it does not."""
        backend, handle = _backend(record), record["handle"]
        if _job(record).state is JobState.RUNNING:
            _tunnel(record).execute(posix(': > "$1/stop"', Handle.parse(handle).folder))
        else:
            backend.cancel([handle])
        pauses, cancelled = Pauses(until=time.monotonic() + _ENDING), False
        while _job(record).state not in _END:
            if pauses.over and cancelled:
                raise ExecutorError(f"the Slurm job {Handle.parse(handle).job} does not end, though it was cancelled")
            if pauses.over:
                backend.cancel([handle])
                pauses, cancelled = Pauses(until=time.monotonic() + 2 * _ENDING), True
            pauses.sleep()


_END = {
    JobState.SUCCEEDED: ClusterState.STOPPED,
    JobState.CANCELLED: ClusterState.STOPPED,
    JobState.FAILED: ClusterState.FAILED,
}


def _checked(executor: ClusterExecutor) -> SlurmExecutor:
    if not isinstance(executor, SlurmExecutor):
        raise ExecutorError(f"a Ray cluster of the Slurm engine needs a SlurmExecutor, not {executor!r}")
    return executor


def _plan(spec: ClusterSpec) -> Plan:
    executor = _checked(spec.executor).clone()
    if not isinstance(executor, SlurmExecutor):  # for the type checker
        raise TypeError
    if executor.array or executor.heterogeneous:
        raise ExecutorError(
            f"the Ray cluster {spec.name!r}: a SlurmExecutor with array or heterogeneous makes no sense"
        )
    root = Path(get_nemorun_home(), "ray", "slurm")
    directory = str(root / folder_name(spec.name))
    executor.assign("ray", str(root), spec.name, folder_name(spec.name))
    executor.launcher, executor.packager = Launcher(), Packager()
    executor.ntasks_per_node, executor.retries = 1, 0
    # A node that is lost takes neither the others along, nor is the cluster begun again without its jobs.
    executor.additional_parameters = {"no_kill": True, "no_requeue": True, **(executor.additional_parameters or {})}
    executor.srun_args = [*(executor.srun_args or []), "--no-kill", "--kill-on-bad-exit=0", "--wait=0"]
    settings = {
        "until_job": spec.until_job,
        "patience": PATIENCE,
        "resources": dict(spec.resources),
        "object_store_memory": spec.object_store_memory,
        "idle_timeout": spec.idle_timeout,
    }
    argv: tuple[str, ...] = (sys.executable, f"{directory}/{_NODE}", ATTEMPT_FOLDER, json.dumps(settings))
    if spec.pre_ray_start_commands:
        python = "python3"  # the one that those commands may put first in the path
        argv = ("bash", "-ec", "\n".join([*spec.pre_ray_start_commands, 'exec "$@"']), "bash", python, *argv[1:])
    request = TaskRequest(
        experiment_id="ray",
        job_id=spec.name,
        directory=directory,
        executor=executor,
        command=Command(argv, {**executor.env_vars, "PYTHONUNBUFFERED": "1"}),
        cwd=str(Path.cwd()),
    )
    (plan,) = slurm_spec.render([request])
    return plan


def _record(handle: str, plan: Plan) -> Record:
    return {"handle": handle, "tunnel": plan.connection["tunnel"], "nodes": plan.spec["batch"]["steps"][0]["ranks"]}


def _backend(record: Record) -> SlurmBackend:
    return SlurmBackend(record["tunnel"])


def _tunnel(record: Record) -> Tunnel:
    return make_tunnel(record["tunnel"])


def _job(record: Record) -> TaskStatus:
    return _backend(record).states([record["handle"]])[record["handle"]]


def _read(record: Record, name: str) -> str:
    """Return a file in the job's folder; empty where it is not there."""
    return _read_bytes(record, name).decode(errors="replace")


def _read_bytes(record: Record, name: str) -> bytes:
    folder = Handle.parse(record["handle"]).folder
    return _tunnel(record).execute(posix('cat -- "$1" 2>/dev/null || true', f"{folder}/{name}"))


def _facts(record: Record) -> dict[str, Any]:
    """Return what the head says; empty while it says nothing."""
    text = _read(record, "ray.json")
    return dict(json.loads(text)) if text else {}


def _reached(record: Record) -> dict[str, Any]:
    facts = _facts(record)
    if not facts or not facts["ready"]:
        raise ExecutorError("the Ray cluster is not ready yet: its head has not said how it is reached")
    return facts
