"""The launching script: it may lack a guard, define its own tasks, be killed, or lose its terminal (H6 to H10)."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.run import catalog
from tests.support import eventually, own_processes, states

SLEEPER = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where whoever runs the tests ignores them
signal.signal(signal.SIGINT, signal.default_int_handler)
import nemo_run as run
script = run.Script(inline='echo begun; touch begun; while [ ! -e go ]; do sleep 0.05; done; echo done')
with run.Experiment("sleeper", executor=run.LocalExecutor()) as exp:
    first = exp.add(script, name="first")
    exp.add(run.Script(inline="echo second"), name="second", dependencies=[first])
    exp.run()
"""


def driver(work: Path, code: str, *args: str) -> subprocess.Popen[str]:
    """Run a launching script."""
    (work / "driver.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, "driver.py", *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def output(process: subprocess.Popen[str], code: int) -> str:
    """What a launching script printed, once it has ended with this code."""
    text, _ = process.communicate(timeout=90)
    assert process.returncode == code, text
    return text


# ------------------------------------------------------------------------------------------------- H6, H7, H8

WITHOUT_GUARD = """
import nemo_run as run
open("runs", "a").write("x")

class Greeter:
    def __init__(self, name: str):
        self.name = name

WORD = "hello"

def greet(greeter: Greeter, times: int = 1):
    print(f"{WORD} {greeter.name}! " * times)

run.run(run.Partial(greet, greeter=run.Config(Greeter, name="you"), times=2), executor=run.LocalExecutor())
"""


def test_a_driver_without_a_guard_is_run_once_and_its_own_function_is_a_task(work: Path) -> None:
    text = output(driver(work, WITHOUT_GUARD), 0)
    assert "hello you! hello you!" in text
    assert (work / "runs").read_text() == "x"


def test_a_task_that_launches_its_own_experiment_is_refused(work: Path) -> None:
    code = """
import subprocess, sys
import nemo_run as run
print("launching")
run.run(run.Script(path="driver.py", entrypoint="python"), executor=run.LocalExecutor(), name="again")
"""
    text = output(driver(work, code), 1)
    assert "a task of experiment 'again' tried to launch 'again' again" in text
    assert len(catalog.ids()) == 1


def test_a_task_may_launch_another_experiment(work: Path) -> None:
    inner = (
        'import nemo_run as run; run.run(run.Script(inline="echo inner"), executor=run.LocalExecutor(), name="inner")'
    )
    (work / "inner.py").write_text(inner)
    task = run.Script(path="inner.py", entrypoint="python")
    result = run.run(task, executor=run.LocalExecutor(), name="outer")
    assert result is not None
    assert result.ok
    assert sorted(catalog.ids("inner") + catalog.ids("outer")) == sorted(catalog.ids())


def test_a_task_runs_with_the_interpreter_that_launched_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python", "python3"):
        (work / name).write_text("#!/bin/sh\necho the wrong python; exit 9\n")
        (work / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(work), prepend=":")
    code = "import sys; open('which', 'w').write(sys.executable)"
    run.run(run.Script(inline=code, entrypoint="python"), executor=run.LocalExecutor(), name="script")
    assert (work / "which").read_text() == sys.executable
    run.run(run.Partial(exec, "open('which2', 'w').write(__import__('sys').executable)"), executor=run.LocalExecutor())
    assert (work / "which2").read_text() == sys.executable


# ------------------------------------------------------------------------------------------------- H9


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_job_is_lost_with_its_driver(how: signal.Signals, work: Path) -> None:
    process = driver(work, SLEEPER)
    eventually((work / "begun").exists)
    os.killpg(process.pid, how)  # the driver and all that is in its group
    process.communicate(timeout=30)
    exp = run.Experiment.from_title("sleeper")
    document = exp.status(return_dict=True)
    assert document is not None
    assert document["first"]["status"] is JobState.RUNNING
    assert "resume" in document["second"]["reason"]

    (work / "go").touch()
    eventually(lambda: states(exp)["first"] == "SUCCEEDED")
    document = exp.status(return_dict=True)
    assert document is not None
    assert document["first"]["exit_code"] == 0
    assert states(exp)["second"] == "UNSUBMITTED"
    exp.resume()
    assert states(exp) == {"first": "SUCCEEDED", "second": "SUCCEEDED"}


def test_the_log_is_whole_and_cancel_ends_all_after_the_driver_was_killed(
    work: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    process = driver(work, SLEEPER)
    eventually((work / "begun").exists)
    process.kill()
    process.communicate(timeout=30)
    exp = run.Experiment.from_title("sleeper")
    exp.logs("first", follow=False)
    assert "begun" in capfd.readouterr().out
    exp.cancel("first")
    assert states(exp)["first"] == "CANCELLED"
    eventually(lambda: not own_processes(tmp_path))


def test_a_terminal_that_goes_away_takes_no_job_along(work: Path) -> None:
    (work / "driver.py").write_text(SLEEPER)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "driver.py"])
    eventually((work / "begun").exists)
    os.close(terminal)
    os.waitpid(pid, 0)
    (work / "go").touch()
    exp = run.Experiment.from_title("sleeper")
    eventually(lambda: states(exp)["first"] == "SUCCEEDED")


