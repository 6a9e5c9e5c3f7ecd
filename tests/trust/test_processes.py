"""What tasks do to their processes and files: nothing of them lives on, nothing waits for ever, nothing runs twice."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.local import system
from nemo_run.errors import ExecutorError
from tests.support import attempts, bash, eventually, states

DETACHED = """
import sys
import nemo_run as run
exp = run.Experiment("here", clean_mode=True)
executor = run.LocalExecutor(retries=1, retry_delay=0.1)
exp.add(run.Script(inline=sys.argv[1]), name="j", executor=executor)
exp.add(run.Script(inline="true"), name="k", dependencies=["j"])
exp.run(detach=True)
print(exp.id)
"""


def launch(text: str) -> str:
    """Launch a script without staying, and return the experiment's id."""
    done = subprocess.run([sys.executable, "-c", DETACHED, text], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def is_alive(pid: int) -> bool:
    return system.start_time(pid) is not None


DAEMONS = {
    "its own session, no environment": "env -i setsid bash -c 'echo $$ > daemon; exec sleep 600' &",
    "forked twice": "(env -i setsid bash -c '(echo $BASHPID > daemon; exec sleep 600) & exit' &)",
    "deaf to SIGTERM": "(env -i setsid bash -c 'trap \"\" TERM; (echo $BASHPID > daemon; exec sleep 600) &' &)",
}


@pytest.mark.parametrize("how", DAEMONS)
def test_no_daemon_outlives_its_task(how: str, work: Path) -> None:
    with run.Experiment("daemons") as exp:
        exp.add(bash(f"{DAEMONS[how]}\nwhile ! [ -s daemon ]; do sleep 0.05; done; exit 7"), name="t")
        exp.run()
    assert exp.results()["t"].exit_code == 7
    assert not is_alive(int((work / "daemon").read_text()))


def test_no_daemon_evades_the_limit_of_memory(work: Path) -> None:
    big = "open('daemon', 'w').write(str(__import__('os').getpid())); x = bytearray(300 << 20); input()"
    (work / "big.py").write_text(big.replace("input()", "__import__('time').sleep(600)"))
    with run.Experiment("daemons", executor=run.LocalExecutor(memory="200M")) as exp:
        exp.add(bash(f"env -i setsid {sys.executable} -I big.py &\nsleep 600"), name="t")
        exp.run()
    assert "out of memory" in exp.status(return_dict=True)["t"]["reason"]  # type: ignore[index]
    assert not is_alive(int((work / "daemon").read_text()))


# ---------------------------------------------------------------- files that disappear


def test_a_task_that_removes_its_attempt_folder_ends_as_it_ended() -> None:
    exp = run.Experiment("gone", clean_mode=True)
    exp.add(bash('rm -rf "$NEMO_RUN_ATTEMPT_DIR"; exit 5'), name="j")
    exp.add(bash("true"), name="after", dependencies=["j"])
    exp.run()
    assert states(exp) == {"j": "FAILED", "after": "CANCELLED"}
    assert exp.results()["j"].exit_code == 5


def test_a_task_whose_folder_and_supervisor_are_gone_is_lost(work: Path) -> None:
    exp = run.Experiment("gone", clean_mode=True)
    text = 'echo x >> ran; s=$PPID; rm -rf "$NEMO_RUN_ATTEMPT_DIR"; kill -9 $s; sleep 600'
    exp.add(bash(text), name="j")
    exp.run()
    assert states(exp) == {"j": "FAILED"}
    assert "how the task ended is not known" in exp.status(return_dict=True)["j"]["reason"]  # type: ignore[index]
    assert attempts(work) == ["x"]


def test_a_task_that_runs_without_its_folder_is_running(work: Path) -> None:
    name = launch('rm -rf "$NEMO_RUN_ATTEMPT_DIR"; touch removed; while ! [ -e go ]; do sleep 0.05; done; exit 0')
    exp = run.Experiment.from_id(name)
    eventually((work / "removed").exists)
    eventually(lambda: "its folder was removed" in exp.status(return_dict=True)["j"]["reason"])  # type: ignore[index]
    assert states(exp)["j"] == "RUNNING"
    (work / "go").touch()
    eventually(lambda: states(exp) == {"j": "SUCCEEDED", "k": "SUCCEEDED"})


def test_nothing_lives_on_when_the_home_is_removed(work: Path, nemorun_home: Path) -> None:
    name = launch("touch begun; while ! [ -e go ]; do sleep 0.05; done")
    folder = run.Experiment.from_id(name).directory
    eventually((work / "begun").exists)
    claim = json.loads((folder / "j" / "attempts" / "1" / "supervisor.json").read_text())
    processes = [json.loads((folder / "controller.json").read_text())["pid"], claim["pid"]]
    shutil.rmtree(nemorun_home)
    eventually(lambda: not is_alive(processes[0]), "the controller ends")
    (work / "go").touch()
    eventually(lambda: not is_alive(processes[1]), "the supervisor ends")
    assert not nemorun_home.exists(), "nothing of it was made again"


# ---------------------------------------------------------------- clocks

CLOCK = """
import os, time
real = time.time
time.time = lambda: real() - (3600 if os.path.exists(os.environ["JUMP"]) else 0)
"""
RETRIED = """
import nemo_run as run
exp = run.Experiment("clock", clean_mode=True)
executor = run.LocalExecutor(retries=2, retry_delay=0.5)
exp.add(run.Script(inline="echo x >> ran; touch $JUMP; exit 3"), name="j", executor=executor)
exp.run()
"""


def test_a_clock_that_is_set_back_delays_no_retry(work: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "JUMP": str(tmp_path / "jump")}
    subprocess.run([sys.executable, "-c", RETRIED], env=env, check=True, timeout=120, capture_output=True)
    assert attempts(work) == ["x", "x", "x"]


def test_a_stored_retry_waits_no_longer_than_retries_do(work: Path) -> None:
    exp = run.Experiment("clock", clean_mode=True)
    executor = run.LocalExecutor(retries=1, retry_delay=600)
    exp.add(bash("echo x >> ran; [ -e ok ]"), name="j", executor=executor)
    exp.run(detach=True)
    eventually(lambda: exp.progress()["j"].tasks[0].retry_at)
    os.kill(json.loads((exp.directory / "controller.json").read_text())["pid"], signal.SIGKILL)
    file = exp.directory / "j" / "state.json"
    doc = json.loads(file.read_text())
    doc["tasks"][0]["retry_at"] -= 7200  # the clock was an hour ahead, say, and the controller is gone
    file.write_text(json.dumps(doc))
    (work / "ok").touch()
    again = run.Experiment.from_id(exp.id)
    again.resume()
    assert states(again) == {"j": "SUCCEEDED"}


@pytest.mark.parametrize("delay", [math.nan, math.inf, -1.0])
def test_a_delay_that_never_ends_is_refused(delay: float) -> None:
    with pytest.raises(ExecutorError, match="retry_delay must be"):
        run.LocalExecutor(retries=1, retry_delay=delay).check()


# ---------------------------------------------------------------- another container on this machine

ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def running(work: Path) -> Iterator[str]:
    """The id of an experiment that runs here."""
    yield launch("echo x >> ran; while ! [ -e go ]; do sleep 0.05; done")
    (work / "go").touch()


def elsewhere(*words: str, check: bool = True) -> str:
    """What a command says to somebody with other process numbers, and the same host name."""
    command = [*ELSEWHERE, sys.executable, "-m", "nemo_run", "experiment", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.needs("pods")
def test_a_task_that_another_container_runs_is_not_lost(running: str, work: Path) -> None:
    eventually(lambda: attempts(work) == ["x"])
    assert "FAILED" not in elsewhere("status", running)
    assert "FAILED" not in elsewhere("list")
    os.kill(
        json.loads((run.Experiment.from_id(running).directory / "controller.json").read_text())["pid"], signal.SIGKILL
    )
    assert "UNKNOWN" in elsewhere("status", running)
    assert "another container" in elsewhere("cancel", running, check=False)
    assert states(run.Experiment.from_id(running))["j"] == "RUNNING"
    (work / "go").touch()
    run.Experiment.from_id(running).resume()
    assert attempts(work) == ["x"]
