"""Ray over three nodes of a real Slurm cluster, through SSH, as an ordinary user."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run import Experiment, Packager, Script, SlurmExecutor, SSHTunnel
from nemo_run.core.tunnel.ssh import free_port
from nemo_run.errors import ExecutorError, RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob, RayTask
from tests.docs.test_spec_examples import example
from tests.ray.clusters import shell_waits_for
from tests.services.slurm import USER, SlurmCluster
from tests.services.sshd import Sshd
from tests.support import eventually

pytestmark = pytest.mark.needs("ray", "slurm cluster", "sshd")

NODES = 3
ALL_NODES = """
import sys, time, ray
from pathlib import Path
ray.init(log_to_driver=False, logging_level="ERROR")

@ray.remote(max_retries=-1, scheduling_strategy="SPREAD")
def work(index, folder):
    (Path(folder) / f"{index}-{ray.get_runtime_context().get_node_id()}").touch()
    while not (Path(folder) / "go-on").exists():
        time.sleep(0.1)
    return ray.get_runtime_context().get_node_id()

nodes = ray.get([work.options(num_cpus=1).remote(index, sys.argv[1]) for index in range(6)])
print("nodes:", len(set(nodes)), "results:", len(nodes))
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(nodes=NODES, accounting=False)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def login(slurm: SlurmCluster) -> Iterator[Sshd]:
    server = Sshd((USER,), {"SLURM_CONF": str(slurm.configuration)})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder of the ordinary user, which all nodes see."""
    folder = Path(tempfile.mkdtemp(prefix="nr-ray-"))
    shutil.chown(folder, USER)
    yield folder
    for path in (folder, *Path("/tmp").glob("nemo-ray-*")):  # a killed node leaves what it had
        if path.owner() == USER:
            shutil.rmtree(path, ignore_errors=True)


def python_of_everybody() -> tuple[str, str]:
    """A Python that the ordinary user can run, and the folder where it finds Ray."""
    ray = importlib.import_module("ray")
    packages = str(Path(str(ray.__file__)).parents[1])
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        command = f"PYTHONPATH={packages} {python} -c 'import ray'"
        if (
            subprocess.run(["su", USER, "-s", "/bin/sh", "-c", command], capture_output=True, check=False).returncode
            == 0
        ):
            return python, packages
    pytest.fail("the ordinary user can run no Python that has Ray")


def find_ray() -> list[str]:
    """Shell commands with which the ordinary user finds Ray."""
    python, packages = python_of_everybody()
    return [f"export PYTHONPATH={packages} PATH={Path(python).parent}:$PATH"]


def test_the_example_that_describes_ray_runs_as_written(login: Sshd, shared: Path, project: Path) -> None:
    (project / "train.py").write_text("import os, sys; print(sys.argv[1:], os.environ['A'])")
    (project / "env.yaml").write_text("env_vars: {A: b}")
    variables = {"PYTHONPATH": python_of_everybody()[1]}
    before = f"""
import nemo_run as run
kuberay_executor = run.SlurmExecutor(
    mem="4G", cpus_per_task=2, env_vars={variables}, packager=run.Packager(),
    tunnel=run.SSHTunnel(host="cluster", user="{USER}", job_dir="{shared}/example"),
)
"""
    code = example("ray_integration").replace("/path/to/project", str(project))
    code = code.replace("/path/to/runtime_env.yaml", str(project / "env.yaml"))
    env = {**os.environ, **login.client_environment()}
    done = subprocess.run([sys.executable, "-c", before + code], stdout=subprocess.PIPE, text=True, check=True, env=env)
    assert "['--config', 'config.yaml'] b" in done.stdout.splitlines()


@pytest.fixture(scope="module")
def running(slurm: SlurmCluster, login: Sshd, shared: Path, ray_home: Path) -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**login.client_environment(), "NEMORUN_HOME": str(ray_home)}.items():
            patch.setenv(name, value)
        tunnel = SSHTunnel(host="cluster", user=USER, job_dir=f"{shared}/it's here")
        cluster = RayCluster(
            "rays", SlurmExecutor(nodes=NODES, mem="4G", cpus_per_task=2, tunnel=tunnel, packager=Packager())
        )
        try:
            cluster.start(timeout=240, pre_ray_start_commands=find_ray())
            yield cluster
        finally:
            cluster.stop()
    assert (
        "nemo-ray"
        not in subprocess.run(["pgrep", "-u", USER, "-a"], capture_output=True, text=True, check=False).stdout
    )


@pytest.fixture
def cluster(running: RayCluster, login: Sshd, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    for name, value in login.client_environment().items():
        monkeypatch.setenv(name, value)
    return running


def job(cluster: RayCluster, name: str) -> RayJob:
    return RayJob(name, cluster.executor, cluster_name="rays")


def test_another_machine_finds_the_cluster(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(cluster, "elsewhere").start("echo found", "").wait()
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "another-home"))
    status = RayCluster("rays", cluster.executor).status(display=False)
    assert (status["state"], status["nodes_ready"], status["nodes_wanted"]) == ("ready", NODES, NODES)
    assert job(cluster, "elsewhere").status(display=False)["state"] == "SUCCEEDED"
    assert RayCluster("other", cluster.executor).status(display=False)["state"] == "unknown"


def test_jobs_with_code_and_variables(
    cluster: RayCluster, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env.yaml").write_text("env_vars: {A: b}")
    failing = job(cluster, "failing-there")
    failing.start("cat hello.txt; echo $A; exit 7", str(project), str(tmp_path / "env.yaml"))
    failing.logs(follow=True)
    assert {"hello", "b"} < set(capsys.readouterr().out.splitlines())
    with pytest.raises(RayJobFailedError, match="exit code 7"):
        failing.wait()


def test_a_running_job_is_stopped(cluster: RayCluster, shared: Path) -> None:
    endless = job(cluster, "endless-there").start(shell_waits_for(shared / "never"), "")
    eventually(lambda: endless.status(display=False)["state"] == "RUNNING", "it runs")
    endless.stop(wait=True)
    assert endless.status(display=False)["state"] == "STOPPED"


def test_only_who_has_the_token_is_let_in(cluster: RayCluster) -> None:
    port = free_port()
    cluster.port_forward(port=port)
    url = f"http://127.0.0.1:{port}/api/version"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
    token = Path(cluster.status(display=False)["folder"], "token")
    assert token.stat().st_mode & 0o077 == 0
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token.read_text()}"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["ray_version"]


def test_a_task_of_an_experiment_runs_there(cluster: RayCluster, capfd: pytest.CaptureFixture[str]) -> None:
    exp = Experiment("ray-task", executor=cluster.executor.clone())
    exp.add(RayTask(command="echo $NEMO_RUN_TASK on it; exit 6", cluster_name="rays"), name="six")
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    assert (status["six"]["exit_code"], status["six"]["executor"]) == (
        6,
        "Ray on SlurmExecutor on nemorun-test@cluster",
    )
    capfd.readouterr()
    exp.logs("six")
    assert "six on it" in capfd.readouterr().out
    assert cluster.status(display=False)["state"] == "ready"


def test_a_job_of_its_own_takes_its_cluster_along(
    cluster: RayCluster, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On nodes that another cluster shares."""
    executor = cluster.executor.clone()
    executor.nodes = 1
    own = RayJob("own-there", executor, pre_ray_start_commands=find_ray())
    own.start(command="cat hello.txt; exit 5", workdir=str(project))
    eventually(lambda: RayCluster("own-there", executor).status(display=False)["state"] == "stopped", "it has ended")
    own.logs(follow=True)
    assert "hello" in capsys.readouterr().out.splitlines()
    status = own.status(display=False)
    assert (status["state"], status["exit_code"]) == ("FAILED", 5)


