"""Ray on DGX Cloud: real clusters of two nodes, in workloads of the service of the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run.errors import ExecutorError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob
from tests.dgxcloud import server
from tests.dgxcloud.executors import make_executor
from tests.support import eventually

pytestmark = [pytest.mark.needs("pods"), pytest.mark.needs("ray")]


@pytest.fixture(autouse=True)
def image(service: server.Server) -> Iterator[None]:
    """The image has Ray."""
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    service.environment = {"PATH": path, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    service.own_networks = True
    yield
    service.environment, service.own_networks = {}, False


def test_a_cluster_of_two_nodes_and_its_jobs(
    service: server.Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = RayCluster("two", make_executor(nodes=2))
    with pytest.raises(ExecutorError, match="start it first"):
        cluster.running()
    cluster.start(timeout=300, pre_ray_start_commands=["export FROM_PRE=1"])
    status = cluster.status(display=False)
    assert (status["state"], status["nodes_ready"], status["nodes_wanted"]) == ("ready", 2, 2)
    cluster.start()
    assert len(service.named("distributed")) == 1

    code = tmp_path / "code"
    code.mkdir()
    (code / "count.py").write_text("import os, ray; ray.init(); print('nodes', len(ray.nodes()), os.environ['A'])")
    job = RayJob("count", make_executor(nodes=2, env_vars={"A": "of the executor"}), cluster_name="two")
    job.start("python count.py; exit 5", str(code))
    service.revoke_tokens()
    with pytest.raises(RayJobFailedError, match="exit code 5"):
        job.wait(200)
    capsys.readouterr()
    job.logs(follow=True)
    assert "nodes 2 of the executor\n" in capsys.readouterr().out

    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "another"))  # as on another machine
    other = RayCluster("two", make_executor(nodes=2))
    assert other.status(display=False)["state"] == "ready"
    other.stop()
    assert other.status(display=False)["state"] == "stopped"
    assert service.workloads == {}


def test_a_job_with_a_cluster_of_its_own(service: server.Server, capsys: pytest.CaptureFixture[str]) -> None:
    job = RayJob("own", make_executor())
    job.start("echo hello from ray; exit 3", "")
    with pytest.raises(RayJobFailedError, match="exit code 3"):
        job.wait(200)
    eventually(
        lambda: service.workloads and all(w.phase == "Completed" for w in service.workloads.values()), within=120
    )
    capsys.readouterr()
    job.logs()
    assert "hello from ray" in capsys.readouterr().out
    assert RayCluster("own", make_executor()).status(display=False)["state"] == "stopped"
    job.start("echo again", "")
    assert job.wait(200)["state"] == "SUCCEEDED"
    assert len(service.named("trainings")) == 1


def test_a_cluster_that_does_not_come_up(service: server.Server) -> None:
    cluster = RayCluster("broken", make_executor())
    with pytest.raises(ExecutorError, match=r"did not come up[\s\S]*cannot be sourced"):
        cluster.start(timeout=200, pre_ray_start_commands=["echo cannot be sourced; exit 4"])
    assert cluster.status(display=False)["state"] == "failed"
    waiting = RayCluster("waits", make_executor(gpus_per_node=9))
    with pytest.raises(ExecutorError, match="9 GPUs requested"):
        waiting.start(timeout=1)
    waiting.stop()
    assert service.named("trainings") == [name for name in service.named("trainings") if name.startswith("broken")]


def test_what_is_shown_and_what_is_refused(service: server.Server, capsys: pytest.CaptureFixture[str]) -> None:
    RayCluster("shown", make_executor(env_vars={"HF_TOKEN": "s3cr3t-7"})).start(dryrun=True)
    shown = capsys.readouterr().out
    assert "ray start --head" in shown
    assert "s3cr3t" not in shown
    assert service.requests == []
    with pytest.raises(ExecutorError, match="kube_apiserver_url"):
        RayCluster("shown", make_executor(kube_apiserver_url="")).start()
