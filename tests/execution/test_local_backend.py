"""The local engine: the contract, and what only it has."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import JobState, Plan
from nemo_run.core.execution.local import LocalExecutor, available_gpus, supervisor, system
from nemo_run.core.execution.shared.units import parse_duration, parse_size
from nemo_run.core.runners.detached import MARKER
from nemo_run.errors import ExecutorError
from nemo_run.testing import BackendContract
from tests.support import attempts, eventually, own_processes


class TestLocalBackend(BackendContract):
    opens_shells = True

    def make_executor(self, **options: Any) -> LocalExecutor:
        return LocalExecutor(**options)

    def owner(self, plan: Plan, attempt: int = 1) -> int:
        """The pid of an attempt's supervisor."""
        claim = supervisor.read_json(f"{plan.directory}/attempts/{attempt}/supervisor.json")
        return int(claim["pid"])

    def test_the_supervisor_marks_its_tasks_as_the_rest_of_the_package_expects(self) -> None:
        assert supervisor.MARKER == MARKER

    # who runs an attempt

    def test_an_attempt_that_was_given_up_never_runs(self) -> None:
        plan = self.plan("echo x >> ran")
        folder = Path(plan.directory, "attempts", "1")
        folder.mkdir(parents=True)
        supervisor.write_json(str(folder / "spec.json"), {**plan.spec, "argv": plan.spec["argv"]})
        assert self.backend.recover(plan, 1) is None
        self.backend.start(plan, 1)
        second = self.submit(plan, 2)
        self.end(second)
        assert attempts(self.tmp_path) == ["x"]
        assert not (folder / "running.json").exists()

    def test_an_attempt_is_run_once_however_often_it_is_asked_for(self) -> None:
        plan = self.plan("echo x >> ran; sleep 0.2")
        handles = {self.submit(plan) for _ in range(5)}
        assert len(handles) == 1
        self.end(handles.pop())
        assert attempts(self.tmp_path) == ["x"]

    def test_cancelled_before_it_was_taken(self) -> None:
        plan = self.plan("echo x >> ran")
        handle = self.backend.expected_handle(plan, 1)
        folder = Path(plan.directory, "attempts", "1")
        folder.mkdir(parents=True)
        self.backend.cancel([handle])
        assert self.status(handle).state is JobState.CANCELLED
        self.submit(plan)
        assert self.status(handle).state is JobState.CANCELLED
        assert attempts(self.tmp_path) == []

    def test_the_helper_that_starts_tasks_may_be_killed(self) -> None:
        first = self.start("sleep 0.3; exit 3")
        for _ in range(3):
            assert self.backend._forker is not None
            self.backend._forker.kill()
            assert self.end(self.start("exit 4")).exit_code == 4
        assert self.end(first).exit_code == 3

    # whose supervisor is gone

    def test_a_task_dies_with_its_supervisor(self) -> None:
        plan = self.plan("echo $$ >> ran; sleep 600")
        handle = self.submit(plan)
        pid = int(eventually(lambda: attempts(self.tmp_path))[0])
        os.kill(self.owner(plan), signal.SIGKILL)
        eventually(lambda: system.start_time(pid) is None)
        status = self.end(handle)
        assert (status.state, status.exit_code, status.lost) == (JobState.FAILED, None, True)
        assert "how the task ended is not known" in status.reason
        self.backend.cancel([handle])
        eventually(lambda: not own_processes(Path(plan.directory)))

    def test_a_supervisor_that_is_told_to_stop_ends_its_task(self) -> None:
        plan = self.plan("trap 'echo cleaned >> ran; exit 5' TERM; echo x >> ran; while :; do sleep 0.02; done")
        handle = self.submit(plan)
        eventually(lambda: attempts(self.tmp_path))
        os.kill(self.owner(plan), signal.SIGTERM)
        status = self.end(handle)
        assert (status.state, status.exit_code, status.lost) == (JobState.FAILED, 5, False)
        assert "told to stop" in status.reason
        assert attempts(self.tmp_path) == ["x", "cleaned"]

    @pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGCHLD])
    def test_what_does_not_disturb_a_supervisor(self, signum: signal.Signals) -> None:
        plan = self.plan("echo x >> ran; until [ -e go ]; do sleep 0.02; done; exit 6")
        handle = self.submit(plan)
        eventually(lambda: attempts(self.tmp_path))
        os.kill(self.owner(plan), signum)
        (self.tmp_path / "go").touch()
        assert self.end(handle).exit_code == 6

    def test_a_pid_that_somebody_else_has_now_is_nobody(self) -> None:
        plan = self.plan("echo begun; sleep 600")
        handle = self.submit(plan)
        eventually(lambda: self.log(handle))  # there is a process to be ended
        claim = Path(plan.directory, "attempts", "1", "supervisor.json")
        doc = supervisor.read_json(str(claim))
        supervisor.write_json(str(claim), {**doc, "pid": os.getpid()})
        assert self.status(handle).lost
        self.backend.cancel([handle])  # we are still here
        supervisor.write_json(str(claim), doc)
        self.end(handle)

    @pytest.mark.parametrize("pid", [-1, 0, 1, True, 1.5, "7", None, 1 << 70])
    def test_a_claim_that_names_no_process_signals_nothing(self, pid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        handle, signalled = self.forged(pid=pid, start=None), self.signalled(monkeypatch)
        self.backend.cancel([handle])
        assert self.status(handle).state is JobState.FAILED
        assert signalled == []

    def test_a_process_that_a_forged_claim_names_exactly_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with subprocess.Popen(["sleep", "600"]) as stranger:
            plan = self.plan("sleep 600")
            own = self.submit(plan)  # the supervisor of another attempt is a stranger, too
            for pid in (stranger.pid, self.owner(plan)):
                handle = self.forged(pid=pid, start=system.start_time(pid))
                with monkeypatch.context() as patch:
                    signalled = self.signalled(patch)
                    with pytest.raises(ExecutorError, match=f"process {pid} is not"):
                        self.backend.cancel([handle])
                assert signalled == []
            stranger.kill()
        self.backend.cancel([own])
        assert self.end(own).state is JobState.CANCELLED

    def forged(self, **claim: Any) -> str:
        """The handle of an attempt that says whatever the claim says, as one that was received may."""
        plan = Plan("local", "forged", str(self.tmp_path / f"forged-{claim['pid']}"), {})
        folder = Path(plan.directory, "attempts", "1")
        folder.mkdir(parents=True)
        doc = {"boot": system.boot_id(), "host": os.uname().nodename, "void": False, **claim}
        supervisor.write_json(str(folder / "supervisor.json"), doc)
        return self.backend.expected_handle(plan, 1)

    def signalled(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The processes that are signalled from now on; none is, in truth: one of them might be all of them."""
        asked: list[int] = []
        monkeypatch.setattr(os, "kill", lambda pid, _: asked.append(pid))
        return asked

    # what a task leaves behind

    @pytest.mark.parametrize(
        "how", ["sleep 600 &", "setsid sleep 600 &", "(setsid bash -c 'trap \"\" TERM; sleep 600' &)"]
    )
    def test_the_end_of_a_task_is_the_end_of_its_processes(self, how: str) -> None:
        plan = self.plan(f"{how}\nsleep 0.1; exit 7")
        assert self.end(self.submit(plan)).exit_code == 7
        assert own_processes(Path(plan.directory)) == {}

    # files

    def test_a_damaged_environment_is_named(self) -> None:
        request = self.request("true")
        Path(request.environment_file).write_text('{"A": ')
        with pytest.raises(ExecutorError, match=request.environment_file):
            self.submit(self.backend.render([request])[0])

    def test_a_folder_that_cannot_be_written_is_named(self) -> None:
        plan = self.plan("true")
        Path(plan.directory, "attempts").write_text("in the way")
        with pytest.raises(ExecutorError, match=f"{plan.directory}.*cannot be written"):
            self.backend.start(plan, 1)

    def test_undecodable_bytes_of_the_environment_arrive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ODD", os.fsdecode(b"\xff\xfe="))
        handle = self.start('printf "%s" "$ODD"')
        self.end(handle)
        assert self.log(handle) == b"\xff\xfe="

    def test_what_a_task_finds(self) -> None:
        """Nothing of the supervisor: no signals blocked or ignored, no open files, no terminal, its own session."""
        look = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; [ -t 0 ] || echo no"
        handle = self.start(f"{look}; ps -o sid= -p $$; echo $$")
        self.end(handle)
        blocked, ignored, files, terminal, session, pid = self.log(handle).decode().split("\n")[:6]
        ours = (1 << 31) - 1  # those above belong to the C library; make's children have one of them ignored
        assert [int(line.split()[1], 16) & ours for line in (blocked, ignored)] == [0, 0]
        assert (files, terminal) == ("4", "no")
        assert session.strip() == pid


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), (5, 5.0), ("90", 90.0), ("1:30", 90.0), ("01:00:00", 3600.0), (0.5, 0.5)]
)
def test_durations(text: Any, seconds: float | None) -> None:
    assert parse_duration("timeout", text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [(None, None), (5, 5), ("1k", 1024), ("2GB", 2 << 30), ("1.5 MiB", 3 << 19), ("10B", 10), ("1T", 1 << 40)],
)
def test_sizes(text: Any, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("visible", "gpus"), [("0,1", ["0", "1"]), ("", []), ("-1", []), (" 3 ,GPU-x", ["3", "GPU-x"]), ("1,1", ["1"])]
)
def test_gpus_that_are_visible(visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert available_gpus() == gpus
