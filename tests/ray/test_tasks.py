"""Ray jobs as tasks of experiments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_run import Experiment, LocalExecutor
from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import ConfigError, ExecutorError
from nemo_run.run.ray import RayCluster, RayTask
from nemo_run.run.ray.records import StoredCluster, read_all
from tests.ray.clusters import processes_of, record_of, shell_waits_for
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


@pytest.fixture(autouse=True)
def nemorun_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for each test, so that every cluster there is the test's."""
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def clusters() -> list[RayCluster]:
    """The clusters that were started; they are found by their names."""
    return [RayCluster(stored.name, LocalExecutor()) for stored in read_all(StoredCluster)]


def test_tasks_share_a_cluster_that_ends_with_the_last(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = LocalExecutor(nodes=1, retries=1, retry_delay=0, env_vars={"A": "b", "MY_TOKEN": "not to be shown"})
    exp = Experiment("shares", executor=executor)
    once = tmp_path / "once"
    first = exp.add(
        RayTask(
            command=f"cat hello.txt; echo $A > $NEMO_RUN_ARTIFACTS/a; test -e {once} || {{ touch {once}; exit 4; }}",
            workdir=str(project),
            share="one",
        ),
        name="first",
    )
    exp.add(
        RayTask(command="echo try $NEMO_RUN_ATTEMPT of $NEMO_RUN_TASK; exit 5", share="one"),
        name="second",
        dependencies=[first],
    )
    exp.add(RayTask(command="echo never", share="one"), name="third", dependencies=["second"])
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    assert [status[name]["status"] for name in ("first", "second", "third")] == [
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
    ]
    assert [status[name]["tries"] for name in ("first", "second")] == [2, 2]
    assert status["second"]["exit_code"] == 5
    assert status["first"]["executor"] == "Ray on LocalExecutor"
    assert (exp.directory / "first" / "artifacts" / "a").read_text() == "b\n"
    capfd.readouterr()
    for name in ("first", "second"):
        exp.logs(name)
    shown = capfd.readouterr().out
    assert "hello" in shown
    assert "try 2 of second" in shown
    (cluster,) = clusters()
    assert cluster.status(display=False)["state"] == "stopped"
    assert processes_of(record_of(cluster)) == {}
    assert Path(record_of(cluster)["handle"].removeprefix("local://")).name == "1"  # it was started once
    assert "not to be shown" not in json.dumps(
        [json.loads(path.read_text()) for path in exp.directory.glob("*/task.json")]
    )


def test_a_cancelled_task_ends_its_job_and_the_cluster_made_for_it(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    exp = Experiment("cancelled", executor=LocalExecutor(nodes=1))
    exp.add(RayTask(command=f"touch {begun}; {shell_waits_for(tmp_path / 'never')}", share="one"), name="endless")
    exp.add(RayTask(command="echo later", share="one"), name="later", dependencies=["endless"])
    exp.run(detach=True)
    eventually(begun.exists, "the job runs", within=180)
    for name in ("endless", "later"):
        exp.cancel(name)
    exp.wait()
    (cluster,) = clusters()
    eventually(lambda: cluster.status(display=False)["state"] == "stopped", "the cluster has ended")
    assert processes_of(record_of(cluster)) == {}


def test_what_can_be_no_ray_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        RayTask(command="true", share="a", cluster_name="b")

    class Elsewhere(LocalExecutor):
        engine = "nowhere"

    with pytest.raises(ExecutorError, match="no Ray clusters on the engine 'nowhere'"):
        Experiment("refused").add(RayTask(command="true"), executor=Elsewhere())


def test_no_two_clusters_have_the_same_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine hands them out; Ray itself is not started."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")

    def start(name: str, gpus: int | None) -> RayCluster:
        cluster = RayCluster(name, LocalExecutor(gpus=gpus, grace=0.2))
        commands = [f"echo $CUDA_VISIBLE_DEVICES > {tmp_path / name}", "sleep 1000"]
        cluster.start(wait_until_ready=False, pre_ray_start_commands=commands)
        return cluster

    def given(name: str) -> str:
        eventually((tmp_path / name).exists, f"{name} has begun")
        eventually(lambda: (tmp_path / name).read_text() != "", f"{name} has told")
        return (tmp_path / name).read_text().strip()

    two, one, all_of_them, none = start("two", 2), start("one", 1), start("all", None), start("none", 0)
    try:
        assert sorted([*given("two").split(","), *given("one").split(",")]) == ["4", "5", "6"]
        assert given("none") == ""
        waiting = "waits for free devices"
        eventually(lambda: all_of_them.status(display=False)["reason"] == waiting, "it says what it waits for")
        assert not (tmp_path / "all").exists()
        two.stop()
        one.stop()
        assert given("all") == "4,5,6"
    finally:
        for cluster in (two, one, all_of_them, none):
            cluster.stop()
