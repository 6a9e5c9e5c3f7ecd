"""Sweeps on a real Slurm cluster: trials are elements of arrays, and are seen and ended while they run."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm.handle import Handle
from tests.adaptive import sweep_and_kill
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def test_an_adaptive_sweep_whose_controller_is_killed(
    executor: run.SlurmExecutor, tmp_path: Path, jobs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = sweep_and_kill(executor, tmp_path, jobs_folder / "marks", monkeypatch)
    first = [job["handle"] for job in exp.status(return_dict=True).values()][:4]
    assert len({Handle.parse(handle).job.partition("_")[0] for handle in first}) == 1


def test_metrics_are_seen_while_a_task_runs(executor: run.SlurmExecutor, jobs_folder: Path) -> None:
    text = """\
        echo '{"step": 1, "metrics": {"x": 0.5}}' >> "$NEMO_RUN_METRICS"
        until [ -e "$1" ]; do sleep 0.1; done
        echo '{"step": 2, "metrics": {"x": 0.7}}' >> "$NEMO_RUN_METRICS"
        until [ -e "$1.2" ]; do sleep 0.1; done"""
    with run.Experiment("live", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline=text, args=[str(jobs_folder / "go")]), name="a")
        exp.run(detach=True)
    assert eventually(lambda: exp.metrics("a"))["x"].values == [0.5]
    (jobs_folder / "go").touch()
    eventually(lambda: exp.metrics("a")["x"].values == [0.5, 0.7])
    (jobs_folder / "go.2").touch()
    exp.wait()
    assert exp.metrics("a")["x"].steps == [1, 2]
