"""How busy a cluster is, and which of several a job would start on first."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.errors import ExecutorError
from tests.services.slurm import GPUS, NODES, SlurmCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture
def busy(executor: SlurmExecutor, cluster: SlurmCluster) -> Iterator[SlurmExecutor]:
    """An executor whose jobs wait for a node whose GPUs another job has for an hour."""
    other = subprocess.run(
        ["sbatch", "--parsable", "--nodelist=node3", f"--gpus-per-node={GPUS}", "--mem=100M", "--time=60",
         "--output=/dev/null", "--chdir=/tmp", "--wrap", "sleep 3600"],
        env=cluster.environment(), capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    eventually(lambda: cluster.ask("squeue", "-h", "-j", other, "-o", "%T").strip() == "RUNNING")
    busy = executor.clone()
    busy.additional_parameters, busy.gpus_per_node = {"nodelist": "node3"}, 1
    yield busy
    cluster.ask("scancel", other)
    eventually(lambda: not cluster.ask("squeue", "-h", "-j", other, "-t", "R,CG", "-o", "%i").strip())


def test_free_nodes_and_gpus_and_the_start(executor: SlurmExecutor, busy: SlurmExecutor) -> None:
    free, taken = executor.load(), busy.load()
    assert free.free_nodes is not None
    assert free.free_nodes < NODES
    assert free.free_gpus is not None
    assert free.free_gpus <= (NODES - 1) * GPUS
    assert free.start is not None
    assert free.start < time.time() + 60
    assert taken.start is not None
    assert time.time() + 600 < taken.start < time.time() + 3700
    busy.partition = "nowhere"
    assert "invalid partition" in busy.load().why.lower()
    assert busy.load().is_broken


def test_the_command_line_shows_loads(cluster: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("_target_: nemo_run.SlurmExecutor\nmem: 100M\n")
    (tmp_path / "b.yaml").write_text("_target_: nemo_run.LocalExecutor\n")
    argv = [sys.executable, "-m", "nemo_run", "executors", "--load", f"@{tmp_path}/a.yaml", f"@{tmp_path}/b.yaml"]
    done = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=True)
    slurm, local = json.loads(done.stdout)
    assert slurm["free_nodes"] <= NODES
    assert slurm["free_gpus"] <= NODES * GPUS
    assert slurm["start"] < time.time() + 60
    assert (local["free_nodes"], local["is_broken"]) == (None, False)
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "would start" in shown
    assert "now" in shown
    refused = subprocess.run(argv[:-2], capture_output=True, text=True, check=False)
    assert refused.returncode
    assert "--load takes executors" in refused.stderr


def test_jobs_go_where_they_start_first(executor: SlurmExecutor, busy: SlurmExecutor, here: LocalTunnel) -> None:
    broken = SlurmExecutor(tunnel=here, partition="nowhere", mem="100M", packager=run.Packager())
    soonest = run.Soonest([broken, busy, executor])
    assert soonest.chosen() is executor
    with run.Experiment("soon", executor=soonest) as experiment:
        experiment.add(run.Script(inline="true"), name="a")
        experiment.add([run.Script(inline="true"), run.Script(inline="true")], name="b", dependencies=["a"])
        experiment.run()
    assert {result.state.name for result in experiment.results().values()} == {"SUCCEEDED"}
    with pytest.raises(ExecutorError, match="none of its executors can be used"):
        run.Soonest([broken]).chosen()
