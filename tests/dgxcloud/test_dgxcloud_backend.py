"""DGX Cloud: the contract, with the volume mounted here and without."""

from __future__ import annotations

from typing import Any

import pytest

from nemo_run.core.execution.dgxcloud import DGXCloudExecutor
from nemo_run.testing import BackendContract
from tests.dgxcloud.executors import make_executor

pytestmark = pytest.mark.needs("pods")


class TestFromOutside(BackendContract):
    """The volume is reached through helper workloads only."""

    def make_executor(self, **options: Any) -> DGXCloudExecutor:
        return make_executor(**options)


class TestFromTheCluster(BackendContract):
    """The volume is mounted on this machine, too."""

    test_values_arrive_byte_for_byte = None  # type: ignore[assignment]  # they go the same way as from outside

    def make_executor(self, **options: Any) -> DGXCloudExecutor:
        return make_executor(mounted=True, **options)
