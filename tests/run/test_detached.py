"""Experiments that live on without whoever launched them, and that are gone on with when their controller is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.app import nemorun
from nemo_run.cli.running import run_app
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.local import system
from nemo_run.errors import ExecutorError, ExperimentError
from nemo_run.run.overview import overview
from tests.support import attempts, bash, eventually, states

LAUNCH = """
    import nemo_run as run
    with run.Experiment("detached", executor=run.LocalExecutor(env_vars={"WHO": "me"})) as exp:
        a = exp.add(run.Script(inline='echo "a $WHO" >> ran; until [ -e go ]; do sleep 0.02; done'), name="a")
        b = exp.add(run.Script(inline='echo b >> ran; exit 4'), name="b", dependencies=[a])
        exp.add(run.Script(inline='echo c >> ran'), name="c", dependencies=[a])
        exp.add(run.Script(inline='echo d >> ran'), name="d", dependencies=[b])
        exp.run(detach=True)
    print(exp.id)
"""
ENDED = {"a": "SUCCEEDED", "b": "FAILED", "c": "SUCCEEDED", "d": "CANCELLED"}


def launched() -> run.Experiment:
    """An experiment that another process has launched and left."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LAUNCH)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "goes on without this process" in done.stderr
    return run.Experiment.from_id(done.stdout.strip())


def controller(exp: run.Experiment) -> int:
    return int(exp._its_store.controller()["pid"])


def test_a_graph_goes_on_without_its_launcher(work: Path) -> None:
    exp = launched()
    eventually(lambda: attempts(work) == ["a me"])
    assert states(exp) == {"a": "RUNNING", "b": "UNSUBMITTED", "c": "UNSUBMITTED", "d": "UNSUBMITTED"}
    (work / "go").touch()
    exp.wait()
    assert states(exp) == ENDED
    assert sorted(attempts(work)) == ["a me", "b", "c"]
    assert exp.results()["b"].exit_code == 4
    eventually(lambda: system.start_time(controller(exp)) is None)


def test_what_it_left_is_there_when_it_has_ended(work: Path) -> None:
    with run.Experiment("left", executor=run.LocalExecutor()) as exp:
        exp.add(bash('for i in $(seq 4000); do echo > "$NEMO_RUN_ARTIFACTS/$i"; done'), name="a")
        exp.run(detach=True)
    exp.wait(interval=0.001)
    assert (exp.directory / "a" / "artifacts.json").exists()
    assert len(exp.artifacts("a")) == 4000


