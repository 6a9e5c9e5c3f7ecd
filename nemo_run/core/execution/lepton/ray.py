"""Ray on DGX Cloud Lepton, which makes clusters itself and leads to their dashboards through its own address.

Lepton ends no cluster by itself. So one for the time of a job has a watcher: a process on this machine, which lives on
without the one that launched, and keeps what the job wrote before it deletes the cluster. Whoever looks at the cluster
does the same where the watcher is gone.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.lepton import spec as bodies
from nemo_run.core.execution.lepton.client import LeptonClient, default_connection, find_token
from nemo_run.core.execution.lepton.options import LeptonOptions
from nemo_run.core.execution.lepton.script import ENCODED
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.execution.shared.service_names import digest
from nemo_run.core.files import folder_name, make_folder, read_json, write_json, write_text
from nemo_run.core.masking import masked
from nemo_run.core.ray import jobs_api
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
from nemo_run.core.ray.proxy import serving
from nemo_run.core.runners.detached import start_detached
from nemo_run.errors import EngineUnreachableError, ExecutorError

_GONE_WITHIN = 300.0  # seconds for a deleted cluster to be gone
_ENDING = ("Deleting", "Stopping", "Stopped")


class LeptonRay:
    """Clusters that Lepton makes."""

    def place(self, executor: ClusterExecutor) -> str:
        """Return the name of the workspace."""
        return default_connection()["workspace"]

    def describe(self, spec: ClusterSpec) -> str:
        """Return the request that creates the cluster; values of secrets masked."""
        spec.refuse_sizes("they follow from resource_shape")
        executor = _executor_of(spec)
        body = cluster_body(spec.name, executor, f"(the id of {executor.node_group})" if executor.node_group else "")
        for group in (body["spec"]["head_group_spec"], *body["spec"]["worker_group_specs"]):
            for env in group.get("envs", []):
                if "value" in env:
                    env["value"] = masked({env["name"]: env["value"]})[env["name"]]
        return f"POST /rayclusters\n{json.dumps(body, indent=2, ensure_ascii=False)}"

    def start(self, spec: ClusterSpec) -> Record:
        """Create the cluster, and its watcher where it is for one job."""
        executor = _executor_of(spec)
        with _connected(default_connection()) as client:
            client.check()
            name = cluster_name(spec.name)
            _wait_until_gone(client, name)
            group = client.node_group_id(executor.node_group) if executor.node_group else ""
            try:
                made = _create(client, cluster_body(spec.name, executor, group))
            except EngineUnreachableError:
                if spec.until_job:  # nobody would end it, if it is made all the same
                    with contextlib.suppress(ExecutorError):
                        client.rest.delete(_path(name))
                raise
        record = _record(made, spec.until_job)
        if spec.until_job:
            try:
                _start_watcher(record)
            except BaseException:
                self.stop(record)
                raise
        return record

    def find(self, spec: ClusterSpec) -> Record | None:
        """Return a living cluster of that name in the workspace."""
        with _connected(default_connection()) as client:
            found = _get(client, cluster_name(spec.name))
        return None if found is None or _state(found) in _ENDING else _record(found)

    def status(self, record: Record) -> ClusterStatus:
        """Return how the cluster is: what Lepton says, and then what Ray says."""
        with _connected(record["connection"]) as client:
            found = _same(client, record)
        wanted = record["nodes"]
        if found is None or _state(found) in _ENDING:
            reason = f"Lepton says: {_state(found)}" if found else "there is no such cluster any more"
            return ClusterStatus(ClusterState.STOPPED, reason, 0, wanted)
        details = {**(found.get("status") or {}), "cluster_name": record["name"]}
        if _state(found) != "Ready":
            reason = ": ".join(filter(None, [f"Lepton says: {_state(found) or 'nothing'}", _conditions(found)]))
            return ClusterStatus(ClusterState.STARTING, reason, 0, wanted, details)
        return self._status_of_ray(record, details)

    def _status_of_ray(self, record: Record, details: Mapping[str, Any]) -> ClusterStatus:
        """Return how a cluster is that Lepton has made: what Ray says."""
        wanted, details = record["nodes"], dict(details)
        try:
            if settle(record):
                return ClusterStatus(ClusterState.STOPPED, "its job has ended", 0, wanted)
            with self.dashboard(record) as dashboard:
                joined = jobs_api.alive_nodes(dashboard)
        except EngineUnreachableError:
            return ClusterStatus(ClusterState.STARTING, "its dashboard does not answer yet", 0, wanted, details)
        waits = "" if joined >= wanted else "its nodes have not all joined yet"
        state = ClusterState.STARTING if waits else ClusterState.READY
        return ClusterStatus(state, waits, joined, wanted, details)

    @contextlib.contextmanager
    def dashboard(self, record: Record) -> Iterator[Dashboard]:
        """Give the dashboard, through the address of the workspace."""
        yield _dashboard(record)

    @contextlib.contextmanager
    def forward(self, record: Record, port: int, target_port: int) -> Iterator[str]:
        """Serve the dashboard on this machine; Lepton leads to nothing else."""
        if target_port != DASHBOARD_PORT:
            raise ExecutorError(
                f"port {target_port} of a Ray cluster on Lepton cannot be reached, only its dashboard: {DASHBOARD_PORT}"
            )
        with serving(_dashboard(record), port) as address:
            yield address

    def tail(self, record: Record, lines: int) -> str:
        """Return nothing: Lepton has no logs of clusters."""
        return ""

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return what was kept of the job that the cluster was for."""
        details, log = _folder(record) / f"{job}.json", _folder(record) / f"{job}.log"
        if not details.exists():
            return None
        known = read_json(details)
        if known["status"] not in jobs_api.FINAL:
            known |= {"status": "STOPPED", "message": "its cluster was stopped"}
        return KeptJob(known, log.read_text(errors="replace") if log.exists() else "")

    def stop(self, record: Record) -> None:
        """Delete the cluster, and wait until it is gone; how its job was is written down first."""
        with _connected(record["connection"]) as client:
            if _same(client, record) is None:
                return
            with contextlib.suppress(ExecutorError):
                _keep(record)
            _delete(client, record)
            _wait_until_gone(client, record["name"])


