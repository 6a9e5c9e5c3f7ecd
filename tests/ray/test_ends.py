"""What is kept and said of jobs and clusters that have ended, on a real Ray."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.errors import RayJobFailedError
from nemo_run.run.ray import RayCluster, RayJob
from tests.ray.clusters import ask, processes_of, record_of, shell_waits_for, wait_for
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")


@pytest.fixture
def ending() -> Iterator[RayCluster]:
    cluster = RayCluster("ending", LocalExecutor(grace=1))
    cluster.start(timeout=240)
    yield cluster
    cluster.stop()
    assert processes_of(record_of(cluster)) == {}


def job(name: str, cluster: str = "shared", **variables: str) -> RayJob:
    return RayJob(name, LocalExecutor(env_vars=variables), cluster_name=cluster)


def log_of(name: str, capsys: pytest.CaptureFixture[str], cluster: str = "ending") -> str:
    capsys.readouterr()
    job(name, cluster).logs()
    return capsys.readouterr().out


def test_the_ends_of_jobs_that_nobody_saw_survive_a_head_that_is_killed(
    ending: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "begun"
    for name, command in (
        ("good", "echo precious"),
        ("bad", "echo alas; exit 5"),
        ("endless", f"echo half; touch {begun}; sleep 1000"),
    ):
        job(name, "ending").start(command, "")
    wait_for(begun)
    kept = Path(record_of(ending)["handle"].removeprefix("local://"), "jobs")
    for name, state in (("good", "SUCCEEDED"), ("bad", "FAILED"), ("endless", "RUNNING")):
        eventually(partial(_is_kept, kept, name, state), f"{name} is kept")
    (gcs,) = (pid for pid, what in processes_of(record_of(ending)).items() if "gcs/gcs_server" in what)
    os.kill(gcs, signal.SIGKILL)
    eventually(lambda: ending.status(display=False)["state"] == "failed", "the cluster has ended")
    assert "gcs_server died" in ending.status(display=False)["reason"]
    assert job("good", "ending").wait()["exit_code"] == 0
    assert "precious" in log_of("good", capsys)
    with pytest.raises(RayJobFailedError, match="exit code 5"):
        job("bad", "ending").wait()
    assert "alas" in log_of("bad", capsys)
    status = job("endless", "ending").status(display=False)
    assert status["state"] == "FAILED"
    assert "its cluster ended while it ran: of the head gcs_server died" in status["reason"]
    assert "half" in log_of("endless", capsys)


def _is_kept(folder: Path, name: str, state: str) -> bool:
    return any(state in path.read_text() for path in folder.glob(f"{name}-*.json"))


def test_a_cluster_that_is_killed_leaves_its_logs(ending: RayCluster, capsys: pytest.CaptureFixture[str]) -> None:
    unseen = job("unseen", "ending").start("echo written; sleep 1000", "")
    eventually(lambda: "written" in log_of("unseen", capsys), "it runs")
    (nodes,) = (pid for pid, what in processes_of(record_of(ending)).items() if "ray_nodes" in _command(pid) and what)
    os.kill(nodes, signal.SIGKILL)
    eventually(lambda: ending.status(display=False)["state"] == "failed", "the cluster has ended")
    assert "written" in log_of("unseen", capsys)
    assert unseen.status(display=False)["state"] == "FAILED"


def _command(pid: int) -> str:
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return " ".join(arguments[:4])


def test_a_cluster_that_is_just_ending_is_started_again(ending: RayCluster) -> None:
    before = record_of(ending)
    (gcs,) = (pid for pid, what in processes_of(before).items() if "gcs/gcs_server" in what)
    os.kill(gcs, signal.SIGKILL)
    eventually(lambda: ending.status(display=False)["state"] != "ready", "it is noticed")
    ending.start(timeout=240)
    assert record_of(ending) != before
    job("after", "ending").start("true", "").wait()


def test_an_end_that_was_seen_outlives_what_the_cluster_kept(
    ending: RayCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    job("seen", "ending").start("echo remembered", "").wait()
    kept = Path(record_of(ending)["handle"].removeprefix("local://"), "jobs")
    ending.stop()
    for path in kept.iterdir():
        path.unlink()
    assert job("seen", "ending").status(display=False)["state"] == "SUCCEEDED"
    assert "remembered" in log_of("seen", capsys)
    ending.start(timeout=240)  # of the same name; it has no job of that name


@pytest.mark.parametrize(("code", "state"), [(0, "SUCCEEDED"), (3, "FAILED")])
def test_a_log_that_is_no_utf_8_is_shown(
    cluster: RayCluster, code: int, state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on = tmp_path / "go-on"
    latin = job(f"latin-{code}").start(f"printf 'caf\\351\\n'; {shell_waits_for(go_on)}; echo end; exit {code}", "")
    eventually(lambda: "caf\ufffd\n" in log_of(f"latin-{code}", capsys, "shared"), "its first line is shown")
    go_on.touch()
    latin.logs(follow=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("caf\ufffd") == 1
    assert lines[-1] == "end"
    assert latin.status(display=False)["state"] == state


def test_why_an_environment_could_not_be_made_is_said(
    cluster: RayCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env.yaml").write_text("pip: [/no/such/folder/at-all]\n")
    hopeless = job("hopeless").start("true", "", str(tmp_path / "env.yaml"))
    with pytest.raises(RayJobFailedError) as caught:
        hopeless.wait()
    assert "/no/such/folder/at-all" in hopeless.status(display=False)["reason"]
    assert "/no/such/folder/at-all" in str(caught.value)
    hopeless.logs(follow=True)
    assert "/no/such/folder/at-all" in capsys.readouterr().out


def test_a_handle_follows_its_own_job_when_another_takes_its_name(cluster: RayCluster) -> None:
    first, second = job("taken"), job("taken")
    first.start("exit 4", "")
    with pytest.raises(RayJobFailedError):
        first.wait()
    second.start("true", "").wait()
    assert first.status(display=False)["exit_code"] == 4
    assert second.status(display=False)["exit_code"] == 0
    assert job("taken").status(display=False)["exit_code"] == 0


def test_values_of_variables_arrive_as_they_are(cluster: RayCluster, tmp_path: Path) -> None:
    values = {
        "V_BRACE": "${HOME}/x", "V_DOLLAR": "p@$$w0rd", "V_UNSET": "${NOT_SET}y", "V_HOME": "$HOME", "V_END": "a$",
        "V_NL": "a\nb\n", "V_QUOTE": "it's \"q\"", "V_EMPTY": "", "V_OURS": "${NEMO_RUN_NOTHING}$",
    }  # fmt: skip
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "work" / "write.py").write_text(WRITE)
    out = tmp_path / "out.json"
    exact = RayJob("exact", LocalExecutor(env_vars=values), cluster_name="shared")
    exact.start(f"python write.py {out}", str(tmp_path / "work")).wait()
    driver, worker = json.loads(out.read_text())
    assert driver == values
    assert worker == values


WRITE = """
import json, os, sys, ray
ray.init(log_to_driver=False, logging_level="ERROR")
def seen():
    return {name: value for name, value in os.environ.items() if name.startswith("V_")}
open(sys.argv[1], "w").write(json.dumps([seen(), ray.get(ray.remote(seen).remote())]))
"""


def test_what_is_kept_for_the_command_itself_is_told_to_ray(cluster: RayCluster, tmp_path: Path) -> None:
    placed = job("placed").start(shell_waits_for(tmp_path / "go-on"), "", entrypoint_num_cpus=1)
    eventually(lambda: placed.status(display=False)["state"] == "RUNNING", "it has begun")

    def used() -> float:
        report = ask(cluster, "/api/cluster_status")["data"]["clusterStatus"]["loadMetricsReport"]
        return float(report["usage"]["CPU"][0])

    eventually(lambda: used() >= 1, "Ray has set it aside")
    (tmp_path / "go-on").touch()
    placed.wait()
