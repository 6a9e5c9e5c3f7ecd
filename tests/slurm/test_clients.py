"""What programs written for NeMo-Run ask of a Slurm cluster, on a real one."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor, SlurmJobDetails
from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.errors import NemoRunError
from tests.slurm.test_experiments import launch, log_of, script

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """Nothing here is about a time limit."""


class Renamed(SlurmJobDetails):
    """Names of files as programs have them that look for logs themselves."""

    @property
    def stdout(self) -> Path:
        """Of the batch script."""
        return Path(str(self.folder), "batch", f"{self.job_name}_%j.txt")

    @property
    def srun_stdout(self) -> Path:
        """Of the tasks."""
        return Path(str(self.folder), "tasks", f"{self.job_name}_%j.txt")


def test_details_decide_the_names_of_a_job_and_its_files(
    executor: SlurmExecutor, jobs_folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    executor.dependencies = None
    executor.job_name_prefix = "not-this."
    folder = jobs_folder / "logs of mine"
    executor.job_details = Renamed(job_name="mine", folder=str(folder))
    experiment = run.Experiment("details", executor=executor, clean_mode=True)
    experiment.add(script('echo "job $SLURM_JOB_ID is $SLURM_JOB_NAME"'), name="task")
    assert launch(experiment)["task"].state.name == "SUCCEEDED"
    said = log_of(experiment, "task", capfdbinary).decode()
    number = said.split()[-3]
    assert said.endswith(f"job {number} is mine\n")
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.txt")) == [
        f"batch/mine_{number}.txt",
        f"tasks/mine_{number}.txt",
    ]
    assert (folder / f"tasks/mine_{number}.txt").read_text() == f"job {number} is mine\n"
    assert stat.S_IMODE((jobs_folder / "it's here").stat().st_mode) == 0o700


def test_tasks_of_a_group_are_told_apart_in_a_folder_for_all_logs(executor: SlurmExecutor, jobs_folder: Path) -> None:
    executor.wait_time_for_group_job = 0.1
    executor.job_details = SlurmJobDetails(job_name="mine", folder=str(jobs_folder / "logs"))
    experiment = run.Experiment("details-of-groups", executor=executor, clean_mode=True)
    experiment.add([script("echo one"), script("echo two")], name="pair")
    assert launch(experiment)["pair"].state.name == "SUCCEEDED"
    texts = [file.read_text() for file in sorted((jobs_folder / "logs").glob("log-mine-pair-*.out"))]
    assert texts == ["one\n", "two\n"]


def test_variables_ask_for_the_nodes(executor: SlurmExecutor, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    executor.nodes = 2
    executor.env_vars = {
        "FIRST": '$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "HOST": "$(hostname --short)",
        "COUNT": "$SLURM_NNODES",
        "ID": "${SLURM_JOB_ID}",
        "EXACT": "$(date) $SLURM_NNODES",
    }
    experiment = run.Experiment("asks", executor=executor, clean_mode=True)
    text = (
        '[ "$HOST" = "$(hostname --short)" ] && [ "$ID" = "$SLURM_JOB_ID" ] || exit\n'
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
        '[ "$FIRST" = "$first" ] && echo "$COUNT $EXACT"'
    )
    experiment.add(script(text), name="task")
    assert launch(experiment)["task"].state.name == "SUCCEEDED"
    assert log_of(experiment, "task", capfdbinary).count(b" 2 $(date) $SLURM_NNODES\n") == 2


def _put_before_sbatch(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "sbatch").write_text(f"#!/bin/sh\necho ------\necho '  Welcome on node 7'\n{text}\n")
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_an_sbatch_with_a_banner(
    executor: SlurmExecutor, here: LocalTunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_before_sbatch(tmp_path / "bin", f'exec {shutil.which("sbatch")} "$@"', monkeypatch)
    executor.tunnel = here
    experiment = run.Experiment("banner", executor=executor, clean_mode=True)
    first = experiment.add(script("exit 0"), name="first")
    experiment.add([script("true"), script("true")], name="pair", dependencies=[first])
    assert all(result.ok for result in launch(experiment).values())
    assert str(experiment.status(return_dict=True)["first"]["handle"]).removeprefix("slurm://").split("/")[0].isdigit()


def test_an_sbatch_that_gives_no_id(
    executor: SlurmExecutor, here: LocalTunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_before_sbatch(tmp_path / "bin", "exit 0", monkeypatch)
    executor.tunnel = here
    experiment = run.Experiment("no-id", executor=executor, clean_mode=True)
    experiment.add(script("true"), name="first")
    with pytest.raises(NemoRunError, match=r"gave no id of a job: .*Welcome on node 7"), experiment:
        experiment.run(detach=True)
