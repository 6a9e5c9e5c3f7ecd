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
STEPS = 20

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


def interrupt(exp: run.Experiment, number: signal.Signals, cause: str) -> None:
    """Send a signal to the supervisor of a training that makes steps, until that is what has ended an attempt.

    Its notice may be faster.
    """
    while cause not in (before := causes_of(exp)):
        folder = exp.directory / "train" / "attempts" / str(len(before) + 1)
        eventually(lambda: _makes_steps(exp), f"{folder} makes a step", within=1000)
        if len(causes_of(exp)) == len(before):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(json.loads((folder / "supervisor.json").read_text())["pid"]), number)
            eventually(lambda: _attempts(exp) > len(before) + 1, "it is ended", within=300)


def _makes_steps(exp: run.Experiment) -> bool:
    log = exp.directory / "train" / "attempts" / str(_attempts(exp)) / "log"
    return log.exists() and bool(_steps(log.read_text()))


def _attempts(exp: run.Experiment) -> int:
    return len(causes_of(exp)) + 1


def _steps(log: str) -> list[int]:
    return [int(step) for step in re.findall(r"step (\d+) loss", log)]


def test_a_training_that_is_interrupted_comes_to_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """Its time limit is far away, its notice of that is not: the steps of one attempt up to then are not all of them.

    Where the machine is so slow that the notice comes before the first step, every attempt still makes one.
    """
    import torch

    undisturbed = train("undisturbed", 0)
    expected = came_to(undisturbed)
    task = undisturbed.progress()["train"].tasks[0]
    assert task.started is not None
    assert task.ended is not None
    told_after = 2.5 * (task.ended - task.started)
    restarts = run.Restarts(max=1000, backoff=0, notice=3600)
    disturbed = train("disturbed", told_after / 15, timeout=3600 + told_after, restarts=restarts)
    eventually(lambda: "continued" in causes_of(disturbed), "it was told, and continues later", within=1000)
    interrupt(disturbed, signal.SIGTERM, "preemption")
    interrupt(disturbed, signal.SIGKILL, "node failure")
    got = came_to(disturbed)
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
