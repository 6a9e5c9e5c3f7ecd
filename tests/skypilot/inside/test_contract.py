"""The contract, through SkyPilot's real client and a stand-in for its API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import JobState, get_backend
from nemo_run.core.execution.sky.backend import SkyHandle
from nemo_run.core.execution.sky.options import SkypilotOptions
from nemo_run.core.execution.skypilot import SkypilotExecutor
from nemo_run.core.execution.skypilot_jobs import SkypilotJobsExecutor
from nemo_run.core.packaging.base import Packager
from nemo_run.testing import HOSTILE, BackendContract
from tests.services.skypilot import Double
from tests.skypilot.inside.conftest import client_of


@pytest.fixture(scope="module", autouse=True)
def double() -> Iterator[Double]:
    server = Double()
    with client_of(server):
        yield server


@pytest.fixture
def held(double: Double) -> Iterator[Path]:
    """Launches do not get on."""
    file = double.folder / "hold"
    file.touch()
    yield file
    file.unlink()


class SkypilotContract(BackendContract):
    executor_class: type[SkypilotOptions]

    def make_executor(self, **options: Any) -> SkypilotOptions:
        return self.executor_class(packager=Packager(), **options)

    def test_binary_output_is_not_changed(self) -> None:
        """It is, by SkyPilot, whose logs are text; but nothing else is."""
        handle = self.start("printf 'a\\001\\033[1m\\377\\000b'")
        self.end(handle)
        assert self.log(handle) == b"a\x01\x1b[1m\xef\xbf\xbd\x00b"


class TestSkypilotCluster(SkypilotContract):
    executor_class = SkypilotExecutor

    def make_executor(self, **options: Any) -> SkypilotOptions:
        return super().make_executor(**{"cluster_name": "shared", **options})

    # what happens to clusters

    def test_a_launch_that_fails_is_a_failure_in_skypilots_words(self) -> None:
        handle = self.start("true", cluster_name="nowhere-1")
        status = self.end(handle)
        assert (status.state, status.exit_code) == (JobState.FAILED, None)
        assert "SkyPilot refuses: No machine for experiment-" in status.reason

    def test_a_cluster_that_vanishes_loses_its_jobs(self) -> None:
        import sky

        handle = self.start("sleep 300", cluster_name="vanishing")
        self.until(handle, JobState.RUNNING)
        sky.get(sky.down("vanishing"))
        status = self.end(handle)
        assert (status.state, status.lost) == (JobState.FAILED, True)
        assert "'vanishing' is stopped or gone" in status.reason

    def test_an_end_is_kept_when_the_cluster_goes(self) -> None:
        import sky

        handle = self.start("echo kept; exit 4", cluster_name="going")
        self.end(handle)
        sky.get(sky.down("going"))
        other = self.make_executor().backend()
        assert self.status(handle, other).exit_code == 4
        assert self.log(handle) == b"kept\n"

    @pytest.mark.parametrize("known", [True, False], ids=["its request is known", "its request is not known"])
    def test_a_launch_goes_on_without_us_and_can_be_cancelled(self, known: bool, held: Path) -> None:
        plan = self.plan("echo too far", cluster_name="slow", autodown=True)
        handle = self.submit(plan)
        if not known:  # we were killed before it was written down
            SkyHandle.parse(handle).folder.joinpath("submission.json").unlink()
        other = get_backend(plan.engine, plan.connection)
        assert other.recover(plan, 1) == handle
        status = self.status(handle, other)
        assert (status.state, status.reason) == (JobState.PENDING, "SkyPilot makes a machine ready for it")
        other.cancel([handle])
        assert self.status(handle, other).state is JobState.CANCELLED

    def test_a_job_is_found_by_its_name(self) -> None:
        plan = self.plan("sleep 300")
        handle = self.submit(plan)
        self.until(handle, JobState.RUNNING)
        SkyHandle.parse(handle).folder.joinpath("submission.json").unlink()
        other = get_backend(plan.engine, plan.connection)
        assert other.recover(plan, 1) == handle
        assert self.status(handle, other).state is JobState.RUNNING
        other.cancel([handle])
        assert self.status(handle, other).state is JobState.CANCELLED

    def test_logs_of_several_nodes(self) -> None:
        script = 'echo "node $SKYPILOT_NODE_RANK"; exit $SKYPILOT_NODE_RANK'
        handle = self.start(script, num_nodes=3)
        assert self.end(handle).exit_code == 1
        assert sorted(self.log(handle).split(b"\n")) == [b"", b"node 0", b"node 1", b"node 2"]
        assert self.backend.ranks(handle) == [0, 1, 2]
        assert self.log(handle, rank=2) == b"node 2\n"

    def test_setup_and_its_failure(self) -> None:
        handle = self.start("echo task", setup="echo setup")
        self.end(handle)
        assert self.log(handle) == b"setup\ntask\n"
        handle = self.start("echo too far", setup="echo no; exit 9")
        status = self.end(handle)
        assert (status.state, status.reason) == (JobState.FAILED, "its setup failed")
        assert self.log(handle) == b"no\n"


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
