"""A look at a real cluster before a first job."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.tunnel.client import LocalTunnel
from tests.services.slurm import SlurmCluster

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def found(executor: SlurmExecutor) -> dict[str, tuple[str, str]]:
    return {finding.what: (finding.state, finding.text) for finding in executor.examine()}


def test_a_cluster_as_it_should_be_has_nothing_broken(executor: SlurmExecutor) -> None:
    seen = found(executor)
    assert {state for state, _ in seen.values()} <= {"ok", "note"}
    for what in ("login shell", "job_dir", "job_dir on nodes", "clock of nodes", "python on nodes", "accounting"):
        assert seen[what][0] == "ok"
    left = executor.tunnel.run(f"ls -A {shlex.quote(executor.tunnel.job_dir)}").stdout
    assert "doctor" not in left


def test_what_is_wrong_is_told_with_its_mend(executor: SlurmExecutor) -> None:
    executor.tunnel.job_dir = "/proc/here"
    executor.python = "python2.7"
    seen = found(executor)
    assert seen["job_dir"][0] == "broken"
    assert "shared disk" in seen["job_dir"][1]
    executor.tunnel.job_dir = "/tmp"
    seen = found(executor)
    assert seen["python on nodes"][0] == "broken"
    assert "python=" in seen["python on nodes"][1]


def test_what_the_shell_sets_for_slurm_is_told(
    cluster: SlurmCluster, here: LocalTunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    assert "SBATCH_PARTITION" in found(SlurmExecutor(tunnel=here, mem="100M"))["variables"][1]


def test_a_partition_that_is_not_there_is_told(executor: SlurmExecutor) -> None:
    executor.partition = "nowhere"
    assert "nvalid partition" in found(executor)["node"][1]


def test_the_command_line_reads_the_executor_from_a_file(cluster: SlurmCluster, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("_target_: nemo_run.SlurmExecutor\nmem: 100M\n")
    done = subprocess.run(
        [sys.executable, "-m", "nemo_run", "doctor", "--executor", f"@{file}", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"Slurm", "clock", "job_dir"} <= {finding["what"] for finding in json.loads(done.stdout)}
