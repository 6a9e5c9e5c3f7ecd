"""A cluster on which a user may have so many jobs only: the others wait for their turn, in the order of adding."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import SSHTunnel
from tests.services.slurm import USER, SlurmCluster
from tests.services.sshd import Sshd
from tests.slurm.test_experiments import script
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """These tests have a cluster of their own."""


@pytest.fixture(scope="module")
def limited() -> Iterator[SlurmCluster]:
    """A cluster that enforces limits of users."""
    cluster = SlurmCluster(nodes=1, enforced="limits")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def its_login(limited: SlurmCluster) -> Iterator[Sshd]:
    server = Sshd((USER,), {"SLURM_CONF": str(limited.configuration)})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def three_jobs(
    limited: SlurmCluster, its_login: Sshd, monkeypatch: pytest.MonkeyPatch, jobs_folder: Path
) -> Iterator[SlurmExecutor]:
    """The way to a cluster where the user may have three jobs."""
    with tempfile.TemporaryDirectory(prefix="nr-") as runtime:
        for name, value in {**its_login.client_environment(), "XDG_RUNTIME_DIR": runtime}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SLURM_CONF", str(limited.configuration))
        _set_limit(limited, 3)
        tunnel = SSHTunnel(host="cluster", user=USER, job_dir=str(jobs_folder))
        yield SlurmExecutor(tunnel=tunnel, packager=Packager(), mem="100M", wait_time_for_group_job=0)
        tunnel.cleanup()


def _set_limit(cluster: SlurmCluster, count: int) -> None:
    cluster.ask("sacctmgr", "-i", "modify", "user", USER, "set", f"MaxSubmitJobs={count}")
    eventually(lambda: f"MaxSubmitJobs={count}(" in cluster.ask("scontrol", "show", "assoc", f"users={USER}"))


def test_jobs_over_the_limit_wait_in_their_order_and_are_shown_so(three_jobs: SlurmExecutor, jobs_folder: Path) -> None:
    experiment = run.Experiment("many", executor=three_jobs)
    go, names = jobs_folder / "go", [f"job{i}" for i in range(8)]
    for name in names:
        text = f"echo {name} >> {jobs_folder}/ran; while [ ! -e {go} ]; do sleep 0.2; done"
        experiment.add(script(text), name=name)
    with experiment:
        experiment.run(detach=True)
        waiting = "waits to be submitted: you may have so many jobs only (AssocMaxSubmitJobLimit)"
        eventually(lambda: [p.reason for p in experiment.progress().values()][3:] == [waiting] * 5)
        first = experiment.progress()
        assert all(first[name].tasks[0].handle for name in names[:3])
        assert not any(first[name].tasks[0].handle for name in names[3:])
        assert {first[name].tasks[0].state for name in names[3:]} == {run.JobState.UNSUBMITTED}
        go.touch()
        eventually(lambda: all(p.state is run.JobState.SUCCEEDED for p in experiment.progress().values()), within=120)
    last = [experiment.progress()[name].tasks[0] for name in names]
    jobs = [int(task.handle.split("/")[2]) for task in last]
    assert jobs == sorted(jobs)
    assert len((jobs_folder / "ran").read_text().split()) == 8
    assert [task.attempt for task in last] == [1] * 8


def test_a_group_over_the_limit_waits_as_a_whole(three_jobs: SlurmExecutor, limited: SlurmCluster) -> None:
    _set_limit(limited, 1)
    experiment = run.Experiment("groups", executor=three_jobs)
    experiment.add(script("sleep 2"), name="first")
    experiment.add([script("true"), script("true")], name="group")
    experiment.add(script("true"), name="last", dependencies=["group"])
    with experiment:
        experiment.run()
    assert {name: result.state.name for name, result in experiment.results().items()} == {
        "first": "SUCCEEDED", "group": "SUCCEEDED", "last": "SUCCEEDED",
    }  # fmt: skip


def test_what_can_never_be_submitted_is_a_failure(three_jobs: SlurmExecutor) -> None:
    three_jobs.array = "1-4"
    experiment = run.Experiment("never", executor=three_jobs)
    experiment.add(script("true"), name="a")
    with experiment:
        experiment.run()
    result = experiment.results()["a"]
    assert result.state is run.JobState.FAILED
    assert "AssocMaxSubmitJobLimit" in result.reason
    assert not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


def test_an_array_over_the_limit_is_submitted_in_smaller_ones(three_jobs: SlurmExecutor, jobs_folder: Path) -> None:
    with run.Experiment("arrays", executor=three_jobs) as experiment:
        found = experiment.map([script(f"echo {number} >> {jobs_folder}/ran") for number in range(7)], name="task")
        experiment.run()
    assert {experiment.results()[name].state.name for name in found.jobs} == {"SUCCEEDED"}
    assert sorted((jobs_folder / "ran").read_text().split()) == list("0123456")
