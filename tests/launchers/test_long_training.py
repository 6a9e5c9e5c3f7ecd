"""A real training that is preempted, killed, and ended by time limits: it comes to what an undisturbed one comes to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from tests.support import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "long_training"
STEPS = 40

pytestmark = [pytest.mark.needs("torch"), pytest.mark.filterwarnings("ignore:The pynvml package:FutureWarning")]


def train(name: str, pause: float, **options: Any) -> run.Experiment:
    env = {"STEPS": str(STEPS), "STEP_SECONDS": str(pause), "OMP_NUM_THREADS": "1"}
    executor = run.LocalExecutor(ntasks_per_node=2, launcher="torchrun", env_vars=env, **options)
    exp = run.Experiment(name, executor=executor)
    exp.add(run.Script(path=str(EXAMPLE / "train.py"), entrypoint="python"), name="train")
    exp.run(detach=True)
    return exp


def came_to(exp: run.Experiment) -> dict[str, Any]:
    import torch

    assert exp.wait()["train"].state is JobState.SUCCEEDED, (exp.directory / "train/attempts/1/log").read_text()
    state: dict[str, Any] = torch.load(exp.directory / "train" / "checkpoints" / "state.pt")
    return state


def causes_of(exp: run.Experiment) -> list[str]:
    return [entry["cause"] for entry in exp.progress()["train"].tasks[0].history]


def interrupt(exp: run.Experiment, step: int, number: signal.Signals, cause: str) -> None:
    """Send a signal to the supervisor of a training that has come to a step, until that is what has ended an attempt.

    On a slow machine the time limit may be faster.
    """
    while cause not in (before := causes_of(exp)):
        folder = exp.directory / "train" / "attempts" / str(len(before) + 1)
        eventually(lambda: _has_come(exp, step), f"{folder} comes to step {step}", within=300)
        if len(causes_of(exp)) == len(before):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(json.loads((folder / "supervisor.json").read_text())["pid"]), number)
            eventually(lambda: _attempts(exp) > len(before) + 1, "it is ended")


def _has_come(exp: run.Experiment, step: int) -> bool:
    log = exp.directory / "train" / "attempts" / str(_attempts(exp)) / "log"
    return log.exists() and _steps(log.read_text())[-1:] >= [step]


def _attempts(exp: run.Experiment) -> int:
    return len(causes_of(exp)) + 1


def _steps(log: str) -> list[int]:
    return [int(step) for step in re.findall(r"step (\d+) loss", log)]


def test_a_training_that_is_interrupted_comes_to_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    undisturbed = train("undisturbed", 0)
    # It is told of its time limit after 14 s: a usual machine is in the middle of it then.
    disturbed = train("disturbed", 0.4, timeout=60, restarts=run.Restarts(max=100, backoff=0, notice=46))
    interrupt(disturbed, 2, signal.SIGTERM, "preemption")
    interrupt(disturbed, 4, signal.SIGKILL, "node failure")
    expected, got = came_to(undisturbed), came_to(disturbed)
    assert (len(got["losses"]), got["losses"]) == (STEPS, expected["losses"])
    assert got["losses"][-1] < got["losses"][0]
    assert got["model"].keys() == expected["model"].keys()
    assert all(torch.equal(got["model"][name], weights) for name, weights in expected["model"].items())

    causes = causes_of(disturbed)
    assert {"preemption", "node failure", "continued"} <= set(causes)
    assert disturbed.progress()["train"].tasks[0].tries == 1
    capfd.readouterr()
    disturbed.logs("train")
    log = capfd.readouterr().out
    begun = [int(step) for step in re.findall(r"begins at step (\d+) of", log)]
    assert begun == sorted(begun)
    steps = _steps(log)
    assert steps == sorted(set(steps)), "a step was trained twice"
