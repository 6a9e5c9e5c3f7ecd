"""The official SDK and this package agree: on what requests say, and on how the service is spoken to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.lepton.client import LeptonClient, default_connection, replica_id
from nemo_run.core.execution.lepton.ray import cluster_body
from nemo_run.core.execution.lepton.spec import LeptonJobState
from tests.lepton.conftest import executor_on
from tests.services import leptonai
from tests.services.lepton import Lepton, Request
from tests.support import eventually

pytestmark = pytest.mark.needs("leptonai")

NOISY = {"LOGURU_LEVEL": "ERROR"}


def sdk(what: str, question: Any) -> Any:
    """Ask the SDK."""
    done = subprocess.run(
        [leptonai.PYTHON, Path(__file__).with_name("sdk.py"), what],
        input=json.dumps(question), capture_output=True, text=True, check=False, env={**os.environ, **NOISY},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_within(part: Any, whole: Any, where: str = "") -> None:
    """All that the part says, the whole says, too: no field was unknown, no value was understood differently."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{where}.{key} is not known to the SDK"
            assert_within(value, whole[key], f"{where}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), where
        for index, value in enumerate(part):
            assert_within(value, whole[index], f"{where}[{index}]")
    else:
        assert part == whole, where


def test_every_body_is_one_of_the_models(lepton: Lepton, mount: Path) -> None:
    executors = {
        "plain": executor_on(mount),
        "whole": executor_on(
            mount,
            nodes=2,
            node_group="group-a",
            node_reservation="res-1",
            image_pull_secrets=["registry"],
            secret_vars={"TOKEN": "my-secret"},
            env_vars={"LR": "0.1", "EMPTY": "", "PRICE": "$5"},
            can_preempt=True,
            can_be_preempted=True,
            queue_priority="high-7000",
            custom_spec={"ttl_seconds_after_finished": 60, "log": {"save_termination_logs": True}},
        ),
    }
    with run.Experiment("A very long Title_of.an-experiment", clean_mode=True) as exp:
        for name, executor in executors.items():
            task = run.Script(inline="echo 1 > $NEMO_RUN_ARTIFACTS/a")
            exp.add(task, executor=executor, name=f"{name}_and-a.very-Long_Name-for-a-job")
        exp.add(run.Partial(len, "abc"), executor=executor_on(mount), name="function")
        exp.run()
    sent = [request.body for request in lepton.requests if (request.method, request.path) == ("POST", "/jobs")]
    kinds = {body["metadata"]["id"][:6] for body in sent}
    assert kinds == {"plain-", "whole-", "functi", "nr-put", "nr-get"}
    for body, understood in zip(sent, sdk("parse", sent), strict=True):
        assert_within(body, understood, body["metadata"]["id"])


def test_the_body_of_a_ray_cluster_is_one_of_the_models(mount: Path) -> None:
    executor = executor_on(
        mount,
        nodes=2,
        node_reservation="res-1",
        image_pull_secrets=["registry"],
        secret_vars={"TOKEN": "my-secret"},
        can_preempt=True,
        ray_version="2.60.0",
        head_resource_shape="cpu.small",
    )
    body = cluster_body("a cluster", executor, "ng-a1")
    (understood,) = sdk("parse", [body])
    assert_within(body, understood)


def test_the_client_works_with_the_same_service_in_the_same_way(lepton: Lepton) -> None:
    lepton.events = {
        name: [{"type": "Warning", "reason": "Why", "count": 1, "last_observed_time": "2026-01-01T00:00:00Z"}]
        for name in ("job-a", "job-b")
    }
    body = {
        "metadata": {"id": "job-a", "name": "job-a"},
        "spec": {"container": {"image": "x", "command": ["sh", "-c", "echo hello; exec sleep 60"]}},
    }
    said = sdk("drive", body)
    assert said["groups"] == ["group-a", "group-b"]
    assert (said["nodes"], said["listed"], said["events"]) == (["n1"], ["job-a"], ["Why"])
    assert (said["log"], said["replica"].rpartition("-")[0]) == ("hello\n", "job-a-0")
    theirs = requests_of(lepton, "job-a")

    workspace = LeptonClient(default_connection())
    assert workspace.node_group_id("group-a") == "ng-a1"
    workspace.create({**body, "metadata": {"id": "job-b", "name": "job-b"}})
    eventually(lambda: (workspace.job("job-b") or {})["status"]["state"] == "Running")
    assert list(workspace.jobs("job-b")) == ["job-b"]
    replica = workspace.replicas("job-b")[0]
    assert workspace.warnings("job-b") == "Why"
    workspace.stop("job-b")
    eventually(lambda: (workspace.job("job-b") or {})["status"]["state"] == "Stopped")
    with workspace.log("job-b", replica_id(replica)) as pieces:
        assert b"".join(pieces) == b"hello\n"
    workspace.delete("job-b")
    workspace.close()
    ours = requests_of(lepton, "job-b")
    nodes = ("GET", "/dedicated-node-groups/ng-a1/nodes", "{}", "null")  # which is not needed
    assert ours == theirs - {nodes}


def requests_of(lepton: Lepton, name: str) -> set[tuple[str, str, str, str]]:
    """The requests since the last time; less what differs by chance."""
    found, lepton.requests = lepton.requests, []
    return {_comparable(request, name) for request in found}


def _comparable(request: Request, name: str) -> tuple[str, str, str, str]:
    creates = request.method == "POST"  # what these bodies say is for the test above
    texts = [request.path, json.dumps(request.query), "" if creates else json.dumps(request.body)]
    path, query, body = (text.replace(name, "NAME") for text in texts)
    if "/replicas/" in path:
        path = "/jobs/NAME/replicas/ID/log"
    return request.method, path, query, body


def test_the_states_are_those_of_the_sdk() -> None:
    code = "from leptonai.api.v2.types.job import LeptonJobState; print([(s.name, s.value) for s in LeptonJobState])"
    done = subprocess.run([leptonai.PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([(state.name, state.value) for state in LeptonJobState])
