"""Hours of tasks and of GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.commands.usage import print_usage
from nemo_run.core.execution.jobs import JobState
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskDefinition, TaskProgress
from nemo_run.run.store import ExperimentStore
from nemo_run.run.usage import usage


def test_all_tries_count_and_are_times_the_gpus(tmp_path: Path) -> None:
    task = TaskDefinition("a", "a", "LocalExecutor", gpus=4)
    job = JobDefinition("a", "a", "a", (task, task), group=True)
    tries = [{"handle": "", "started": 1000.0, "ended": 2800.0}, {"handle": "", "started": None, "ended": 2900.0}]
    first = TaskProgress(JobState.SUCCEEDED, started=3000.0, ended=4800.0, history=tries)
    second = TaskProgress(JobState.CANCELLED)
    found = usage(ExperimentStore(tmp_path), Definition("e", "e", 0.0, (job,)), {"a": JobProgress([first, second])})
    assert (found["a"].hours, found["a"].gpu_hours, found["a"].accounted) == (1.0, 4.0, False)


def test_executors_tell_their_gpus() -> None:
    assert run.LocalExecutor().gpus_in_all == 0
    assert run.LocalExecutor(gpus=2).gpus_in_all == 2
    assert run.SlurmExecutor(nodes=3, gpus_per_node=8).gpus_in_all == 24
    assert run.SlurmExecutor(nodes=2, ntasks_per_node=4, gpus_per_task=1).gpus_in_all == 8
    assert run.DockerExecutor(container_image="x", num_gpus=-1).gpus_in_all == 0


def test_the_status_shows_it(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("used", clean_mode=True) as exp:
        exp.map([run.Script(inline="true"), run.Script(inline="true")], name="many")
        exp.add(run.Script(inline="true"), name="one")
        exp.run()
    definition = ExperimentStore(exp.directory).read_definition()
    found = usage(ExperimentStore(exp.directory), definition, exp.progress())
    assert all(one.hours > 0 for one in found.values())
    print_usage(ExperimentStore(exp.directory), definition, exp.progress(), 2.0)
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["job", "many", "one", "total"]
    assert "cost" in out
