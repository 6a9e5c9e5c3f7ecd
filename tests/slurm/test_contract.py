"""The suite for every backend, on a real Slurm: through SSH as an ordinary user."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import Backend, Executor, Plan
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.base import Packager
from nemo_run.core.tunnel.client import SSHTunnel
from nemo_run.errors import ExecutorError
from nemo_run.testing import BackendContract

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


class TestSlurmBackend(BackendContract):
    opens_shells = True

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

    def test_what_slurm_has_forgotten_is_in_the_files_of_the_job(self) -> None:
        """No accounting, and the job is purged from the controller's memory."""
        handles = {code: self.start(f"exit {code}") for code in (0, 3)}
        for code, handle in handles.items():
            status = self.end(handle)
            forgotten = f"slurm://999999/{handle.removeprefix('slurm://').partition('/')[2]}"
            assert self.status(forgotten).exit_code == code
            assert self.status(forgotten).state is status.state

    def test_a_submission_without_an_answer_is_found_and_not_repeated(self) -> None:
        plan = self.plan("sleep 60")
        handle = self.submit(plan)
        folder = f"{plan.spec['folder']}/attempts/1"
        self.tunnel.run(f"rm {shlex.quote(folder)}/job_id; touch {shlex.quote(folder)}/failed")
        assert self.backend.recover(plan, 1) == handle
        self.backend.cancel([handle])

    def test_a_submission_that_died_before_sbatch_is_never_made_up_for(self) -> None:
        plan = self.plan("sleep 60")
        folder = f"{plan.spec['folder']}/attempts/1"
        self.tunnel.run(
            f"mkdir -p {shlex.quote(folder)}; touch {shlex.quote(folder)}/claimed {shlex.quote(folder)}/failed"
        )
        assert self.backend.recover(plan, 1) is None
        with pytest.raises(ExecutorError, match="submitted before"):
            self.backend.start(plan, 1)

    def test_what_sbatch_refuses_is_an_error_that_says_why(self) -> None:
        with pytest.raises(ExecutorError, match=r"(?i)invalid partition"):
            self.start("true", partition="no-such-partition")
