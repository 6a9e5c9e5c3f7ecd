"""The nodes of a Ray cluster on this machine: all of them are processes below this one, and end with it.

``python -m nemo_run.core.execution.local.ray_nodes SETTINGS`` starts the nodes that ``SETTINGS`` (JSON) asks for, on
loopback only, says in ``cluster.json`` of its attempt's folder how they are reached, and stays until the head has died
or the job that the cluster is for has ended.  Of every job it leaves the log there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nemo_run.core.execution.local import available_cpus, available_gpus, supervisor
from nemo_run.core.files import write_text
from nemo_run.core.ray.engine import Dashboard
from nemo_run.core.ray.jobs_api import FINAL, PATIENCE, JobsApi, submitted
from nemo_run.core.ray.kept import JOBS, Keeper, keep_logs
from nemo_run.core.ray.node import Idleness, descendants, last_words
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import EngineUnreachableError

CLUSTER = "cluster.json"
TOKEN = "token"  # noqa: S105  (the name of its file)
LOGS = "ray/session_latest/logs"
"""Where Ray writes its logs, below the folder for temporary files."""

_POLL = 1.0
_LONGEST_TMPDIR = 60  # characters; the path of a socket has 107 at most
_ESSENTIAL = {"gcs_server", "raylet", "dashboard"}


def main(settings: dict[str, Any]) -> int:
    """Run the nodes; the exit code."""
    folder = Path(os.environ[supervisor.MARKER])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    temp, idleness = Path(settings["temp_dir"]), Idleness(settings["idle_timeout"])
    try:
        with nodes_started(settings, temp, folder) as (nodes, dashboard, gcs), JobsApi(dashboard, tries=1) as jobs:
            wait_for_nodes(jobs, nodes)
            facts = {"dashboard": dashboard.url, "gcs": gcs, "ready": True}
            tell(folder, joined=len(nodes), **facts)
            keeper = Keeper(folder / JOBS, temp / LOGS)
            code = watch(jobs, nodes, settings["until_job"], folder, facts, keeper, idleness)
    except Exception as e:  # noqa: BLE001  (whatever Ray raises is why there is no cluster)
        sys.stderr.write(f"Ray did not start, or its head died: {e}\n")
        tell(folder, ending=True, why=in_one_line(str(e)))
        return 1
    else:
        if idleness.is_over([]):
            tell(folder, ending=True, why=idleness.words)
        return code
    finally:
        keep_logs(temp / LOGS, folder / JOBS)
        shutil.rmtree(temp, ignore_errors=True)


def in_one_line(text: str) -> str:
    r"""Return the first line of a text, which says what failed, and the last one, which says why.

    >>> in_one_line("of the head raylet died\n--- raylet.err:\nout of memory\n")
    'of the head raylet died (out of memory)'
    """
    first, *others = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return f"{first} ({others[-1][:300]})" if others else first


@contextmanager
def nodes_started(settings: dict[str, Any], temp: Path, folder: Path) -> Iterator[tuple[list[Any], Dashboard, str]]:
    """Yield the nodes of a new cluster, its dashboard, and the address for ``ray.init()``."""
    temp.mkdir(mode=0o700, parents=True, exist_ok=True)
    if len(tempfile.gettempdir()) > _LONGEST_TMPDIR:
        os.environ["TMPDIR"] = "/tmp"  # noqa: S108  (Ray's processes have sockets there)
    os.environ.update(
        RAY_TMPDIR=str(temp),  # where the address is written that ray.init() looks for: not where other Rays do
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # has every node on 127.0.0.1; then nothing listens on other addresses
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="token",  # others who can log in to this machine are not let in
        RAY_AUTH_TOKEN_PATH=write_token(folder),
        DASHBOARD_METRIC_PORT=str(free_port()),  # these would be the same in all clusters
        AUTOSCALER_METRIC_PORT=str(free_port()),
        PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),  # noqa: PTH120
    )
    from ray.cluster_utils import Cluster

    count = settings["nodes"]
    cpus, gpus = shares(count)
    common = {"object_store_memory": settings["object_store_memory"], "temp_dir": str(temp / "ray")}
    common |= {"memory": settings["memory"]} if settings["memory"] else {}
    head = {
        "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": free_port(),
        "dashboard_agent_listen_port": 0,
    }  # fmt: skip
    cluster = Cluster()
    try:
        nodes = []
        for index in range(count):
            tell(folder, stage=f"node {index + 1} of {count} is started", joined=index)
            if gpus[index]:
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[index])
            own = {
                **(head if index == 0 else {}),
                **common, "num_cpus": cpus[index], "num_gpus": len(gpus[index]),
                "resources": {name: own[index] for name, own in settings["resources"].items() if own[index]},
                "runtime_env_dir_name": f"runtime_resources_{index}",  # else one node deletes what another one uses
            }  # fmt: skip
            nodes.append(start_node(cluster, own))
        tell(folder, stage="its dashboard is started", joined=count)
        headers = bearer(folder / TOKEN)
        yield nodes, Dashboard(f"http://127.0.0.1:{head['dashboard_port']}", headers), cluster.gcs_address
    except Exception as e:
        words = [str(e) or repr(e), *last_words(temp / "ray")]  # before the logs tell of the shutdown
        raise RuntimeError("\n".join(words)) from e
    finally:
        tell(folder, ending=True)
        keep_logs(temp / LOGS, folder / JOBS)  # before anybody can see that it has ended
        with suppress(Exception):  # whatever is left is ended by the supervisor
            cluster.shutdown()


def start_node(cluster: Any, options: dict[str, Any], tries: int = 4) -> Any:
    """Start one node; again where it was not up in the half minute that Ray grants, as on a busy machine."""
    try:
        return cluster.add_node(**options)
    except Exception as e:
        if tries == 1 or "timed out during startup" not in str(e):
            raise
        sys.stderr.write(f"{e} It is started again.\n")
    if cluster.head_node is None:  # what is left of the head would go on
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return start_node(cluster, options, tries - 1)


def write_token(folder: Path) -> str:
    """Make the token that everybody has to show who speaks to this Ray; the path of its file."""
    write_text(folder / TOKEN, secrets.token_hex(32))
    return str(folder / TOKEN)


def bearer(token: Path) -> dict[str, str]:
    """Return the headers with which Ray lets in who has its token; none for a cluster without one."""
    return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}


def tell(folder: Path, **facts: Any) -> None:
    """Say how far the cluster is."""
    supervisor.write_json(str(folder / CLUSTER), facts)


def shares(count: int) -> tuple[list[int], list[list[str]]]:
    """Return what each node gets of the CPU cores and the GPUs that this process may use."""
    gpus = available_gpus()
    cores = len(available_cpus())
    per_node = [max(1, cores // count + (index < cores % count)) for index in range(count)]
    return per_node, [gpus[index::count] for index in range(count)]


def wait_for_nodes(jobs: JobsApi, nodes: list[Any]) -> None:
    """Wait until the REST API answers and knows all nodes; the process that started the cluster limits the time."""
    while True:
        check(nodes)
        with suppress(EngineUnreachableError):
            if jobs.alive_nodes() >= len(nodes):
                return
        time.sleep(0.1)


def check(nodes: list[Any]) -> None:
    """Raise where an essential process of the head has died."""
    dead = dead_processes(nodes[0])
    if dead:
        raise RuntimeError(f"of the head {', '.join(sorted(dead))} died")


def dead_processes(node: Any) -> set[str]:
    """Return which essential processes of a node have died."""
    return {kind for kind, _ in node.dead_processes()} & _ESSENTIAL


def watch(
    jobs: JobsApi,
    nodes: list[Any],
    job: str,
    folder: Path,
    facts: dict[str, Any],
    keeper: Keeper,
    idleness: Idleness,
) -> int:
    """Stay until the head has died, or the job has ended, or nothing runs for too long; the exit code.

    How each job ended is written down as soon as it is known.
    """
    alive = len(nodes)
    give_up = time.monotonic() + PATIENCE if job else float("inf")
    while time.monotonic() < give_up:
        time.sleep(_POLL)
        check(nodes)
        if alive != (alive := sum(not dead_processes(node) for node in nodes)):
            tell(folder, joined=alive, **facts)
        with suppress(EngineUnreachableError):
            drivers = jobs.drivers()
            found = {details["submission_id"]: details for details in submitted(drivers)}
            keeper.note(found.values())
            if idleness.is_over(drivers):
                return 0
            if found.get(job, {}).get("status") in FINAL:
                return 0
            if job in found:
                give_up = float("inf")
    sys.stderr.write(f"the job {job} that this cluster is for was not submitted within {PATIENCE:g} s\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
