"""Clusters that are started for a test: those of one job, and those that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.errors import ExecutorError
from nemo_run.run.ray import RayCluster, RayJob
from tests.docs.test_spec_examples import example
from tests.ray.clusters import processes_of, record_of
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


@pytest.fixture
def failing() -> Iterator[RayCluster]:
    cluster = RayCluster("failing", LocalExecutor(nodes=2, grace=1))
    yield cluster
    cluster.stop()
    assert processes_of(record_of(cluster)) == {}


EXAMPLE = """
from nemo_run import LocalExecutor
from nemo_run.run.ray import RayJob

job = RayJob(name="alone", executor=LocalExecutor(nodes=1))
job.start(command="python train.py --config config.yaml", workdir={workdir!r}, runtime_env_yaml={env!r})
"""


def test_a_job_of_its_own_takes_its_cluster_along_though_nobody_watches(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "train.py").write_text("import os, sys; print(sys.argv[1:], os.environ['A']); sys.exit(4)")
    (tmp_path / "env.yaml").write_text("env_vars:\n  A: b\n")
    code = EXAMPLE.format(workdir=str(project), env=str(tmp_path / "env.yaml"))
    subprocess.run([sys.executable, "-c", code], check=True)
    cluster = RayCluster("alone", LocalExecutor())
    eventually(lambda: cluster.status(display=False)["state"] == "stopped", "the cluster has ended", within=120)
    assert processes_of(record_of(cluster)) == {}
    assert not Path(record_of(cluster)["temp_dir"]).exists()
    job = RayJob("alone", LocalExecutor())
    job.logs(follow=True)
    assert "['--config', 'config.yaml'] b" in capsys.readouterr().out.splitlines()
    status = job.status(display=False)
    assert (status["state"], status["exit_code"]) == ("FAILED", 4)


def test_the_example_that_describes_ray_runs_as_written(project: Path) -> None:
    (project / "train.py").write_text("import os, sys; print(sys.argv[1:], os.environ['A'])")
    (project / "env.yaml").write_text("env_vars: {A: b}")
    code = example("ray_integration").replace("/path/to/project", str(project))
    code = code.replace("/path/to/runtime_env.yaml", str(project / "env.yaml"))
    before = "from nemo_run import LocalExecutor\nkuberay_executor = LocalExecutor()\n"
    done = subprocess.run([sys.executable, "-c", before + code], stdout=subprocess.PIPE, text=True, check=True)
    assert "['--config', 'config.yaml'] b" in done.stdout.splitlines()
    job = RayJob("training-job", LocalExecutor())
    assert job.wait()["exit_code"] == 0
    job.stop(wait=True)
    for name in ("ml-cluster", "training-job"):
        cluster = RayCluster(name, LocalExecutor())
        assert cluster.status(display=False)["state"] == "stopped"
        assert processes_of(record_of(cluster)) == {}


def test_nodes_that_die_are_reported(failing: RayCluster) -> None:
    failing.start(timeout=120)
    raylets = {pid: what for pid, what in processes_of(record_of(failing)).items() if "raylet/raylet" in what}
    (worker,) = (pid for pid, what in raylets.items() if "--head" not in what.split())
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: failing.status(display=False)["nodes_ready"] == 1, "Ray has noticed it")
    status = failing.status(display=False)
    assert (status["state"], status["nodes_wanted"]) == ("ready", 2)
    lost = "1 of 2 nodes died, and are not replaced; to have them again, stop the cluster first"
    assert status["reason"] == lost

    (gcs,) = (pid for pid, what in processes_of(record_of(failing)).items() if "gcs/gcs_server" in what)
    os.kill(gcs, signal.SIGKILL)
    eventually(lambda: failing.status(display=False)["state"] == "failed", "the cluster has ended")
    assert processes_of(record_of(failing)) == {}
    with pytest.raises(ExecutorError, match="start it first"):
        RayJob("late", LocalExecutor(), cluster_name="failing").start("true", "")


def test_a_cluster_that_fails_says_why(failing: RayCluster) -> None:
    with pytest.raises(ExecutorError, match=r"did not come up: failed(.|\n)*last lines of its log:\n  no licence"):
        failing.start(pre_ray_start_commands=["echo no licence", "exit 3"])


def test_a_cluster_whose_starter_was_killed_is_found(failing: RayCluster, nemorun_home: Path) -> None:
    failing.start(wait_until_ready=False, pre_ray_start_commands=["sleep 1000"])
    record = record_of(failing)
    for path in nemorun_home.glob("ray/clusters/*/failing.json"):
        path.unlink()
    assert failing.status(display=False)["state"] == "starting"
    assert record_of(failing) == record


def test_a_cluster_that_is_late_says_what_it_waits_for(failing: RayCluster) -> None:
    with pytest.raises(ExecutorError, match=r"not ready after 1 s: starting(.|\n)*ray stop failing(.|\n)*  waiting"):
        failing.start(timeout=1, pre_ray_start_commands=["echo waiting", "sleep 1000"])
    assert failing.status(display=False)["state"] == "starting"


def test_a_job_whose_cluster_fails_leaves_nothing() -> None:
    job = RayJob("unlucky", LocalExecutor(), pre_ray_start_commands=["exit 3"])
    with pytest.raises(ExecutorError, match="did not come up"):
        job.start("true", "")
    assert job.status(display=False)["state"] == "UNKNOWN"
    with pytest.raises(ExecutorError, match="did not come up"):  # and is no obstacle
        job.start("true", "")
