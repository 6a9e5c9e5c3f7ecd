"""The local engine: the contract, and what only it has."""

from __future__ import annotations

from typing import Any

from nemo_run.core.execution.local import LocalExecutor
from tests.execution.contract import BackendContract


class TestLocalBackend(BackendContract):
    def make_executor(self, **options: Any) -> LocalExecutor:
        return LocalExecutor(**options)
