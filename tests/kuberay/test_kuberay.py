"""Ray in pods, from one end to the other."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nemo_run.core.execution.kuberay import KubeRayExecutor
from nemo_run.core.execution.kuberay.spec import API
from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.core.ray.engine import DASHBOARD_PORT, get_engine
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import ExecutorError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob
from tests.docs.running import Reader
from tests.kuberay import support
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")

Sized = Callable[..., KubeRayExecutor]
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "docs" / "spec_examples" / "ray_integration.py"

TRAIN = """\
import os, sys, ray
ray.init(logging_level="ERROR")

@ray.remote(num_cpus=1)
def node():
    import time
    time.sleep(1)
    return ray.get_runtime_context().get_node_id()

print("nodes:", len(set(ray.get([node.remote() for _ in range(4)]))))
print("setting:", os.environ["SETTING"], "config:", open("config.yaml").read().strip(), sys.argv[1:])
sys.exit(int(os.environ["CODE"]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "config.yaml").write_text("lr: 1")
    return folder


@pytest.fixture
def runtime_env(tmp_path: Path) -> Callable[[int], str]:
    """File with a runtime environment in which the training ends with a code."""

    def write(code: int) -> str:
        file = tmp_path / "runtime_env.yaml"
        file.write_text(f"env_vars: {{SETTING: 'a b', CODE: '{code}'}}\n")
        return str(file)

    return write


@pytest.fixture(scope="module")
def started(namespace: str, kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeRayExecutor]:
    """A cluster "shared" with a head and a worker, started from what might as well be another machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", kubeconfig)
        patch.setenv("NEMORUN_HOME", str(tmp_path_factory.mktemp("home")))
        executor = support.executor(namespace)
        RayCluster("shared", executor).start(timeout=600, pre_ray_start_commands=["export FROM_BEFORE='it is $set'"])
    return executor


@pytest.fixture
def shared(started: KubeRayExecutor, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    return RayCluster("shared", started)


def _job(cluster: RayCluster, name: str) -> RayJob:
    return RayJob(name, cluster.executor, cluster_name=cluster.name)


def test_a_cluster_is_found_again_by_its_name(shared: RayCluster) -> None:
    status = shared.status(display=False)
    assert (status["state"], status["nodes_ready"], status["nodes_wanted"]) == ("ready", 2, 2)
    assert status["head"]["podName"].startswith(f"{status['object'].partition('/')[2]}-head")
    shared.start(timeout=1)  # is there already
    assert shared.status(display=False)["head"] == status["head"]


def test_the_dashboard_answers_through_a_forwarded_port(shared: RayCluster) -> None:
    port, engine = free_port(), get_engine("kuberay")
    record = shared.running().record
    with engine.forward(record, port, DASHBOARD_PORT):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version") as answer:
            assert b"ray_version" in answer.read()
        with pytest.raises(ExecutorError, match=f"port {port} "), engine.forward(record, port, DASHBOARD_PORT):
            pass


def test_a_job_uses_all_nodes_and_its_exit_code_arrives(
    shared: RayCluster, project: Path, runtime_env: Callable[[int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = _job(shared, "fails")
    job.start("python train.py --config 'a  b'; code=$?; echo $FROM_BEFORE; exit $code", str(project), runtime_env(3))
    job.logs(follow=True)
    printed = capsys.readouterr().out
    assert "nodes: 2\nsetting: a b config: lr: 1 ['--config', 'a  b']\nit is $set\n" in printed
    with pytest.raises(RayJobFailedError, match="setting: a b") as caught:
        job.wait()
    assert caught.value.exit_code == 3


def test_a_job_that_runs_is_stopped(shared: RayCluster) -> None:
    job = _job(shared, "endless")
    job.start("echo begun; sleep 1000", workdir="")
    eventually(lambda: job.status(display=False)["state"] == "RUNNING", "it runs", within=300)
    job.stop(wait=True)
    assert job.status(display=False)["state"] == "STOPPED"
    assert shared.status(display=False)["state"] == "ready"


def test_another_process_sees_the_cluster(shared: RayCluster, tmp_path: Path) -> None:
    code = f"""
from tests.docs.running import Reader
from tests.kuberay import support
from nemo_run.run.ray import RayCluster
RayCluster("shared", support.executor({shared.executor.namespace!r})).status()
"""
    env = {**os.environ, "NEMORUN_HOME": str(tmp_path / "elsewhere")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "'shared' (KubeRayExecutor): ready, 2 of 2 nodes" in done.stdout


def test_a_lost_worker_is_reported(shared: RayCluster, cluster: KubernetesClient) -> None:
    namespace = shared.executor.namespace  # type: ignore[attr-defined]
    (worker,) = cluster.pods(namespace, f"ray.io/cluster={_object(shared)},ray.io/node-type=worker")
    cluster.delete("v1", "Pod", namespace, worker["metadata"]["name"], grace=0)
    status = eventually(
        lambda: (found := shared.status(display=False))["nodes_ready"] == 1 and found,
        "the loss of it is seen",
        within=300,
    )
    assert status["state"] in ("ready", "starting")
    assert status["reason"]
    eventually(lambda: shared.status(display=False)["nodes_ready"] == 2, "there is another one", within=300)


def test_stopping_ends_the_pods(shared: RayCluster, cluster: KubernetesClient) -> None:
    namespace = shared.executor.namespace  # type: ignore[attr-defined]
    selector = f"ray.io/cluster={_object(shared)}"
    assert cluster.pods(namespace, selector)
    shared.stop()
    assert cluster.pods(namespace, selector) == []
    assert shared.status(display=False)["state"] in ("stopped", "unknown")


def _object(cluster: RayCluster) -> str:
    return str(cluster.status(display=False)["object"].partition("/")[2])


def test_the_example_that_describes_the_product(
    namespace: str,
    kubeconfig: str,
    cluster: KubernetesClient,
    project: Path,
    runtime_env: Callable[[int], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.kuberay import support
kuberay_executor = support.executor({namespace!r}, workers=0, kubeconfig={kubeconfig!r})
"""
    code = EXAMPLE.read_text(encoding="utf-8").replace("/path/to/project", str(project))
    code = code.replace("/path/to/runtime_env.yaml", runtime_env(3)).replace("8265", str(free_port()))
    printed = Reader(tmp_path, patience=600).python(before + code, "example.py")
    assert "nodes: 1\nsetting: a b config: lr: 1 ['--config', 'config.yaml']\n" in printed

    job = RayJob("training-job", support.executor(namespace, workers=0, kubeconfig=kubeconfig))
    eventually(lambda: cluster.objects(API, "RayCluster", namespace) == [], "its own cluster ends with it", within=300)
    job.logs(lines=1)
    assert capsys.readouterr().out == "setting: a b config: lr: 1 ['--config', 'config.yaml']\n"
    status = job.status(display=False)
    assert (status["state"], status["exit_code"]) == ("FAILED", 3)

    again = support.executor(namespace, workers=0, kubeconfig=kubeconfig, head_cpu="1000")
    with pytest.raises(ExecutorError, match="Insufficient cpu"):  # the name of one that has ended is free
        RayJob("training-job", again, cluster_ready_timeout=1).start("true", workdir="")
