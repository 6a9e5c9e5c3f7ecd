"""A controller that died may give an id to another job: that is neither shown as ours, nor touched."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run.core.execution.base import Command, JobState, Submission, TaskRequest, TaskStatus
from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.execution.slurm.handle import Handle
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import ExecutorError
from tests.services.slurm import SlurmCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("slurm cluster")


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """These tests have a cluster of their own, which loses jobs."""


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(nodes=1)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def single(own_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    monkeypatch.setenv("SLURM_CONF", str(own_cluster.configuration))
    return own_cluster


@pytest.fixture
def backend(single: SlurmCluster) -> SlurmBackend:
    return SlurmBackend({"kind": "local"})


def plan_of(folder: Path, name: str, text: str, mapped: str = "", **options: object) -> Plan:
    executor = SlurmExecutor(packager=Packager(), mem="100M", **options)  # type: ignore[arg-type]
    executor.assign("e", str(folder / "e"), name, name)
    directory = folder / "e" / name
    directory.mkdir(parents=True)
    request = TaskRequest("e", name, str(directory), executor, Command(("sh", "-c", text)), cwd="/", mapped=mapped)
    return SlurmBackend({"kind": "local"}).render([request])[0]


def submitted(cluster: SlurmCluster, *argv: str) -> str:
    """Id of a job of somebody who works here with sbatch."""
    done = subprocess.run(
        ["sbatch", "--parsable", "--mem=100M", "--output=/dev/null", *argv],
        env=cluster.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def state_of(cluster: SlurmCluster, job: str) -> str:
    return cluster.ask("squeue", "-h", "-j", job, "-t", "all", "-o", "%T").strip()


def seen(handle: str) -> TaskStatus:
    """What another process says, which knows the handle only."""
    return SlurmBackend({"kind": "local"}).states([handle])[handle]


def test_a_foreign_job_with_the_id_of_ours_is_neither_shown_nor_touched(
    single: SlurmCluster, backend: SlurmBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, "mine", "sleep 600")
    own = backend.start(plan, 1)
    foreign = submitted(single, f"--chdir={tmp_path}", "--wrap", "sleep 600")
    folder = Handle.parse(own).folder
    for forged in (f"slurm://{foreign}{folder}", f"slurm://{foreign}{folder}#1", f"slurm://{foreign}_0{folder}"):
        status = seen(forged)
        assert status.state is JobState.UNKNOWN
        backend.cancel([forged])
        with pytest.raises(ExecutorError, match="has no job"):
            backend.run_beside(plan, forged, ["true"])
        assert backend.used([forged]) == {}
    assert "gave another job the id" in seen(f"slurm://{foreign}{folder}").reason
    eventually(lambda: state_of(single, foreign) == "RUNNING")
    subprocess.run(["scancel", foreign], env=single.environment(), check=True)
    eventually(lambda: state_of(single, foreign) == "CANCELLED")
    assert seen(f"slurm://{foreign}{folder}").state is JobState.UNKNOWN
    monkeypatch.setattr("nemo_run.core.execution.slurm.backend._GONE_AFTER", 0.0)
    lost = seen(f"slurm://{foreign}{folder}")
    assert lost.state in (JobState.FAILED, JobState.UNKNOWN)  # its own job has begun, under another id
    backend.cancel([own])
    assert eventually(lambda: seen(own).state.is_final and seen(own)).state is JobState.CANCELLED


def test_accounts_of_a_foreign_job_are_not_those_of_ours(
    single: SlurmCluster, backend: SlurmBackend, tmp_path: Path
) -> None:
    ran = backend.start(plan_of(tmp_path, "mine", "exit 3"), 1)
    eventually(lambda: seen(ran).state.is_final)
    foreign = submitted(single, f"--chdir={tmp_path}", "--wrap", "true")
    eventually(lambda: state_of(single, foreign) == "COMPLETED")
    single.forget_jobs()
    eventually(lambda: "COMPLETED" in single.ask("sacct", "-nXj", foreign, "-o", "State"))
    never = plan_of(tmp_path, "never", "true")
    folder = f"{never.spec['folder']}/attempts/1"
    assert seen(f"slurm://{foreign}{folder}").state is JobState.UNKNOWN
    assert backend.used([f"slurm://{foreign}{folder}"]) == {}
    assert seen(ran).exit_code == 3
    eventually(lambda: backend.used([ran]).keys() == {ran})


def test_a_controller_that_starts_with_an_old_memory_gives_an_id_twice(
    single: SlurmCluster, backend: SlurmBackend, tmp_path: Path
) -> None:
    single.stop_controller()
    state, old = single.folder / "state", single.folder / "old"
    shutil.copytree(state, old)
    single.start_controller()
    of = [plan_of(tmp_path, f"t{number}", f"sleep 1; exit {number}", mapped="many") for number in range(2)]
    plans = [*of, plan_of(tmp_path, "alone", "exit 7")]
    handles = [str(answer) for answer in backend.submit([Submission(plan, 1) for plan in plans])]
    eventually(lambda: all(seen(handle).state.is_final for handle in handles))
    single.kill("slurmctld")
    shutil.rmtree(state)
    shutil.copytree(old, state)
    single.start_controller()
    ids = {Handle.parse(handle).job.partition("_")[0] for handle in handles}
    foreign: set[str] = set()
    while not ids <= foreign:
        foreign.add(submitted(single, f"--chdir={tmp_path}", "--wrap", "sleep 600"))
        assert len(foreign) < 50
    assert [seen(handle).exit_code for handle in handles] == [0, 1, 7]
    SlurmBackend({"kind": "local"}).cancel(handles)
    time.sleep(1)
    assert {state_of(single, job) for job in ids} <= {"RUNNING", "PENDING"}
    subprocess.run(["scancel", *foreign], env=single.environment(), check=True)


def test_a_working_directory_of_the_users_own_is_known(
    single: SlurmCluster, backend: SlurmBackend, tmp_path: Path
) -> None:
    own = tmp_path / 'of "its" own'
    own.mkdir()
    options = {"additional_parameters": {"chdir": str(own)}}
    handle = backend.start(plan_of(tmp_path, "elsewhere", "true", **options), 1)
    eventually(lambda: seen(handle).state.is_final)
    (Path(Handle.parse(handle).folder) / "end.0").unlink()
    single.forget_jobs()
    eventually(lambda: seen(handle).state is JobState.SUCCEEDED)
