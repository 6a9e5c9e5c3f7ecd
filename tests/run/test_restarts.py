"""Tasks that run until they are done: what ends them from outside is no failure of theirs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import ExecutorError
from tests.support import eventually

STEPS = """
import os, signal, sys, time
from pathlib import Path
import nemo_run as run
run.stopping()
here = Path(os.environ["NEMO_RUN_CHECKPOINTS"], "step")
step = int(here.read_text()) if here.exists() else 0
print("begins at", step, "restart", os.environ["NEMO_RUN_RESTART"], "cause", os.environ["NEMO_RUN_RESTART_CAUSE"])
while step < 3:
    step += 1
    here.write_text(str(step))
    while step < 3:
        run.checkpointed()
        time.sleep(0.02)
print("done at", step)
"""

LIMIT = "time limit of 1 s reached"
TOO_OFTEN = "it was restarted {} times, as often as Restarts.max allows"
TOO_LATE = "it began over 0.1 s ago, which is all that Restarts.within allows"


def test_a_task_is_restarted_at_each_time_limit_until_it_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    """Its first attempts hang, and are ended; it goes on where it was. None of that counts as a retry."""
    code = 'test "$NEMO_RUN_RESTART" = 2 && exit 0; echo x >> "$NEMO_RUN_CHECKPOINTS/x"; sleep 1000'
    executor = run.LocalExecutor(
        timeout=1, grace=0.2, restarts=run.Restarts(on={"time limit"}, backoff=0.1), env_vars={"A": "b"}
    )
    exp = run.Experiment("limited", executor=executor)
    exp.add(run.Script(inline=code), name="train")
    exp.add(run.Script(inline=f"cat {exp.directory}/train/checkpoints/x"), name="after", dependencies=["train"])
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    assert status["train"]["status"] is JobState.SUCCEEDED
    assert (status["train"]["restarts"], status["train"]["tries"]) == (2, 1)
    shown = capfd.readouterr().err
    assert "restart 1, time limit; next in 0.1 s" in shown
    assert "restart 2, time limit; next in 0.1 s" in shown
    exp.logs("after")
    assert capfd.readouterr().out.count("x\n") == 2


def test_a_task_that_is_told_of_its_time_limit_continues_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    restarts = run.Restarts(backoff=0, notice=8)
    exp = run.Experiment("told", executor=run.LocalExecutor(timeout=10, restarts=restarts))
    exp.add(run.Script(path=str(script), entrypoint="python"), name="train")
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    assert (status["train"]["status"], status["train"]["restarts"]) == (JobState.SUCCEEDED, 2)
    capfd.readouterr()
    exp.logs("train")
    shown = capfd.readouterr().out
    assert "begins at 2 restart 2 cause continued" in shown
    assert "done at 3" in shown
    (first, second) = (shown.index(f"(restart {number}, continued)") for number in (1, 2))
    assert shown.index("begins at 0") < first < shown.index("begins at 1") < second < shown.index("begins at 2")


def test_a_task_that_does_not_mind_its_notice_is_ended_by_it_and_restarted() -> None:
    code = 'test "$NEMO_RUN_RESTART" = 1 || sleep 1000'
    exp = run.Experiment("deaf", executor=run.LocalExecutor(timeout=1000, restarts=run.Restarts(backoff=0, notice=999)))
    exp.add(run.Script(inline=code), name="train")
    exp.run()
    task = exp.progress()["train"].tasks[0]
    assert (task.state, task.restarts) == (JobState.SUCCEEDED, 1)
    assert task.history[0]["cause"] == "time limit"
    assert task.history[0]["reason"].startswith("ended by SIGUSR1, the notice of its time limit: ")


def test_a_task_whose_supervisor_is_lost_is_restarted(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = f'echo "$NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE" >> {begun}; test "$NEMO_RUN_RESTART" = 1 || sleep 1000'
    exp = run.Experiment("lost", executor=run.LocalExecutor(restarts=run.Restarts(backoff=0)))
    exp.add(run.Script(inline=code), name="train")
    exp.run(detach=True)
    eventually(begun.exists, "it runs")
    owner = exp.directory / "train" / "attempts" / "1" / "supervisor.json"
    os.kill(json.loads(owner.read_text())["pid"], signal.SIGKILL)
    exp.wait()
    status = exp.status(return_dict=True)
    assert status is not None
    assert (status["train"]["status"], status["train"]["restarts"]) == (JobState.SUCCEEDED, 1)
    assert begun.read_text() == "0 \n1 node failure\n"


@pytest.mark.parametrize(
    ("code", "restarts", "expected"),
    [
        ("exit 3", run.Restarts(), (0, 3, "", "")),
        ("exit 85", run.Restarts(max=2, backoff=0), (2, 85, "", TOO_OFTEN.format(2))),
        ("exit 85", None, (0, 85, "", "")),
        ("sleep 1000", run.Restarts(on={"preemption"}), (0, 143, "time limit", LIMIT)),
        ("sleep 1000", run.Restarts(within=0.1, backoff=0), (0, 143, "time limit", f"{LIMIT}; {TOO_LATE}")),
        ("sleep 1000", run.Restarts(max=1, backoff=0), (1, 143, "time limit", f"{LIMIT}; {TOO_OFTEN.format(1)}")),
    ],
    ids=["its own failure", "continued too often", "no policy", "another cause", "too late", "too often"],
)
def test_what_is_not_restarted_has_failed(
    code: str, restarts: run.Restarts | None, expected: tuple[int, int, str, str]
) -> None:
    exp = run.Experiment("fails", executor=run.LocalExecutor(timeout=1, grace=0.2, restarts=restarts))
    exp.add(run.Script(inline=code), name="train")
    exp.run()
    status = exp.status(return_dict=True)
    assert status is not None
    train = status["train"]
    assert train["status"] is JobState.FAILED
    assert (train["restarts"], train["exit_code"], train["cause"], train["reason"]) == expected


def test_a_task_that_is_cancelled_while_it_waits_for_its_restart_is_not_restarted(tmp_path: Path) -> None:
    executor = run.LocalExecutor(restarts=run.Restarts(backoff=1000))
    exp = run.Experiment("cancelled", executor=executor)
    exp.add(run.Script(inline="exit 85"), name="train")
    exp.run(detach=True)
    eventually(lambda: exp.progress()["train"].reason.startswith("restart 1, continued"), "it waits")
    exp.cancel("train")
    assert exp.wait()["train"].state is JobState.CANCELLED


def test_what_makes_no_sense_is_refused() -> None:
    exp = run.Experiment("refused")
    with pytest.raises(ExecutorError, match="'rain'; the causes are: 'preemption', 'time limit', 'node failure'"):
        exp.add(run.Script(inline="true"), executor=run.LocalExecutor(restarts=run.Restarts(on={"rain"})))
    with pytest.raises(ExecutorError, match="'soon' is not a duration"):
        exp.add(run.Script(inline="true"), executor=run.LocalExecutor(restarts=run.Restarts(within="soon")))
