"""Lepton: the contract, on a workspace that runs its jobs as processes of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.lepton import LeptonExecutor
from tests.execution.contract import BackendContract
from tests.lepton.conftest import executor_on


@pytest.fixture(autouse=True)
def _place(request: pytest.FixtureRequest, mount: Path) -> None:
    request.instance.mount = mount


class TestLeptonBackend(BackendContract):
    mount: Path

    def make_executor(self, **options: Any) -> LeptonExecutor:
        return executor_on(self.mount, **options)