def test_attach_follows_it(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exp = run.Experiment("attached")
    exp.add(bash("echo begun; until [ -e go ]; do sleep 0.02; done; echo done"), name="a")
    exp.run(detach=True)
    threading.Timer(0.3, (work / "go").touch).start()
    run.Experiment.from_id(exp.id).attach()
    assert capfd.readouterr().out == "a/0 begun\na/0 done\n"
    assert states(exp) == {"a": "SUCCEEDED"}


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT])
def test_what_a_terminal_sends_does_not_reach_it(signum: signal.Signals, work: Path) -> None:
    ends_by_it = "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # whatever nohup says
    process = subprocess.Popen(
        [sys.executable, "-c", f"{ends_by_it}\n{textwrap.dedent(LAUNCH)}\ntime.sleep(600)"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout
    exp = run.Experiment.from_id(process.stdout.readline().strip())
    os.killpg(process.pid, signum)
    process.communicate(timeout=60)
    (work / "go").touch()
    exp.wait()
    assert states(exp) == ENDED


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("detach", [False, True])
def test_a_killed_controller_is_told_and_gone_on_with(signum: signal.Signals, detach: bool, work: Path) -> None:
    exp = launched()
    eventually(lambda: attempts(work) == ["a me"])
    os.kill(controller(exp), signum)
    eventually(lambda: not exp._its_store.is_driven())
    document = exp.status(return_dict=True)
    assert document is not None
    assert str(document["a"]["status"]) == "RUNNING"
    assert document["a"]["reason"] == ""
    assert all(f"nemorun experiment resume {exp.id}" in document[name]["reason"] for name in "bcd")
    (work / "go").touch()
    eventually(lambda: states(exp)["a"] == "SUCCEEDED")
    exp.resume(detach=detach)
    exp.wait()
    assert states(exp) == ENDED
    assert sorted(attempts(work)) == ["a me", "b", "c"]


def test_it_does_not_start_where_it_cannot(work: Path) -> None:
    exp = run.Experiment("broken")
    exp.add(bash("echo x >> ran"), name="a")
    exp._prepare(Backends())
    (exp.directory / "a" / "state.json").write_text("{")
    with pytest.raises(ExperimentError, match=r"a/state\.json"):
        exp.resume(detach=True)
    assert attempts(work) == []


def test_it_returns_when_what_can_start_is_submitted(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("submitted", executor=run.LocalExecutor()) as exp:
        first = exp.add(bash("until [ -e go ]; do sleep 0.02; done"), name="first")
        exp.add(bash("true"), name="after", dependencies=[first])
        exp.run(detach=True)
    assert [(job.launched, bool(job.handle)) for job in exp.jobs] == [(True, True), (False, False)]
    assert exp.jobs[0].handle in capfd.readouterr().err
    assert exp._its_store.is_driven()
    assert controller(exp) != os.getpid()
    (work / "go").touch()
    assert all(job.state is run.JobState.SUCCEEDED for job in exp.wait().values())


def test_what_is_refused_is_told_where_it_is_launched(work: Path) -> None:
    exp = run.Experiment("refused")
    exp.add(bash("echo a >> ran"), name="a")
    exp.add(bash("echo b >> ran"), name="b")
    exp._prepare(Backends())
    (exp.directory / "a" / "plan.json").write_text("{")
    with pytest.raises(ExecutorError, match=r"1 of its tasks.*a/plan\.json"):
        exp._go_on(detach=True, tail_logs=False)
    exp.wait()
    assert states(exp) == {"a": "FAILED", "b": "SUCCEEDED"}


def test_it_outlives_the_task_that_launched_it(work: Path) -> None:
    """A job that launches another experiment and ends: that experiment goes on."""
    (work / "inner.py").write_text(textwrap.dedent(LAUNCH))
    with run.Experiment("outer", clean_mode=True) as outer:
        outer.add(run.Script(path="inner.py", entrypoint="python"), name="launches")
        outer.run(check=True)
    inner = run.Experiment.from_title("detached")
    eventually(lambda: attempts(work) == ["a me"])
    assert inner._its_store.is_driven()
    (work / "go").touch()
    inner.wait()
    assert states(inner) == ENDED


def test_256_tasks(work: Path) -> None:
    exp = run.Experiment("many")
    for i in range(256):
        exp.add(bash("echo x >> ran"), name=f"job-{i}")
    exp.run(detach=True, max_parallel=16)
    exp.wait()
    assert set(states(exp).values()) == {"SUCCEEDED"}
    assert len(attempts(work)) == 256


def test_an_experiment_whose_controller_is_gone_is_interrupted(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exp = launched()
    eventually(lambda: attempts(work) == ["a me"])
    os.kill(controller(exp), signal.SIGKILL)
    eventually(lambda: not exp._its_store.is_driven())
    go_on = f"go on: nemorun experiment resume {exp.id}"
    capfd.readouterr()
    exp.status()
    assert capfd.readouterr().out.endswith(f"INTERRUPTED: its controller is gone; {go_on}\n")
    assert run_app(nemorun, ["experiment", "list"]) == 0
    listed = capfd.readouterr()
    assert listed.out.splitlines()[1].startswith("INTERRUPTED")
    assert go_on in listed.err
    (work / "go").touch()
    assert run_app(nemorun, ["experiment", "attach", exp.id]) == 1
    assert go_on in capfd.readouterr().err
    exp.cancel_jobs()
    assert overview(exp._its_store).state == "CANCELLED"
