"""What becomes of jobs that the controller has forgotten: on a real cluster, with accounting and without."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Command, JobState, TaskRequest, TaskStatus
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.execution.slurm.backend import SlurmBackend
from nemo_run.core.packaging.base import Packager
from tests.services.slurm import SlurmCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("slurm cluster")

MEMORY = "it used more memory than it had asked for"
GREEDY = "exec python3 -c 'import time; x = bytearray(400 << 20); time.sleep(60)'"


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """These tests have clusters of their own, which may lose all jobs."""


@pytest.fixture(scope="module", params=[True, False], ids=["accounting", "no accounting"])
def forgetful(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(nodes=1, accounting=request.param)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Jobs:
    """Starts jobs and asks for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handles: dict[str, str] = {}
        self.look_anew()

    def start(self, name: str, script: str, **options: object) -> None:
        executor = SlurmExecutor(packager=Packager(), mem="100M", **options)  # type: ignore[arg-type]
        executor.assign("e", str(self.folder / "e"), name, name)
        folder = self.folder / "e" / name
        folder.mkdir(parents=True)
        plan = self.backend.render(
            [TaskRequest("e", name, str(folder), executor, Command(("sh", "-c", script)), cwd="/")]
        )[0]
        self.handles[name] = self.backend.start(plan, 1)

    def statuses(self) -> dict[str, TaskStatus]:
        statuses = self.backend.states(list(self.handles.values()))
        return {name: statuses[handle] for name, handle in self.handles.items()}

    def end(self) -> dict[str, TaskStatus]:
        return eventually(lambda: (s := self.statuses()) and all(one.state.is_final for one in s.values()) and s)

    def look_anew(self) -> None:
        """Ask as another process would, which knows the handles only."""
        self.backend = SlurmBackend({"kind": "local"})


@pytest.fixture
def jobs(forgetful: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("SLURM_CONF", str(forgetful.configuration))
    return Jobs(tmp_path)


def told(status: TaskStatus) -> tuple[JobState, int | None, str]:
    return status.state, status.exit_code, status.reason


def test_forgotten_jobs(jobs: Jobs, forgetful: SlurmCluster) -> None:
    for name, text in {"good": "true", "bad": "exit 3", "far": "exit 200", "greedy": GREEDY}.items():
        jobs.start(name, text)
    jobs.start("again", '[ "$SLURM_RESTART_COUNT" = 1 ]', retries=1)
    jobs.start("of-three", '[ "$SLURM_ARRAY_TASK_ID" != 2 ] || exit 4', array="1-3%2")
    jobs.start("all-three", "true", array="0,4-6:2")
    jobs.start("never", "true", additional_parameters={"begin": "now+1hour"})
    jobs.backend.cancel([jobs.handles["never"]])
    before = jobs.end()
    expected = {
        "good": (JobState.SUCCEEDED, 0, ""),
        "bad": (JobState.FAILED, 3, ""),
        "far": (JobState.FAILED, 200, ""),
        "greedy": (JobState.FAILED, 137, MEMORY),
        "again": (JobState.SUCCEEDED, 0, ""),
        "of-three": (JobState.FAILED, 4, "1 of the 3 tasks of the array failed: 2"),
        "all-three": (JobState.SUCCEEDED, 0, ""),
        "never": (JobState.CANCELLED, None, "cancelled"),
    }
    assert {name: told(status) for name, status in before.items()} == expected

    forgetful.forget_jobs()
    jobs.look_anew()
    if forgetful.accounting:
        expected["never"] = (JobState.CANCELLED, None, "cancelled by user 0")
    else:  # nothing tells of a job that left nothing behind
        del jobs.handles["never"], expected["never"]
    assert {name: told(status) for name, status in jobs.end().items()} == expected

    for path in jobs.folder.glob("e/*/attempts/1/end.*"):
        path.unlink()
    jobs.look_anew()
    if forgetful.accounting:
        assert {name: one.state for name, one in jobs.end().items()} == {
            n: state for n, (state, *_) in expected.items()
        }
        assert told(jobs.statuses()["bad"]) == expected["bad"]
    else:
        assert {one.state for one in jobs.statuses().values()} == {JobState.UNKNOWN}
        assert jobs.statuses()["bad"].reason.startswith("Slurm knows no job ")


def test_what_a_job_left_outweighs_accounts(jobs: Jobs, forgetful: SlurmCluster) -> None:
    """A controller that starts without its memory has what ran entered as failed, whatever became of it."""
    jobs.start("good", f"touch '{jobs.folder}/begun'; sleep 2")
    eventually((jobs.folder / "begun").exists)  # srun needs the controller until then
    forgetful.kill("slurmctld")
    eventually((jobs.folder / "e" / "good" / "attempts" / "1" / "end.0").exists)
    forgetful.start_controller("-c")
    jobs.look_anew()
    assert told(jobs.end()["good"]) == (JobState.SUCCEEDED, 0, "")


def test_accounts_that_do_not_answer(jobs: Jobs, forgetful: SlurmCluster) -> None:
    if forgetful.accounting:
        forgetful.kill("slurmdbd")
    try:
        jobs.handles["lost"] = f"slurm://999999{jobs.folder}/e/lost/attempts/1"
        status = jobs.statuses()["lost"]
    finally:
        if forgetful.accounting:
            forgetful.start_bookkeeper()
    assert status.state is JobState.UNKNOWN
    assert status.reason.startswith("sacct does not answer" if forgetful.accounting else "Slurm knows no job")


def test_a_job_that_is_lost_before_it_began_is_submitted_again(
    forgetful: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(forgetful.configuration))
    monkeypatch.setattr("nemo_run.core.execution.slurm.backend._GONE_AFTER", 2.0)
    monkeypatch.chdir(tmp_path)
    executor = SlurmExecutor(packager=Packager(), mem="100M", nodes=1, additional_parameters={"begin": "now+1hour"})
    experiment = run.Experiment("lost", executor=executor)
    experiment.add(run.Script(inline=f"echo ran >> {tmp_path}/ran"), name="a")
    forgotten: list[str] = []

    def forget_once() -> None:
        ids = eventually(lambda: forgetful.ask("squeue", "-h", "-o", "%i").split())
        forgotten.extend(ids)
        forgetful.forget_jobs()
        (second,) = eventually(lambda: forgetful.ask("squeue", "-h", "-o", "%i").split())
        forgotten.append(second)
        forgetful.ask("scontrol", "update", f"JobId={second}", "StartTime=now")

    with ThreadPoolExecutor() as threads, experiment:
        work = threads.submit(forget_once)
        experiment.run()
        work.result()
    assert experiment.results()["a"].state is JobState.SUCCEEDED
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert experiment.progress()["a"].tasks[0].attempt == 2


def test_a_job_that_slurm_starts_once_more_after_its_end_runs_nothing(
    forgetful: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(forgetful.configuration))
    jobs = Jobs(tmp_path)
    jobs.start("a", f"echo ran >> {tmp_path}/ran; exit 3")
    assert jobs.end()["a"].exit_code == 3
    folder = tmp_path / "e" / "a" / "attempts" / "1"
    job = (folder / "owner").readlink().name
    done = subprocess.run(
        ["bash", folder / "job.sh"],
        env={**os.environ, "SLURM_JOB_ID": job},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "nothing is run" in done.stdout
    assert (tmp_path / "ran").read_text() == "ran\n"
