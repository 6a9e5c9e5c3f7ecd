"""Cancelling: what runs, what waits, what has ended; with a controller and without one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.local import supervisor, system
from nemo_run.errors import ExecutorError, JobNotFoundError
from nemo_run.run.controller import Controller
from tests.support import attempts, bash, eventually, kill_all, states

# Children of all kinds: in the group, in a session of their own, and one that is nobody's child any more.
FAMILY = """
touch pids
one='echo $$ >> pids; exec sleep 600'
bash -c "$one" &
setsid bash -c "$one" &
(setsid bash -c "$one" &)
until [ $(wc -l < pids) = 3 ]; do sleep 0.02; done
echo $$ >> pids
echo started >> ran
wait
"""


def alive(work: Path) -> list[int]:
    pids = [int(line) for line in (work / "pids").read_text().split()]
    return [pid for pid in pids if system.start_time(pid) is not None]


@pytest.fixture
def running(work: Path) -> Iterator[run.Experiment]:
    """A detached experiment whose first job runs, with one that waits for it and one that has ended."""
    exp = run.Experiment("running", executor=run.LocalExecutor(grace=0.5))
    exp.add(bash("exit 0"), name="ended")
    exp.add(bash(FAMILY), name="family", dependencies=["ended"])
    exp.add(bash("echo never >> ran"), name="waits", dependencies=["family"])
    exp.add(bash("sleep 600"), name="other")
    exp.run(detach=True)
    eventually(lambda: attempts(work))
    yield exp
    exp.cancel_jobs()


def test_a_running_job_ends_with_all_of_its_processes(running: run.Experiment, work: Path) -> None:
    assert len(alive(work)) == 4
    running.cancel("family")
    assert alive(work) == []
    assert states(running)["family"] == "CANCELLED"
    eventually(lambda: states(running)["waits"] == "CANCELLED")  # the controller goes on to its dependants
    assert states(running) == {"ended": "SUCCEEDED", "family": "CANCELLED", "waits": "CANCELLED", "other": "RUNNING"}
    assert "'family' ended as CANCELLED" in running.results()["waits"].reason
    assert attempts(work) == ["started"]


def test_a_waiting_job_never_runs(running: run.Experiment, work: Path) -> None:
    running.cancel("waits")
    assert states(running)["waits"] == "CANCELLED"
    assert states(running)["family"] == "RUNNING"
    running.cancel("family")
    assert attempts(work) == ["started"]


def test_an_ended_job_stays_as_it_is(running: run.Experiment) -> None:
    running.cancel("ended")
    assert states(running)["ended"] == "SUCCEEDED"
    with pytest.raises(JobNotFoundError, match=r"nobody.*ended, family, waits, other"):
        running.cancel("nobody")


def test_all_at_once_from_another_object(running: run.Experiment, work: Path) -> None:
    run.Experiment.from_id(running.id).cancel_jobs()
    assert states(running) == {"ended": "SUCCEEDED", "family": "CANCELLED", "waits": "CANCELLED", "other": "CANCELLED"}
    assert alive(work) == []


def test_through_a_job(running: run.Experiment) -> None:
    job = next(job for job in run.Experiment.from_id(running.id).jobs if job.id == "other")
    assert job.status() is run.JobState.RUNNING
    job.cancel()
    assert job.wait() is run.JobState.CANCELLED


def test_without_a_controller(running: run.Experiment, work: Path) -> None:
    os.kill(running._its_store.controller()["pid"], 9)
    eventually(lambda: not running._its_store.is_driven())
    past = run.Experiment.from_id(running.id)
    assert states(past) == {"ended": "SUCCEEDED", "family": "RUNNING", "waits": "UNSUBMITTED", "other": "RUNNING"}
    assert "resume" in past.results()["waits"].reason or "resume" in past.status(return_dict=True)["waits"]["reason"]
    past.cancel("family")
    assert alive(work) == []
    assert states(past) == {"ended": "SUCCEEDED", "family": "CANCELLED", "waits": "CANCELLED", "other": "RUNNING"}


def test_while_the_controller_is_killed(running: run.Experiment, work: Path) -> None:
    """The request was left for a controller that dies before it obeys."""
    pid = running._its_store.controller()["pid"]
    os.kill(pid, 19)
    for job in running._prepared.jobs:
        running._its_store.request_cancel(job)
    os.kill(pid, 9)
    running.cancel_jobs()
    assert states(running) == {"ended": "SUCCEEDED", "family": "CANCELLED", "waits": "CANCELLED", "other": "CANCELLED"}
    assert alive(work) == []


def test_what_a_lost_supervisor_left_behind(running: run.Experiment, work: Path) -> None:
    """A killed supervisor: the task is lost, and told so; whatever is left of it is ended."""
    folder = running.directory / "family" / "attempts" / "1"
    os.kill(supervisor.read_json(str(folder / "supervisor.json"))["pid"], 9)
    running.wait(["family"])
    result = running.results()["family"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, None)
    assert "supervisor was killed" in result.reason
    eventually(lambda: not alive(work))
    assert attempts(work) == ["started"]


def test_a_group(work: Path) -> None:
    exp = run.Experiment("group", executor=run.LocalExecutor(grace=0.5))
    exp.add([bash("echo x >> ran; sleep 600"), bash("echo x >> ran; sleep 600")], name="group")
    exp.run(detach=True)
    eventually(lambda: len(attempts(work)) == 2)
    exp.cancel("group")
    assert states(exp) == {"group": "CANCELLED"}
    exp._refresh()
    assert [str(state) for state in exp.jobs[0].states] == ["CANCELLED"] * 2


def test_before_anything_was_started(work: Path) -> None:
    """Launched, but whoever launched died before the first job was started."""
    exp = run.Experiment("unstarted")
    exp.add(bash("echo x >> ran"), name="a")
    exp._prepare(Backends())
    past = run.Experiment.from_id(exp.id)
    past.cancel("a")
    assert states(past) == {"a": "CANCELLED"}
    Controller(past._its_store).run()
    assert attempts(work) == []


def test_nothing_waits_for_ever_for_a_controller_that_is_gone(work: Path, tmp_path: Path) -> None:
    exp = run.Experiment("gone", executor=run.LocalExecutor(retries=3, retry_delay=600))
    exp.add(bash("exit 1"), name="retried")
    exp.add(bash("true"), name="after", dependencies=["retried"])
    exp.run(detach=True)
    eventually(lambda: exp.progress()["retried"].tasks[0].retry_at)
    os.kill(exp._its_store.controller()["pid"], 9)
    assert {name: str(job.state) for name, job in exp.wait().items()} == {"retried": "PENDING", "after": "UNSUBMITTED"}
    exp.logs("retried")
    exp.attach()
    document = exp.status(return_dict=True)
    assert document is not None
    for job in document.values():
        assert f"nemorun experiment resume {exp.id}" in job["reason"]
    exp.cancel_jobs()
    assert set(states(exp).values()) == {"CANCELLED"}
    kill_all(tmp_path)


def test_what_runs_on_another_machine_is_told_not_waited_for(running: run.Experiment) -> None:
    os.kill(running._its_store.controller()["pid"], 9)
    claim = running.directory / "other" / "attempts" / "1" / "supervisor.json"
    written = claim.read_text()
    # In place: the supervisor proves who it is by having this very file open.
    claim.write_text(json.dumps({**json.loads(written), "host": "elsewhere", "boot": "another"}))
    assert states(running)["other"] == "UNKNOWN"
    assert "elsewhere" in running.results()["other"].reason
    running.wait(["other"])
    running.logs("other")
    with pytest.raises(run.NemoRunError, match="elsewhere"):
        running.cancel("other")
    claim.write_text(written)
    assert states(running)["other"] == "RUNNING"


def test_a_try_over_its_time_limit_is_ended_gently_and_tried_again(work: Path) -> None:
    """Another try may have the time; what waits for it runs."""
    text = (
        "echo began >> ran; trap 'echo cleaned >> ran; exit 0' TERM; [ $NEMO_RUN_ATTEMPT = 2 ] || { sleep 600 & wait; }"
    )
    with run.Experiment("limited", executor=run.LocalExecutor(timeout=1, retries=1, retry_delay=0.1)) as exp:
        exp.add(bash(text), name="a")
        exp.add(bash("echo after >> ran"), name="b", dependencies=["a"])
        exp.run()
    assert states(exp) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert attempts(work) == ["began", "cleaned", "began", "after"]


def _forget_errors() -> None:
    while True:
        try:
            time.sleep(600)
        except Exception:  # noqa: BLE001
            continue


@pytest.mark.parametrize(
    "task",
    [
        run.Partial(_forget_errors),
        bash("trap 'echo cleaned > cleaned; exit 0' TERM; sleep 600 & wait"),
    ],
    ids=["a function", "a script"],
)
def test_a_try_in_this_process_has_its_time_limit(task: run.Partial | run.Script, work: Path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with run.Experiment("limited", executor=run.LocalExecutor(timeout=0.5)) as exp:
        exp.add(task, name="a")
        exp.add(bash("true"), name="b", dependencies=["a"])
        with pytest.raises(TimeoutError, match=r"time limit of 0\.5 s reached"):
            exp.run(direct=True)
    assert states(exp) == {"a": "FAILED", "b": "CANCELLED"}
    assert exp.results()["a"].reason == "time limit of 0.5 s reached"
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("value", [0, -1, "soon", "1w", float("nan")])
def test_what_is_no_time_limit_is_refused(value: object) -> None:
    with pytest.raises(ExecutorError, match=r"LocalExecutor\.timeout"):
        run.LocalExecutor(timeout=value).check()  # type: ignore[arg-type]