# ------------------------------------------------------------------------------------------------- H10


def test_ctrl_c_without_a_terminal_cancels_and_reports(work: Path) -> None:
    process = driver(work, SLEEPER)
    eventually((work / "begun").exists)
    process.send_signal(signal.SIGINT)
    text = output(process, -signal.SIGINT)
    assert "cancelling" in text
    assert states(run.Experiment.from_title("sleeper")) == {"first": "CANCELLED", "second": "CANCELLED"}


class Terminal:
    """A driver in a terminal of its own."""

    def __init__(self, work: Path) -> None:
        (work / "driver.py").write_text(SLEEPER)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "driver.py"], {**os.environ, "TERM": "xterm"})
        self.seen = ""
        os.set_blocking(self.fd, False)

    def read(self) -> str:
        try:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        except (BlockingIOError, OSError):
            time.sleep(0.01)
        return self.seen

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ended(self) -> bool:
        self.read()
        return os.waitpid(self.pid, os.WNOHANG)[0] != 0


@pytest.mark.parametrize(("answer", "state"), [("y\n", "CANCELLED"), ("n\n", "RUNNING")])
def test_ctrl_c_in_a_terminal_asks(answer: str, state: str, work: Path) -> None:
    terminal = Terminal(work)
    eventually(lambda: terminal.read() and (work / "begun").exists())
    terminal.type("\x03")
    eventually(lambda: "Cancel the jobs" in terminal.read(), "the question")
    terminal.type(answer)
    eventually(terminal.ended)
    os.close(terminal.fd)
    exp = run.Experiment.from_title("sleeper")
    assert states(exp)["first"] == state
    exp.cancel_jobs()


def test_ctrl_c_twice_leaves_at_once_and_the_jobs_go_on(work: Path) -> None:
    terminal = Terminal(work)
    eventually(lambda: terminal.read() and (work / "begun").exists())
    terminal.type("\x03")
    eventually(lambda: "Cancel the jobs" in terminal.read(), "the question")
    terminal.type("\x03")
    eventually(terminal.ended)
    os.close(terminal.fd)
    exp = run.Experiment.from_title("sleeper")
    assert states(exp)["first"] == "RUNNING"
    (work / "go").touch()
    exp.resume()
    assert states(exp) == {"first": "SUCCEEDED", "second": "SUCCEEDED"}


# ------------------------------------------------------------------------------------------------- H3


def test_without_a_terminal_nothing_is_asked(work: Path) -> None:
    code = """
import nemo_run as run
run.run(run.Script(inline="exit 4"), executor=run.LocalExecutor(), name="fails")
"""
    text = output(driver(work, code), 1)
    assert "JobFailedError" in text
    assert "exit code 4" in text
