"""Lepton: the contract, on a workspace that runs its jobs as processes of this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.lepton import LeptonExecutor
from nemo_run.testing import BackendContract
from tests.lepton.conftest import executor_on
from tests.services.lepton import Lepton


@pytest.fixture(autouse=True)
def _place(request: pytest.FixtureRequest, mount: Path) -> None:
    request.instance.mount = mount


class TestLeptonBackend(BackendContract):
    mount: Path

    def make_executor(self, **options: Any) -> LeptonExecutor:
        return executor_on(self.mount, **options)

    def test_a_job_that_does_not_change_is_asked_for_ever_more_rarely(self, lepton: Lepton) -> None:
        handle = self.start("sleep 300")
        self.until(handle, JobState.RUNNING)
        ((mark, answer),) = self.backend._answers.items()  # type: ignore[attr-defined]
        unchanged_for_long = replace(answer, asked=time.monotonic(), changed=time.monotonic() - 1000)
        self.backend._answers[mark] = unchanged_for_long  # type: ignore[attr-defined]
        asked = len(lepton.requests)
        assert self.status(handle).state is JobState.RUNNING
        assert len(lepton.requests) == asked
        self.backend.cancel([handle])
        assert self.end(handle).state is JobState.CANCELLED
