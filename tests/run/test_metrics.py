"""Metrics: what tasks log is what the experiment has."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.runners.metrics import log_metrics
from nemo_run.run.artifacts import folder_of
from tests.run import work as tasks
from tests.support import bash, eventually


def launched(task: run.Partial, executor: run.Executor | None = None) -> run.Experiment:  # type: ignore[type-arg]
    with run.Experiment("metrics", executor=executor, clean_mode=True) as exp:
        exp.add(task, name="a")
        exp.run()
    return run.Experiment.from_id(exp.id)


def file_of(exp: run.Experiment) -> Path:
    return folder_of(exp._its_store, exp._prepared.job("a").tasks[0]) / "metrics.jsonl"


def test_all_points_arrive_in_order(work: Path) -> None:
    metrics = launched(run.Partial(tasks.logs_metrics, count=5000)).metrics("a")
    assert list(metrics) == ["loss", "odd"]
    loss = metrics["loss"]
    assert (loss.steps, loss.values) == (list(range(5000)), [1 / (step + 1) for step in range(5000)])
    assert (loss.last, loss.min, loss.max, len(loss)) == (1 / 5000, 1 / 5000, 1.0, 5000)
    assert [str(value) for value in metrics["odd"].values[:3]] == ["nan", "inf", "-inf"]
    assert loss.times == sorted(loss.times)
    with pytest.raises(KeyError, match="there are: loss, odd"):
        metrics["los"]


def test_they_are_there_while_the_task_runs(work: Path) -> None:
    with run.Experiment("live", clean_mode=True) as exp:
        exp.add(
            bash('echo \'{"metrics": {"x": 1}}\' >> "$NEMO_RUN_METRICS"; until [ -e go ]; do sleep 0.05; done'),
            name="a",
        )
        exp.run(detach=True)
    assert eventually(lambda: exp.metrics("a"))["x"].values == [1.0]
    (work / "go").touch()
    exp.wait()


def test_a_restart_replaces_the_steps_that_it_repeats(work: Path) -> None:
    exp = launched(run.Partial(tasks.logs_and_restarts), run.LocalExecutor(retries=1))
    assert exp.metrics("a")["x"].values == [1.0, 20.0, 30.0]


def test_lines_that_cannot_be_read_are_left_out(work: Path) -> None:
    exp = launched(run.Partial(tasks.logs_metrics, count=2))
    with file_of(exp).open("a") as file:
        file.write(
            'not json\n[1]\n{"metrics": 3}\n{"step": "x", "metrics": {"loss": 1}}\n{"step": 9, "metrics": {"loss": 4'
        )
    assert exp.metrics("a")["loss"].steps == [0, 1]
    file_of(exp).unlink()
    file_of(exp).symlink_to("/etc/passwd")
    assert dict(exp.metrics("a")) == {}


def test_ranks(work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEMO_RUN_METRICS", str(tmp_path / "metrics.jsonl"))
    monkeypatch.setenv("RANK", "3")
    log_metrics({"a": 1})
    assert list(tmp_path.glob("*.jsonl")) == []
    log_metrics({"a": 1}, every_rank=True)
    assert json.loads((tmp_path / "metrics.3.jsonl").read_text())["metrics"] == {"a": 1.0}


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="'loss' is 'high'"):
        run.log_metrics({"loss": "high"})  # type: ignore[dict-item]
    run.log_metrics({"loss": math.nan})  # outside of a task: nothing
    assert "NEMO_RUN_METRICS" not in os.environ