def _start_watcher(record: Record) -> None:
    """Start the process that deletes the cluster when its job has ended; it outlives this one."""
    folder = make_folder(_folder(record))
    write_json(folder / "record.json", record)
    watcher = start_detached(f"{__package__}.ray_watch", [str(folder / "record.json")], folder / "watcher.log")
    watcher.returncode = 0  # nobody waits for it


def settle(record: Record) -> bool:
    """Delete a cluster that is for one job, if that has ended; whether it had.

    Raises:
        EngineUnreachableError: Lepton, or the cluster, does not answer.
    """
    if not record["until_job"] or not _keep(record):
        return False
    with _connected(record["connection"]) as client:
        if _same(client, record) is not None:
            _delete(client, record)
    return True


def _keep(record: Record) -> bool:
    """Write down how the job is that a cluster is for, and what it wrote; whether it has ended."""
    job = record["until_job"]
    if not job:
        return False
    with jobs_api.JobsApi(_dashboard(record), tries=1) as api:
        details = api.details(job)
        if details is None:
            return False
        folder = make_folder(_folder(record))
        write_text(folder / f"{job}.log", api.logs(job))
        write_json(folder / f"{job}.json", details)
    return details["status"] in jobs_api.FINAL


def is_submitted(record: Record) -> bool | None:
    """Return whether the job that a cluster is for is there; ``None`` where the cluster is gone.

    Raises:
        EngineUnreachableError: Lepton, or the cluster, does not answer.
    """
    with _connected(record["connection"]) as client:
        found = _same(client, record)
    if found is None or _state(found) in _ENDING:
        return None
    with jobs_api.JobsApi(_dashboard(record), tries=1) as api:
        return api.details(record["until_job"]) is not None


# --- what is sent ------------------------------------------------------------------------------------------------


def cluster_name(name: str) -> str:
    """Return the name of a cluster on Lepton.

    >>> cluster_name("my-cluster"), cluster_name("My cluster")
    ('my-cluster', 'my-cluster-1b5364')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"r{slug}"
    if slug == name and len(slug) <= bodies.LONGEST_NAME:
        return slug
    return f"{slug[: bodies.LONGEST_NAME - 7].strip('-')}-{digest(name)[:6]}"


def cluster_body(name: str, executor: LeptonOptions, node_group_id: str) -> dict[str, Any]:
    """Return the body that creates a cluster: a head, and a worker for each of the executor's nodes."""
    spec = bodies.lepton_spec(executor)
    # Values that Kubernetes would change are left out: jobs get all of them from their runtime environment.
    envs = [env for env in bodies.variables(executor.env_vars, executor.secret_vars) if _arrives(env)]
    common = {
        "affinity": {"allowed_dedicated_node_groups": [node_group_id]} if node_group_id else None,
        "envs": envs,
        **{key: spec.get(key) for key in ("mounts", "shared_memory_size", "queue_config", "reservation_config")},
    }
    cloud_name = cluster_name(name)
    body = {
        "image": executor.container_image,
        "image_pull_secrets": executor.image_pull_secrets,
        "ray_version": executor.ray_version,
        "suspend": False,
        "head_group_spec": _given(
            {**common, "resource_shape": executor.head_resource_shape or executor.resource_shape, "min_replicas": 1}
        ),
        "worker_group_specs": [
            _given({**common, "resource_shape": executor.resource_shape, "min_replicas": executor.nodes})
        ],
    }
    return {"metadata": {"id": cloud_name, "name": cloud_name}, "spec": _given(body)}


