"""The contract, through SkyPilot's real client and a stand-in for its API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nemo_run.core.execution._skypilot import SkypilotOptions
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.skypilot import SkypilotExecutor
from nemo_run.core.execution.skypilot_jobs import SkypilotJobsExecutor
from nemo_run.core.packaging.base import Packager
from tests.execution.contract import HOSTILE, BackendContract
from tests.services.skypilot import Double
from tests.skypilot.inside.conftest import client_of


@pytest.fixture(scope="module", autouse=True)
def _double() -> Iterator[None]:
    with client_of(Double()):
        yield


class SkypilotContract(BackendContract):
    executor_class: type[SkypilotOptions]

    def make_executor(self, **options: Any) -> SkypilotOptions:
        return self.executor_class(packager=Packager(), cluster_name="shared", **options)

    def test_binary_output_is_not_changed(self) -> None:
        """It is, by SkyPilot, whose logs are text; but nothing else is."""
        handle = self.start("printf 'a\\001\\033[1m\\377\\000b'")
        self.end(handle)
        assert self.log(handle) == b"a\x01\x1b[1m\xef\xbf\xbd\x00b"


class TestSkypilotCluster(SkypilotContract):
    executor_class = SkypilotExecutor


class TestSkypilotJobs(SkypilotContract):
    executor_class = SkypilotJobsExecutor

    # SkyPilot keeps the output of managed jobs by lines, and a carriage return ends one, too.

    @pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "lines"])
    def test_values_arrive_byte_for_byte(self, kind: str) -> None:
        super().test_values_arrive_byte_for_byte(kind)

    def test_values_of_several_lines_arrive(self) -> None:
        handle = self.start('test "$FROM" = "$1"', HOSTILE["lines"], env_vars={"FROM": HOSTILE["lines"]})
        assert self.end(handle).state is JobState.SUCCEEDED

    def test_carriage_returns_are_not_changed(self) -> None:
        handle = self.start("printf ' 10%%\\r 50%%\\r100%%\\r\\ndone\\n'")
        self.end(handle)
        assert self.log(handle) == b" 10%\n 50%\n100%\ndone\n"
