"""A small campaign of faults; ``python -m tests.slurm.campaign`` is a large one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.slurm.campaign import under_fire

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture(autouse=True)
def _overtime() -> None:
    """It has a cluster of its own."""


def test_nothing_is_lost_doubled_or_wrong_under_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nr-campaign-"))
    monkeypatch.setenv("NEMORUN_HOME", str(folder / "home"))
    # A killed slurmctld may forget a job, which is not tried again; a killed node leaves elements that never ran.
    campaign = under_fire(3, folder, experiments=3, faults=12, without=["slurmctld killed", "node killed"])
    assert campaign.problems == []
    assert campaign.counts["tasks"] >= 24
    shutil.rmtree(folder)
