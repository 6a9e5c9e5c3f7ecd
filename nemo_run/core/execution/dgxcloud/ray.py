"""Ray on DGX Cloud: a cluster is one workload, on each node of which Ray is started.

Its dashboard is reached through the Kubernetes API of the cluster, so it need not be open to anybody.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import TaskRequest
from nemo_run.core.execution.dgxcloud import spec as bodies
from nemo_run.core.execution.dgxcloud.backend import DGXCloudBackend, backend_of
from nemo_run.core.execution.dgxcloud.client import namespace_of
from nemo_run.core.execution.dgxcloud.options import DGXCloudOptions
from nemo_run.core.execution.jobs import Command, JobState
from nemo_run.core.execution.launcher import ATTEMPT_FOLDER, Launcher
from nemo_run.core.execution.shared.pauses import wait_until
from nemo_run.core.execution.shared.program import HEAD, RANK
from nemo_run.core.execution.shared.service_names import service_name
from nemo_run.core.files import folder_name, make_folder, read_json, write_text
from nemo_run.core.ray import follower
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
from nemo_run.core.ray.jobs_api import PATIENCE, JobsApi, alive_nodes, check_installed
from nemo_run.core.ray.kept import JOBS, ended_with, keep_details
from nemo_run.errors import EngineUnreachableError, ExecutorError

if TYPE_CHECKING:
    from nemo_run.core.execution.jobs import Plan

_GONE_WITHIN = 300.0  # seconds for a workload to end or to be gone
_END = {
    JobState.SUCCEEDED: ClusterState.STOPPED,
    JobState.CANCELLED: ClusterState.STOPPED,
    JobState.FAILED: ClusterState.FAILED,
    JobState.UNKNOWN: ClusterState.UNKNOWN,
}

# Arguments: the head's address, the rank of the node, the folder of the attempt, the job that the cluster is for.
_NODE = """\
head=$1 rank=$2 attempt=$3 job=$4
PRE
export RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"
address=$(hostname -i 2>/dev/null); address=${address%% *}; : "${address:=127.0.0.1}"
trap 'exit 143' TERM
if [ "$rank" = 0 ]; then
  trap 'code=$?; echo "$code" > "$attempt/done"; ray stop >/dev/null 2>&1' EXIT
  ray start --head --node-ip-address="$address" --port=6379 GPUS \\
    --dashboard-host=0.0.0.0 --dashboard-port=DASHBOARD --block &
  if [ -n "$job" ]; then
    (cd "${0%/*}" && exec python3 -c FOLLOW "$job" "$attempt/job.json" > "$attempt/job.log") &
  fi
  wait -n
  exit
fi
trap 'ray stop >/dev/null 2>&1' EXIT
until ray health-check --address "$head:6379" >/dev/null 2>&1; do
  [ ! -e "$attempt/done" ] || exit "$(cat "$attempt/done")"
  sleep 1
done
ray start --address="$head:6379" --node-ip-address="$address" GPUS --block &
while kill -0 $! 2>/dev/null; do
  [ ! -e "$attempt/done" ] || exit "$(cat "$attempt/done")"
  sleep 1
