"""The choice between executors, where engines give an estimate and where they do not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExecutorError


def test_an_estimate_is_preferred_to_none_and_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    local = run.LocalExecutor()
    with caplog.at_level(logging.WARNING):
        assert run.Soonest([run.DockerExecutor(container_image="x"), local]).chosen() is local
    assert "takes number 2, LocalExecutor (no estimate of 1: this engine gives no estimate" in caplog.text


def test_the_first_is_taken_where_nothing_is_known() -> None:
    first, second = run.LocalExecutor(cpus=1), run.LocalExecutor(cpus=1)
    assert run.Soonest([first, second]).chosen() is first


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ExecutorError, match="give it executors"):
        run.Soonest([]).chosen()


def test_an_experiment_runs_on_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soonest = run.Soonest([run.LocalExecutor(env_vars={"WHICH": "first"}), run.LocalExecutor()])
    with run.Experiment("soon", executor=soonest) as experiment:
        experiment.add(run.Script(inline=f"echo $WHICH > {tmp_path}/which"), name="a")
        experiment.run()
    assert (tmp_path / "which").read_text() == "first\n"
    assert type(experiment.jobs[0].executor) is run.LocalExecutor
