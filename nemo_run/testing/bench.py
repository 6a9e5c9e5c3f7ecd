"""What the contract suite is run with: an executor of the engine, and ways to submit, watch and read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import (
    Backend,
    Command,
    Executor,
    JobState,
    Plan,
    TaskRequest,
    TaskStatus,
)
from nemo_run.core.packaging.base import Packager
from nemo_run.run.experiment import Experiment


class EngineBench:
    """An engine under test. What follows down to the line is an engine's to override."""

    patience: float = 60.0
    """Seconds in which the engine starts a task, or notices its end; only bounds failures."""
    shell: str = "bash"
    """A shell on the engine's machines."""
    folder: str = "/tmp"
    """A folder on the engine's machines other than the default one."""
    keeps_returns: bool = True
    """The engine's log has the carriage returns that stand before the ends of lines."""
    keeps_files: bool = True
    """What a task writes to ``$NEMO_RUN_ARTIFACTS`` arrives, also without a volume."""
    opens_shells: bool = False
    """Programs can be run where a task runs."""
    large_line: int = 3_000_000
    """Bytes of the large line."""

    def make_executor(self, **options: Any) -> Executor:
        """An executor for this engine."""
        raise NotImplementedError

    def unknown_handle(self, backend: Backend, plan: Plan) -> str:
        """A handle as the engine makes them, of an attempt that it has never heard of."""
        return backend.expected_handle(plan, 99)

    # -----------------------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _engine(self, tmp_path: Path) -> Iterator[None]:
        self.tmp_path = tmp_path
        self._requests = 0
        self._submitted: list[tuple[Plan, str]] = []
        self.backend = self.make_executor().backend()
        yield
        for _, handle in self._submitted:
            if not self.status(handle).state.is_final:
                self.backend.cancel([handle])
        for _, handle in self._submitted:
            self.end(handle)
        self.backend.close()

    def request(
        self, script: str, *args: str, cwd: str = "", env: dict[str, str] | None = None, **options: Any
    ) -> TaskRequest:
        """A request to run a shell script."""
        self._requests += 1
        name = f"job-{self._requests}"
        executor = self.make_executor(**options)
        executor.check()
        experiment = self.tmp_path / "experiment_20200101_000000"
        executor.assign(experiment.name, str(experiment), name, name)
        folder = experiment / name
        folder.mkdir(parents=True, mode=0o700)
        environment = experiment / "environment.json"
        if not environment.exists():
            environment.write_text(json.dumps(dict(os.environ)))
        return TaskRequest(
            experiment_id=experiment.name,
            job_id=name,
            directory=str(folder),
            executor=executor,
            command=Command((self.shell, "-c", script, "script", *args), {**executor.env_vars, **(env or {})}, cwd),
            cwd=str(self.tmp_path),
            environment_file=str(environment),
            lease_dir=str(self.tmp_path / "leases"),
        )

    def plan(self, script: str, *args: str, **options: Any) -> Plan:
        """A plan to run a shell script, as it comes out of the store."""
        plan = self.backend.render([self.request(script, *args, **options)])[0]
        return Plan.from_json(json.loads(json.dumps(plan.to_json())))

    def experiment(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Experiment:
        """An experiment in a home of its own, whose tasks run on this engine without code of theirs."""
        monkeypatch.setenv("NEMORUN_HOME", str(self.tmp_path / "home"))
        monkeypatch.chdir(self.tmp_path)
        executor = self.make_executor(**options)
        executor.packager = Packager()
        return Experiment("contract", executor=executor)

    def submit(self, plan: Plan, attempt: int = 1) -> str:
        """Submit an attempt; whatever happens, the test ends it."""
        handle = self.backend.start(plan, attempt)
        self._submitted.append((plan, handle))
        return handle

    def start(self, script: str, *args: str, **options: Any) -> str:
        """Submit the first attempt of a shell script."""
        return self.submit(self.plan(script, *args, **options))

    def status(self, handle: str, backend: Backend | None = None) -> TaskStatus:
        """Status of one attempt."""
        return (backend or self.backend).states([handle])[handle]

    def until(self, handle: str, *states: JobState) -> TaskStatus:
        """Wait, as a controller does, until an attempt is in one of these states."""
        end = time.monotonic() + self.patience
        while (status := self.status(handle)).state not in states:
            assert time.monotonic() < end, f"still {status} and not {states}: {self.log(handle)!r}"
            assert not status.state.is_final, f"{status}, and will never be {states}: {self.log(handle)!r}"
            self.backend.wait([handle], 0.2)
        return status

    def end(self, handle: str) -> TaskStatus:
        """Wait until an attempt has ended."""
        return self.until(handle, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    def log(self, handle: str, tail: int | None = None, rank: int | None = None) -> bytes:
        """The log of an attempt as far as it is now."""
        reader = self.backend.open_log(handle, rank=rank, tail=tail)
        data = b"".join(iter(reader.read, b""))
        reader.close()
        return data

    def until_logged(self, handle: str, text: bytes) -> None:
        """Wait until an attempt has written this."""
        end = time.monotonic() + self.patience
        while text not in self.log(handle):
            assert time.monotonic() < end, f"{text!r} is not in {self.log(handle)!r}; {self.status(handle)}"
            time.sleep(0.02)

    # describing