done
wait $!
"""
_FOLLOW = (
    "import sys, follower; "
    f"sys.exit(follower.main('http://127.0.0.1:{DASHBOARD_PORT}', sys.argv[1], {PATIENCE}, sys.argv[2]))"
)


class DGXCloudRay:
    """Clusters on DGX Cloud."""

    def place(self, executor: ClusterExecutor) -> str:
        """Return the service and the project."""
        executor = _executor(ClusterSpec("", executor))
        return f"{executor.base_url.rstrip('/')} {executor.project_name}"

    def describe(self, spec: ClusterSpec) -> str:
        """Return the request that creates the workload, and the scripts that it runs."""
        spec.refuse_sizes("Ray finds out what a node has")
        with _backend(_executor(spec).connection(), spec) as backend:
            return f"{backend.describe(_plan(spec, backend))}\n\n# node.sh\n{_node_script(spec)}"

    def start(self, spec: ClusterSpec) -> Record:
        """Create the workload."""
        check_installed()
        with _backend(_executor(spec).connection(), spec) as backend:
            plan = _plan(spec, backend)
            scripts = make_folder(Path(plan.directory, "scripts"))
            write_text(scripts / "node.sh", _node_script(spec))
            write_text(scripts / "follower.py", Path(follower.__file__).read_text())
            backend.preflight([plan])
            _make_room(backend, plan)
            attempt = int(time.time())  # no other machine's, on the volume that they share
            try:
                handle = backend.start(plan, attempt)
            except BaseException:
                with contextlib.suppress(ExecutorError):
                    _delete(backend, plan)
                raise
            return _record(plan, handle)

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return a living workload of that name."""
        with _backend(_executor(spec).connection(), spec) as backend:
            plan = _plan(spec, backend)
            found = backend.client.find(plan.spec["name"])
            if found is None or bodies.phase_state(found)[0].is_final:
                return None
            workload = backend.client.get(plan.spec["kind"], found["id"]) or {}
            attempt = str((workload.get("spec") or {}).get("args", "")).rstrip("'").rpartition(" ")[2]
            if not attempt.isdecimal():
                raise ExecutorError(f"the workload {found['name']!r} is no Ray cluster of ours; use another name")
            backend.keep_secret()
            handle = backend.recover(plan, int(attempt))
            return _record(plan, handle) if handle else None

    def status(self, record: Record) -> ClusterStatus:
        """Return how the cluster is: what the service says, and then what Ray says."""
        with _backend(record["connection"]) as backend:
            job = backend.states([record["handle"]])[record["handle"]]
            wanted, details = record["nodes"], {"workload": record["name"]}
            if job.state in _END:
                reason = "" if job.state is JobState.CANCELLED else job.reason
                return ClusterStatus(_END[job.state], reason or _exit_reason(job.exit_code), 0, wanted, details)
            if job.state is not JobState.RUNNING:
                return ClusterStatus(ClusterState.STARTING, job.reason or "its workload is queued", 0, wanted, details)
            try:
                alive = alive_nodes(_dashboard(backend, record))
            except EngineUnreachableError:
                return ClusterStatus(ClusterState.STARTING, "its dashboard does not answer yet", 0, wanted, details)
        if alive < wanted:
            return ClusterStatus(ClusterState.STARTING, "not all nodes have joined", alive, wanted, details)
        return ClusterStatus(ClusterState.READY, "", alive, wanted, details)

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Give the dashboard, through the Kubernetes API, which passes on what is for a port of a pod."""
        with _backend(record["connection"]) as backend:
            yield _dashboard(backend, record)

    def forward(self, record: Record, port: int, target_port: int) -> AbstractContextManager[str]:
        """Raise :class:`~nemo_run.errors.ExecutorError`: the service forwards no ports."""
        raise ExecutorError(
            f"DGX Cloud forwards no ports to this machine; with kubectl: kubectl port-forward -n NAMESPACE "
            f"{record['name']}{'-worker-0' if record['nodes'] > 1 else '-0-0'} {port}:{target_port}"
        )

    def tail(self, record: Record, lines: int) -> str:
        """Return what the head has written."""
        with _backend(record["connection"]) as backend:
            return _log(backend, record["handle"], lines)

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return what the head has left of its job on the volume, or :meth:`stop` of any."""
        folder = _attempt(record)
        stopped = folder / JOBS / f"{job}.json"
        details = read_json(stopped) if stopped.exists() else None
        text = (folder / JOBS / f"{job}.log").read_text(errors="replace") if details else ""
        if details is None and job == record["until_job"]:
            with _backend(record["connection"]) as backend:
                backend.fetch_files(record["handle"])
            if (folder / "job.json").exists():
                details = read_json(folder / "job.json")
            text = (folder / "job.log").read_text(errors="replace") if (folder / "job.log").exists() else ""
        return KeptJob(details, text) if details else None

    def stop(self, record: Record) -> None:
        """Stop the workload, and delete it; how its jobs were is written down first."""
        handle = record["handle"]
        with _backend(record["connection"]) as backend:
            if backend.states([handle])[handle].state.is_final:
                return
            _keep_jobs(backend, record)
            backend.cancel([handle])
            _wait(lambda: backend.states([handle])[handle].state.is_final, record["name"])
            found = backend.client.find(record["name"])
            if found is not None:
                backend.client.delete(record["kind"], found["id"])
                _wait(lambda: backend.client.find(record["name"]) is None, record["name"])


# --- what is run ---------------------------------------------------------------------------------------------------


def _executor(spec: ClusterSpec) -> DGXCloudOptions:
    executor = spec.executor
    if not isinstance(executor, DGXCloudOptions):
        raise ExecutorError(
            f"Ray cluster {spec.name!r}: the dgxcloud engine needs a DGXCloudExecutor, not {executor!r}"
        )
    if not executor.kube_apiserver_url:
        raise ExecutorError(
            f"Ray cluster {spec.name!r}: its dashboard is reached through kube_apiserver_url of the DGXCloudExecutor, "
            "which is not given"
        )
    return executor