AROUND = """
import os, sys, ray
ray.init(logging_level="ERROR")
print("nodes:", sum(node["Alive"] for node in ray.nodes()), "at", os.environ["RAY_ADDRESS"])
print("token:", os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o077, os.environ["RAY_AUTH_MODE"])
sys.exit(3)
"""


def test_a_cluster_around_a_script_leaves_other_rays_on_its_nodes_alone(
    cluster: RayCluster, shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On nodes where another cluster of the same user runs, which `ray stop` would end."""
    executor = cluster.executor.clone()
    assert isinstance(executor, SlurmExecutor)
    executor.nodes, executor.setup_lines = 2, "\n".join(find_ray())
    programs = shared / "bin"
    programs.mkdir()
    (programs / "ray").write_text(f'#!/bin/sh\nexec {python_of_everybody()[0]} -m ray.scripts.scripts "$@"\n')
    (programs / "ray").chmod(0o755)
    programs.chmod(0o755)
    executor.setup_lines = f"{executor.setup_lines}\nexport PATH={programs}:$PATH"
    task = Script(inline=f"python3 - <<'E'\n{AROUND}\nE\n", metadata={"use_with_ray_cluster": True})
    experiment = Experiment("around", executor=executor, clean_mode=True)
    experiment.add(task, name="task", tail_logs=True)
    experiment.run()
    status = experiment.status(return_dict=True)
    assert status is not None
    assert status["task"]["exit_code"] == 3
    shown = capfd.readouterr().out
    assert "nodes: 2 at " in shown
    assert "token: 0 token" in shown
    assert ":6379" not in shown
    assert cluster.status(display=False)["nodes_ready"] == NODES
    job(cluster, "still-there").start("true", "").wait()


def test_a_cluster_that_does_not_come_up_says_why(cluster: RayCluster) -> None:
    late = RayCluster("late-there", cluster.executor)
    with pytest.raises(ExecutorError, match=r"did not come up: failed(.|\n)*No module named(.|\n)*ray"):
        late.start(timeout=60, pre_ray_start_commands=["unset PYTHONPATH"])
    huge = RayCluster("huge-there", SlurmExecutor(**{**vars_of(cluster), "mem": "60G"}))
    try:
        with pytest.raises(ExecutorError, match=r"not ready after 3 s: starting \(Slurm: "):
            huge.start(timeout=3)
    finally:
        huge.stop()
    assert huge.status(display=False)["state"] == "stopped"


def vars_of(cluster: RayCluster) -> dict[str, object]:
    executor = cluster.executor
    assert isinstance(executor, SlurmExecutor)
    return {"nodes": executor.nodes, "tunnel": executor.tunnel, "packager": Packager()}


def test_a_node_that_is_lost_is_reported_and_the_job_goes_on(
    cluster: RayCluster, slurm: SlurmCluster, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last test here: the node stays away."""
    (tmp_path / "all.py").write_text(ALL_NODES)
    marks = shared / "marks"
    marks.mkdir()
    shutil.chown(marks, USER)
    going = job(cluster, "goes-on").start(f"python3 all.py {marks}", str(tmp_path))
    eventually(lambda: len({path.name.partition("-")[2] for path in marks.iterdir()}) == NODES, "all nodes work")
    slurm.kill_node("node3")
    eventually(lambda: cluster.status(display=False)["nodes_ready"] == NODES - 1, "the loss is noticed", within=120)
    status = cluster.status(display=False)
    assert status["state"] == "ready"
    assert "1 of 3 nodes are gone" in status["reason"]
    (marks / "go-on").touch()
    going.logs(follow=True)
    assert going.wait()["state"] == "SUCCEEDED"
    assert "nodes: 2 results: 6" in capsys.readouterr().out.splitlines()
