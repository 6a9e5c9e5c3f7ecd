"""Ray on Lepton. The service is a server of ours, the Ray behind its clusters a real one."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.ray.engine import ClusterSpec, ClusterState, get_engine
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import EngineUnreachableError, ExecutorError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob
from tests.lepton.conftest import executor_on
from tests.services.lepton import Lepton
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


@pytest.fixture(scope="module")
def real_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """A Ray cluster of two nodes on this machine; the port of its dashboard, and its token."""
    home = str(tmp_path_factory.mktemp("real-ray"))
    cluster = RayCluster("behind", run.LocalExecutor(nodes=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMORUN_HOME", home)
        cluster.start(timeout=120)
        status = cluster.status(display=False)
    yield int(status["dashboard"].rpartition(":")[2]), Path(status["token_file"]).read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMORUN_HOME", home)
        cluster.stop()


@pytest.fixture
def ready(lepton: Lepton, real_ray: tuple[int, str]) -> Lepton:
    """A workspace whose clusters come up at once."""
    lepton.ray_dashboard, lepton.ray_token = real_ray
    return lepton


@pytest.fixture
def executor(mount: Path) -> run.LeptonExecutor:
    return executor_on(mount, node_group="group-a", head_resource_shape="cpu.small", ray_version="2.60.0")


def test_what_is_launched(lepton: Lepton, executor: run.LeptonExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    executor.env_vars = {"HF_TOKEN": "s3cr3t", "LR": "0.1"}
    RayCluster("My cluster", executor).start(dryrun=True)
    shown = capsys.readouterr().out
    assert "s3cr3t" not in shown
    RayCluster("My cluster", executor).start(wait_until_ready=False)
    (cluster,) = lepton.ray_clusters.values()
    body = json.loads(shown.partition("\n")[2].replace("(the id of group-a)", "ng-a1").replace("****", "s3cr3t"))
    assert body["spec"] == cluster["spec"]
    head, (worker,) = body["spec"]["head_group_spec"], body["spec"]["worker_group_specs"]
    assert (head["resource_shape"], head["min_replicas"]) == ("cpu.small", 1)
    assert (worker["resource_shape"], worker["min_replicas"]) == ("cpu.large", 1)
    assert head["envs"] == [{"name": "HF_TOKEN", "value": "s3cr3t"}, {"name": "LR", "value": "0.1"}]
    assert head["affinity"] == worker["affinity"] == {"allowed_dedicated_node_groups": ["ng-a1"]}


def test_commands_before_ray_are_refused(lepton: Lepton, executor: run.LeptonExecutor) -> None:
    with pytest.raises(ExecutorError, match="pre_ray_start_commands"):
        RayCluster("c", executor).start(pre_ray_start_commands=["true"])
    assert not lepton.ray_clusters


def test_a_cluster_and_its_jobs(
    ready: Lepton, executor: run.LeptonExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = RayCluster("c", executor)
    cluster.start(timeout=60)
    status = cluster.status(display=False)
    assert (status["state"], status["nodes_ready"], status["nodes_wanted"]) == ("ready", 2, 2)

    project = tmp_path / "project"
    project.mkdir()
    (project / "hello.txt").write_text("hello\n")
    job = RayJob("hello", executor, cluster_name="c")
    job.start("cat hello.txt", str(project))
    job.logs(follow=True)
    assert job.wait()["exit_code"] == 0
    assert "hello" in capsys.readouterr().out.splitlines()
    failing = RayJob("failing", executor, cluster_name="c").start("exit 3", "")
    with pytest.raises(RayJobFailedError, match="exit code 3"):
        failing.wait()

    port = free_port()
    address = cluster.port_forward(port)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version")
    with urllib.request.urlopen(f"{address}/api/version") as answer:  # without a token
        assert json.load(answer)["ray_version"]
    with pytest.raises(ExecutorError, match="6379"):
        cluster.port_forward(port, target_port=6379)
    cluster.stop()
    assert not ready.ray_clusters
    assert cluster.status(display=False)["state"] == "stopped"


@pytest.mark.parametrize("own", [True, False])
def test_a_cluster_whose_creation_was_not_confirmed(lepton: Lepton, executor: run.LeptonExecutor, own: bool) -> None:
    """It is there for the next one who wants it; but not where it was for one job, as nobody would end it."""
    lepton.fault("POST", "/rayclusters$", "lost")
    lepton.fault("GET", "/rayclusters/c$", "status", 429, after=1, retry_after="3600")
    with pytest.raises(EngineUnreachableError):
        get_engine("lepton").start(ClusterSpec("c", executor, until_job="job-1" if own else ""))
    assert len(lepton.ray_clusters) == (0 if own else 1)


def test_a_cluster_is_found_by_its_name_from_elsewhere(
    ready: Lepton, executor: run.LeptonExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RayCluster("c", executor).start(timeout=60)
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "other-home"))
    other = RayCluster("c", executor)
    assert other.status(display=False)["state"] == "ready"
    other.start(timeout=60)
    assert len(ready.ray_clusters) == 1
    other.stop()
    assert not ready.ray_clusters


def test_another_cluster_of_the_same_name_is_not_this_one(ready: Lepton, executor: run.LeptonExecutor) -> None:
    cluster = RayCluster("c", executor)
    cluster.start(timeout=60)
    (document,) = ready.ray_clusters.values()
    document["metadata"]["created_at"] += 1
    stored = cluster.stored()
    assert stored is not None
    assert get_engine("lepton").status(stored.record).state is ClusterState.STOPPED
    get_engine("lepton").stop(stored.record)
    assert ready.ray_clusters


@pytest.mark.parametrize("watched", [True, False])
def test_a_cluster_for_one_job_ends_with_it(
    ready: Lepton, executor: run.LeptonExecutor, mount: Path, capsys: pytest.CaptureFixture[str], watched: bool
) -> None:
    """Also where nobody looks, and where the process that does is gone."""
    job = RayJob("own", executor)
    job.start(f"echo done; until [ -e {mount}/go ]; do sleep 0.05; done; exit 5", "")
    (watcher,) = eventually(watchers)
    if not watched:
        os.kill(watcher, signal.SIGKILL)
    (mount / "go").touch()
    if watched:
        eventually(lambda: not ready.ray_clusters, "the watcher has deleted the cluster")
    with pytest.raises(RayJobFailedError, match="exit code 5"):
        job.wait()
    job.logs()
    assert "done" in capsys.readouterr().out
    assert not ready.ray_clusters
    eventually(lambda: not watchers())


def test_a_cluster_for_one_job_is_stopped_with_it(ready: Lepton, executor: run.LeptonExecutor) -> None:
    job = RayJob("own", executor).start("sleep 1000", "")
    job.stop(wait=True)
    assert job.status(display=False)["state"] == "STOPPED"
    assert not ready.ray_clusters
    eventually(lambda: not watchers())


def watchers() -> list[int]:
    """Processes that watch clusters of this test."""
    home = os.environ["NEMORUN_HOME"].encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"lepton.ray_watch" in command and home in command:
            found.append(int(path.parent.name))
    return found


def test_why_a_cluster_does_not_come_up(lepton: Lepton, executor: run.LeptonExecutor) -> None:
    with pytest.raises(ExecutorError, match=r"not ready after 1 s: starting .Lepton says: Not Ready"):
        RayCluster("c", executor).start(timeout=1)
    lepton.fault("GET", "rayclusters", "status", 503, times=1)
    assert RayCluster("c", executor).status(display=False)["state"] == "starting"
