"""A managed job of SkyPilot itself, on a machine that it has from a real Slurm cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from tests.services.skypilot import ApiServer, Machines
from tests.skypilot.inside.conftest import client_of
from tests.skypilot.inside.experiments import log_of, shell
from tests.support import work as work  # noqa: PLC0414

pytestmark = pytest.mark.needs("machines for SkyPilot")


@pytest.fixture(scope="module", autouse=True)
def _skypilot() -> Iterator[None]:
    machines = Machines()
    try:
        machines.start()
        with client_of(ApiServer(machines, managed_jobs=True)):
            yield
    finally:
        machines.stop()


def test_a_managed_job(work: Path) -> None:
    executor = run.SkypilotJobsExecutor(infra="slurm/test", cpus=1, memory=0.4, packager=run.Packager())
    exp = run.Experiment("exp", executor=executor)
    exp.add(shell('echo "managed $SKYPILOT_MANAGED_JOB_ID"; echo a > "$NEMO_RUN_ARTIFACTS/a"; exit 7'), name="job")
    exp.run()
    result = exp.results()["job"]
    assert (result.state, result.exit_code) == (JobState.FAILED, 7)
    assert log_of(exp, "job") == "managed 1\n"
    assert [artifact.path for artifact in exp.artifacts()] == ["a"]
