"""The suite for every backend, on a real Slurm: through SSH as an ordinary user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import Backend, Executor, Plan
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import SSHTunnel
from tests.execution.contract import BackendContract

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


class TestSlurmBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _tunnel(self, remote: SSHTunnel) -> None:
        self.tunnel = remote

    @pytest.fixture(autouse=True)
    def _engine(self, _tunnel: None, tmp_path: Path) -> Any:
        yield from BackendContract._engine.__wrapped__(self, tmp_path)  # type: ignore[attr-defined]

    def make_executor(self, **options: Any) -> Executor:
        return SlurmExecutor(tunnel=self.tunnel, packager=Packager(), mem="100M", **options)

    def unknown_handle(self, backend: Backend, plan: Plan) -> str:
        return f"slurm://999999{plan.spec['folder']}/attempts/99"
