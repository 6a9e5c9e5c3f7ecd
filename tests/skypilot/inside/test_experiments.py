"""Experiments, through SkyPilot's real client and a stand-in for its API server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from tests import kinds_of_artifacts
from tests.services.skypilot import Double
from tests.skypilot.inside.conftest import client_of
from tests.skypilot.inside.experiments import check_jobs_on_a_cluster, log_of, shell
from tests.support import work as work  # noqa: PLC0414


@pytest.fixture(scope="module", autouse=True)
def _double() -> Iterator[None]:
    with client_of(Double()):
        yield


def make(cls: Any = run.SkypilotExecutor, **options: Any) -> Any:
    return cls(**{"packager": run.Packager(), **options})


def test_jobs_on_a_cluster(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_jobs_on_a_cluster(work, monkeypatch, make)


def test_managed_jobs(work: Path) -> None:
    exp = run.Experiment("exp", executor=make(run.SkypilotJobsExecutor, retries=1, retry_delay=0.1))
    first = exp.add(shell('echo "try $NEMO_RUN_ATTEMPT"; test $NEMO_RUN_ATTEMPT = 2'), name="first")
    exp.add(shell("exit 7"), name="second", dependencies=[first])
    exp.add(shell("true"), name="collecting", artifacts=["*.txt"])
    exp.run()
    ends = {name: (result.state, result.exit_code) for name, result in exp.results().items()}
    assert ends == {
        "first": (JobState.SUCCEEDED, 0),
        "second": (JobState.FAILED, 7),
        "collecting": (JobState.SUCCEEDED, 0),
    }
    assert log_of(exp, "first") == "try 1\n"
    assert "storage_mounts=" in exp.results()["collecting"].reason


@pytest.mark.parametrize("kind", [run.SkypilotExecutor, run.SkypilotJobsExecutor])
def test_all_kinds_of_artifacts(kind: type[run.Executor], work: Path) -> None:
    with run.Experiment("kinds", executor=make(kind)) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=os.geteuid() == 0)
