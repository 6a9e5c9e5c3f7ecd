"""What the official SDK says and does; runs in its own environment, which has nothing of ours."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from leptonai.api.v2.client import APIClient
from leptonai.api.v2.job_validation import validate_job_create
from leptonai.api.v2.types.job import LeptonJob
from leptonai.api.v2.types.raycluster import LeptonRayCluster


def parse(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The bodies as the models understand them."""
    parsed = []
    for body in bodies:
        if "worker_group_specs" in body["spec"]:
            model: Any = LeptonRayCluster(**body)
        else:
            model = LeptonJob(**body)
            validate_job_create(model)
        parsed.append(json.loads(model.model_dump_json(by_alias=True, exclude_none=True)))
    return parsed


def drive(body: dict[str, Any]) -> dict[str, Any]:
    """All that can be done with a job, through the client."""
    client = APIClient()
    groups = client.nodegroup.list_all()
    nodes = client.nodegroup.list_nodes(groups[0])
    made = client.job.create(LeptonJob(**body))
    name = made.metadata.id_
    _until(lambda: client.job.get(name).status.state.value == "Running")
    listed = client.job.list_all(job_query_mode="alive_and_archive", q=name, page=1, page_size=500)
    (replica,) = client.job.get_replicas(name)
    events = client.job.get_events(name)
    next(iter(client.job.get_log(name, replica)))  # it says something before it is stopped
    client.job.update(name, spec={"spec": {"stopped": True}})
    _until(lambda: client.job.get(name).status.state.value == "Stopped")
    log = "".join(client.job.get_log(name, replica))
    client.job.delete(name)
    return {
        "groups": [group.metadata.name for group in groups],
        "nodes": [node.metadata.id_ for node in nodes],
        "listed": [job.metadata.id_ for job in listed],
        "replica": replica.metadata.id_,
        "events": [event.reason for event in events],
        "log": log,
    }


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit("it did not come to that")
        time.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps({"parse": parse, "drive": drive}[sys.argv[1]](json.load(sys.stdin))))
