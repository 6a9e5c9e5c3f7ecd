"""The same training over two nodes of a Slurm cluster: preempted by another partition, and one of its nodes dies."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from tests.launchers.test_long_training import EXAMPLE
from tests.services.slurm import SlurmCluster
from tests.support import eventually

STEPS = 8
PREEMPTION = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP
"""

pytestmark = [
    pytest.mark.needs("torch", "slurm cluster"),
    pytest.mark.filterwarnings("ignore:The pynvml package:FutureWarning"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A cluster whose partition ``urgent`` takes the nodes of what runs in the other one."""
    cluster = SlurmCluster(nodes=2, accounting=False, settings=PREEMPTION)
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def train(name: str, pause: float) -> run.Experiment:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launcher = run.Torchrun(rdzv_port=free.getsockname()[1])
    executor = run.SlurmExecutor(
        nodes=2,
        mem="4G",
        launcher=launcher,
        packager=run.Packager(),
        restarts=run.Restarts(backoff=0),
        env_vars={"STEPS": str(STEPS), "STEP_SECONDS": str(pause), "OMP_NUM_THREADS": "1"},
    )
    exp = run.Experiment(name, executor=executor)
    exp.add(run.Script(path=str(EXAMPLE / "train.py"), entrypoint="python"), name="train")
    exp.run(detach=True)
    return exp


def logs_of(exp: run.Experiment) -> list[str]:
    """The log of each start, by Slurm or by us."""
    return [path.read_text() for path in sorted(exp.directory.glob("train/attempts/*/log.*"))]


def makes_steps(exp: run.Experiment, start: int) -> None:
    def does() -> bool:
        assert not exp.progress()["train"].state.is_final, logs_of(exp)
        logs = logs_of(exp)
        return len(logs) >= start and bool(_steps(logs[start - 1]))

    eventually(does, f"start {start} makes a step", within=1000)


def _steps(log: str) -> list[int]:
    return [int(step) for step in re.findall(r"step (\d+) loss", log)]


def came_to(exp: run.Experiment) -> dict[str, Any]:
    import torch

    assert exp.wait()["train"].state is JobState.SUCCEEDED, logs_of(exp)
    state: dict[str, Any] = torch.load(next(Path(exp.directory).rglob("state.pt")))
    return state


def test_a_training_that_loses_its_nodes_comes_to_the_same(cluster: SlurmCluster) -> None:
    import torch

    undisturbed = train("undisturbed", 0)
    expected = came_to(undisturbed)
    task = undisturbed.progress()["train"].tasks[0]
    assert task.started is not None
    assert task.ended is not None
    disturbed = train("disturbed", (task.ended - task.started) / 8)
    makes_steps(disturbed, 1)
    cluster.ask("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    makes_steps(disturbed, 2)
    cluster.kill_node("node2")
    eventually(lambda: _is_to_start_again(disturbed, cluster), "the loss of its node is noticed", within=300)
    cluster.start_node("node2")
    got = came_to(disturbed)
    assert got["losses"] == expected["losses"]
    assert len(got["losses"]) == STEPS
    assert all(torch.equal(got["model"][name], weights) for name, weights in expected["model"].items())
    logs = logs_of(disturbed)
    assert len(logs) == 3
    steps = [step for log in logs for step in _steps(log)]
    assert steps == sorted(set(steps)), "a step was trained twice"
    assert disturbed.progress()["train"].tasks[0].tries == 1


def _is_to_start_again(exp: run.Experiment, cluster: SlurmCluster) -> bool:
    return bool(exp.progress()["train"].tasks[0].restarts) or "PENDING" in cluster.ask("squeue", "-h", "-o", "%T")
