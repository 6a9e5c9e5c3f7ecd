"""Killed at every step: the controller and the supervisor die at each of their file operations in turn.

Where the fault campaign hits random moments, this goes through all of them. An audit hook of the interpreter sees
every file that is opened, replaced, linked or removed, and every process that is started; at the n-th, the process
kills itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import JobState, Plan
from nemo_run.core.execution.local import supervisor
from nemo_run.core.execution.local.backend import LocalBackend
from nemo_run.run.controller import Controller
from nemo_run.run.store import ExperimentStore
from tests.support import attempts, bash, eventually, own_processes, states

EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "subprocess.Popen"}
SAY = 'echo "$NEMO_RUN_TASK $NEMO_RUN_ATTEMPT" >> ran; '


def dies_at(step: int, folder: Path, action: Callable[[], object]) -> bool:
    """Do something in a child that is killed at the n-th file operation below a folder; whether it came so far."""
    pid = os.fork()
    if pid == 0:
        left = step

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal left
            if event in EVENTS and (event == "subprocess.Popen" or str(folder) in os.fsdecode(str(args[0]))):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def prepared(number: int) -> run.Experiment:
    """A graph with a retry, a group, a failure, a cancelled job, and those that depend on them."""
    exp = run.Experiment("crash", id=f"crash-{number}")
    flaky = run.LocalExecutor(retries=1, retry_delay=0.01)
    exp.add(bash(SAY + "[ -e tried ] || { touch tried; exit 1; }"), name="flaky", executor=flaky)
    exp.add([bash(SAY), bash(SAY)], name="group", dependencies=["flaky"])
    exp.add(bash(SAY), name="last", dependencies=["group"])
    exp.add(bash(SAY + "exit 3"), name="bad")
    exp.add(bash(SAY), name="skipped", dependencies=["bad"])
    exp.add(bash("sleep 600"), name="cancelled")
    exp._prepare(Backends())
    exp._its_store.request_cancel(exp._prepared.job("cancelled"))
    return exp


def look(exp: run.Experiment, work: Path) -> None:
    """What has begun is never said to be unsubmitted."""
    begun = {line.split()[0].partition("/")[0] for line in attempts(work)}
    progress = exp.progress()
    assert [name for name in begun if progress[name].state is JobState.UNSUBMITTED] == []


def crash_and_resume(step: int, again: bool, work: Path) -> bool:
    """Kill the controller at a step, perhaps its successor too, and let a third one finish; whether it was killed."""
    for name in ("ran", "tried"):
        (work / name).unlink(missing_ok=True)
    exp = prepared(2 * step + again)
    store = exp._its_store
    killed = dies_at(step, store.path, lambda: Controller(store).run())
    look(exp, work)
    if again:
        dies_at(step, store.path, lambda: Controller(store).run())
    progress = Controller(ExperimentStore(store.path)).run()
    runs = Counter(line.split()[0] for line in attempts(work))
    assert runs == {"flaky": 2, "group/0": 1, "group/1": 1, "last": 1, "bad": 1}, f"step {step}: {attempts(work)}"
    assert len(set(attempts(work))) == len(attempts(work))
    exp._launched = True
    assert states(exp) == {
        "flaky": "SUCCEEDED", "group": "SUCCEEDED", "last": "SUCCEEDED",
        "bad": "FAILED", "skipped": "CANCELLED", "cancelled": "CANCELLED",
    }, f"step {step}"  # fmt: skip
    flaky = progress["flaky"].tasks[0]
    assert (flaky.tries, len(flaky.history), progress["bad"].exit_code) == (2, 1, 3)
    assert store.read_summary()
    assert not store.is_driven()
    return killed


@pytest.mark.parametrize("again", [False, True])
def test_a_controller_that_is_killed_at_any_step(again: bool, work: Path) -> None:
    step = 1
    while crash_and_resume(step, again, work):
        step += 7 if again else 1
    print(f"killed at {step - 1} steps")
    assert step > 30


SUPERVISED = "echo begun >> ran; sleep 0.01; echo ended >> ran"


def supervise(attempt: Path) -> None:
    supervisor.become_supervisor(str(attempt), {}, os.open(os.devnull, os.O_RDWR))


def crash_supervisor(step: int, work: Path) -> tuple[bool, str]:
    """Kill the supervisor of an attempt at a step, and see what became of that; whether it was killed."""
    (work / "ran").unlink(missing_ok=True)
    plan = Plan("local", "job", str(work / f"job-{step}"), {})
    attempt = Path(plan.directory, "attempts", "1")
    attempt.mkdir(parents=True)
    spec = {"argv": ["bash", "-c", SUPERVISED], "env": {"PATH": os.environ["PATH"]}, "cwd": str(work)}
    supervisor.write_json(str(attempt / "spec.json"), spec)
    killed = dies_at(step, attempt, lambda: supervise(attempt))
    backend = LocalBackend()
    handle = backend.recover(plan, 1)
    outcome = "not taken" if handle is None else str(backend.states([handle])[handle].state)
    if handle is not None:
        status = backend.states([handle])[handle]
        assert status.lost == (status.state is JobState.FAILED), f"step {step}: {status}"
        backend.cancel([handle])
        eventually(lambda: not own_processes(attempt))
    ran = attempts(work)
    assert ran in {"not taken": [[]], "SUCCEEDED": [["begun", "ended"]]}.get(
        outcome, [[], ["begun"], ["begun", "ended"]]
    )
    dies_at(-1, attempt, lambda: supervise(attempt))
    assert attempts(work) == ran, f"step {step}: an attempt ran twice, or after it was given up"
    return killed, outcome


def test_a_supervisor_that_is_killed_at_any_step(work: Path) -> None:
    outcomes = Counter[str]()
    step, killed = 0, True
    while killed:
        step += 1
        killed, outcome = crash_supervisor(step, work)
        outcomes[outcome] += 1
    print(f"killed at {step - 1} steps: {dict(outcomes)}")
    assert set(outcomes) == {"not taken", "FAILED", "SUCCEEDED"}
    assert step > 8
