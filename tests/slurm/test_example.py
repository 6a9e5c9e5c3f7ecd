"""The example of a job array, on a real Slurm cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.examples import run_readme
from tests.services.slurm import SlurmCluster


@pytest.mark.needs("sshd", "slurm cluster")
def test_the_array(cluster: SlurmCluster, tmp_path: Path) -> None:
    run_readme("slurm_array", tmp_path, {"SLURM_CONF": str(cluster.configuration)})