def _node_script(spec: ClusterSpec) -> str:
    executor = _executor(spec)
    gpus = f"--num-gpus={executor.gpus_per_node}" if executor.gpus_per_node else ""
    values = {"PRE": "\n".join(spec.pre_ray_start_commands), "GPUS": gpus, "DASHBOARD": str(DASHBOARD_PORT)}
    script = _NODE.replace("FOLLOW", f'"{_FOLLOW}"')
    for name, value in values.items():
        script = script.replace(name, value)
    return script


def _plan(spec: ClusterSpec, backend: DGXCloudBackend) -> Plan:
    executor = _executor(spec).clone()
    executor.launcher = Launcher()
    folder = Path(get_nemorun_home(), "ray", "dgxcloud", folder_name(spec.name))
    several = executor.nnodes() > 1
    where = (HEAD, RANK) if several else ("localhost", "0")
    argv = ("bash", f"{folder}/scripts/node.sh", *where, f"{folder}/{ATTEMPT_FOLDER}", spec.until_job)
    command = Command(argv, dict(executor.env_vars))
    (plan,) = backend.render([TaskRequest("Ray", spec.name, str(folder), executor, command)])
    # The same name wherever it is asked for: that is how a cluster is found.
    plan.spec["name"] = service_name(spec.name, f"/ray/{spec.name}", 1, bodies.LONGEST_NAME)
    return plan


def _record(plan: Plan, handle: str) -> Record:
    return {
        "connection": plan.connection,
        "handle": handle,
        "kind": plan.spec["kind"],
        "name": plan.spec["name"],
        "nodes": plan.spec["nodes"],
        "until_job": plan.spec["argv"][-1],
    }


def _make_room(backend: DGXCloudBackend, plan: Plan) -> None:
    """Delete the workload of a cluster of this name that has ended."""
    found = backend.client.find(plan.spec["name"])
    if found is not None and bodies.phase_state(found)[0].is_final:
        _delete(backend, plan)


def _delete(backend: DGXCloudBackend, plan: Plan) -> None:
    """Delete the workload of a cluster, and wait until it is gone."""
    name, client = plan.spec["name"], backend.client
    found = client.find(name)
    if found is not None:
        client.delete(plan.spec["kind"], found["id"])
        _wait(lambda: client.find(name) is None, name)


# --- what runs -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _backend(connection: dict[str, Any], spec: ClusterSpec | None = None) -> Iterator[DGXCloudBackend]:
    backend = backend_of(_executor(spec)) if spec else DGXCloudBackend(**connection)
    with contextlib.closing(backend):
        yield backend


def _dashboard(backend: DGXCloudBackend, record: Record) -> Dashboard:
    client = backend.client
    workload = client.find(record["name"])
    pods = client.pods(workload["id"]) if workload else []
    if not workload or not pods:
        raise EngineUnreachableError(f"the head of the Ray cluster {record['name']} has no pod")
    url = client.pod_proxy_url(namespace_of(workload, client.project()), pods[0]["name"], DASHBOARD_PORT)
    return Dashboard(url, token=client.token_source())


def _attempt(record: Record) -> Path:
    return Path("/" + record["handle"].partition("://")[2].split("/", 2)[2])


def _exit_reason(code: int | None) -> str:
    return f"its head ended with exit code {code}" if code else ""


def _log(backend: DGXCloudBackend, handle: str, lines: int) -> str:
    try:
        reader = backend.open_log(handle, tail=lines)
        with contextlib.closing(reader):
            return b"".join(iter(reader.read, b"")).decode(errors="replace")
    except ExecutorError:
        return ""


def _keep_jobs(backend: DGXCloudBackend, record: Record) -> None:
    """Write down how the jobs of a cluster are; they end with it."""
    with contextlib.suppress(ExecutorError), JobsApi(_dashboard(backend, record), tries=1) as jobs:
        for job in jobs.list():
            folder, name = _attempt(record) / JOBS, job["submission_id"]
            text = jobs.logs(name)
            keep_details(folder, name, ended_with(job, ""))
            write_text(folder / f"{name}.log", text)


def _wait(until: Callable[[], bool], name: str) -> None:
    wait_until(
        until,
        lambda within: f"the workload {name} is not gone after {within:g} s; see the service's own pages",
        within=_GONE_WITHIN,
    )