def _arrives(env: Mapping[str, Any]) -> bool:
    return not env["name"].startswith(ENCODED)


def _given(doc: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if value not in (None, "", [], {})}


def _executor_of(spec: ClusterSpec) -> LeptonOptions:
    if not isinstance(spec.executor, LeptonOptions):
        raise ExecutorError(f"Ray on Lepton needs a LeptonExecutor, not {spec.executor!r}")
    if spec.pre_ray_start_commands:
        raise ExecutorError(
            "Lepton starts Ray itself, so pre_ray_start_commands cannot be run; put what they do into the image, or "
            "into the command of the job"
        )
    return spec.executor


# --- what is there -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _connected(connection: Mapping[str, str]) -> Iterator[LeptonClient]:
    with contextlib.closing(LeptonClient(connection)) as client:
        yield client


def _path(name: str) -> str:
    return f"rayclusters/{quote(name, safe='')}"


def _get(client: LeptonClient, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = client.rest.get(_path(name), absent=(404,))
    return found


def _create(client: LeptonClient, body: Mapping[str, Any]) -> dict[str, Any]:
    name = body["metadata"]["id"]
    client.rest.create("rayclusters", body, lambda: _get(client, name))
    made = _get(client, name)
    if made is None:
        raise EngineUnreachableError(f"Lepton has taken the Ray cluster {name!r}, but does not know of it yet")
    return made


def _same(client: LeptonClient, record: Record) -> dict[str, Any] | None:
    """Return the cluster, unless it is another one that has the name now."""
    found = _get(client, record["name"])
    return found if found is not None and _created(found) == record["created"] else None


def _state(cluster: Mapping[str, Any]) -> str:
    return str((cluster.get("status") or {}).get("state") or "")


def _created(cluster: Mapping[str, Any]) -> int:
    return int(cluster["metadata"].get("created_at") or 0)


def _conditions(cluster: Mapping[str, Any]) -> str:
    conditions = (cluster.get("status") or {}).get("conditions") or []
    return "; ".join(str(one["message"]) for one in conditions if one.get("status") == "False" and one.get("message"))


def _record(cluster: Mapping[str, Any], until_job: str = "") -> Record:
    spec = cluster.get("spec") or {}
    workers = sum(group.get("min_replicas") or 0 for group in spec.get("worker_group_specs") or [])
    return {
        "connection": default_connection(),
        "name": cluster["metadata"].get("id") or cluster["metadata"]["name"],
        "created": _created(cluster),
        "nodes": 1 + workers,
        "until_job": until_job,
    }


def _folder(record: Record) -> Path:
    """Return where it is kept what is left of a cluster."""
    workspace = record["connection"]["workspace"]
    return Path(get_nemorun_home(), "ray", "lepton", folder_name(workspace), f"{record['name']}-{record['created']}")


def _dashboard(record: Record) -> Dashboard:
    connection = record["connection"]
    headers = {
        "Authorization": f"Bearer {find_token(connection['workspace'])}",
        "origin": page_of(connection["url"]),
    }
    return Dashboard(f"{connection['url']}/{_path(record['name'])}/dashboard", headers)


def page_of(url: str) -> str:
    """Return the page of a workspace in Lepton's own dashboard, the expected origin of requests to those of Ray.

    >>> page_of("https://gateway.dgxc-lepton.nvidia.com/api/v2/workspaces/ws1")
    'https://dashboard.dgxc-lepton.nvidia.com/workspace/ws1'
    """
    page = url.replace("://gateway", "://dashboard", 1).replace("/api/v2", "", 1)
    return page.replace("/workspaces", "/workspace", 1)


def _delete(client: LeptonClient, record: Record) -> None:
    client.rest.delete(_path(record["name"]))


def _wait_until_gone(client: LeptonClient, name: str) -> None:
    pauses = Pauses(until=time.monotonic() + _GONE_WITHIN)
    while (found := _get(client, name)) is not None and _state(found) in _ENDING:
        if _state(found) == "Stopped":
            raise ExecutorError(f"the Ray cluster {name!r} is suspended on Lepton; resume it there, or delete it")
        if pauses.over:
            raise ExecutorError(f"the Ray cluster {name!r} was deleted, but is not gone after {_GONE_WITHIN:g} s")
        pauses.sleep()
