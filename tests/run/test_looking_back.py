"""Past experiments: found again, looked at, reset, run again, deleted."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentBusyError, ExperimentNotFoundError, InvalidNameError
from nemo_run.run import catalog, housekeeping
from nemo_run.run.job import JobGroup
from tests.run import work as tasks
from tests.support import attempts, bash, eventually, states


@pytest.fixture
def past(work: Path) -> run.Experiment:
    """An experiment that has ended, as another process finds it."""
    with run.Experiment("past", clean_mode=True) as exp:
        exp.add(run.Partial(tasks.write, path=str(work / "out"), text="é $x\n"), name="function")
        exp.add(
            bash("echo x >> ran; exit 3", "an arg"), name="script", executor=run.LocalExecutor(env_vars={"A": "b c"})
        )
        exp.add([bash("true"), bash("true")], name="group", dependencies=["function"], end_group_on="never")
        exp.add(bash("true"), name="after", dependencies=["script"])
        exp.run()
    return run.Experiment.from_id(exp.id)


def test_the_id_is_known_before_the_launch_and_makes_nothing(nemorun_home: Path, work: Path) -> None:
    exp = run.Experiment("never", clean_mode=True)
    known = exp.id
    assert [path for path in nemorun_home.rglob("*") if path.name == known] == []
    exp.add(bash("true"), name="x")
    exp.run()
    assert exp.id == known
    assert Path(exp.directory).name == known


def test_status_for_programs(past: run.Experiment) -> None:
    document = past.status(return_dict=True)
    assert document is not None
    assert list(document) == ["function", "script", "group", "after"]
    script = document["script"]
    assert script["status"] is run.JobState.FAILED
    assert script["exit_code"] == 3
    assert script["executor"] == "LocalExecutor"
    assert script["started"] <= script["ended"]
    assert Path(script["local_dir"]).is_dir()
    assert document["after"]["dependencies"] == ["script"]
    json.dumps(document)


def test_status_for_people(past: run.Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert past.status() is None
    out = capsys.readouterr().out
    for shown in (past.id, "function", "SUCCEEDED", "FAILED", "CANCELLED", "3", "'script' ended as FAILED"):
        assert shown in out


def test_found_by_id_title_and_catalog(past: run.Experiment) -> None:
    assert run.Experiment.from_title("past").id == past.id
    assert past.title == "past"
    assert run.Experiment.catalog("past") == [past.id] == run.Experiment.catalog()
    assert run.Experiment.catalog("other") == []
    with run.Experiment("past", clean_mode=True) as newer:
        newer.add(bash("true"))
        newer.run()
    assert run.Experiment.from_title("past").id == newer.id
    assert run.Experiment.catalog("past") == [past.id, newer.id]


def test_what_is_not_there_is_told_with_what_is_near(past: run.Experiment) -> None:
    with pytest.raises(ExperimentNotFoundError, match=past.id):
        run.Experiment.from_id(past.id[:-1] + "x")
    with pytest.raises(ExperimentNotFoundError, match="'nothing'"):
        run.Experiment.from_title("nothing")
    for wrong in ("../past", "", "a/b", "/etc", "a\0b", ".."):
        with pytest.raises(InvalidNameError):
            run.Experiment.from_id(wrong)


def test_one_that_was_never_launched_hides_nothing(past: run.Experiment) -> None:
    """Whoever launched was killed before all was written down."""
    half = catalog.create("past")
    assert run.Experiment.from_title("past").id == past.id
    with pytest.raises(run.NemoRunError, match="never launched"):
        run.Experiment.from_id(half.id)


def test_tasks_can_be_read_again(past: run.Experiment, work: Path) -> None:
    jobs = {job.id: job for job in past.jobs}
    function, script, group = jobs["function"], jobs["script"], jobs["group"]
    assert function.task.text == "é $x\n"
    assert function.task.__fn_or_cls__ is tasks.write
    assert (script.task.inline, script.task.args) == ("echo x >> ran; exit 3", ["an arg"])
    assert script.executor.env_vars == {"A": "b c"}
    assert len(group.tasks) == 2
    assert group.dependencies == ["function"]


def test_reset_runs_the_same_again(past: run.Experiment, work: Path) -> None:
    (work / "out").unlink()
    first, before = past.id, states(past)
    again = past.reset()
    assert again is past
    assert again.jobs[2].end_group_on == "never"
    with again:
        again.run()
    assert again.id != first
    assert states(again) == before
    assert (work / "out").read_text() == "é $x\n"
    assert attempts(work) == ["x", "x"]
    assert states(run.Experiment.from_id(first)) == before


def test_reset_in_place_runs_the_changed_task_under_a_new_id(past: run.Experiment, work: Path) -> None:
    first = past.id
    with past.reset():
        past.tasks[0].text = "changed\n"
        past.jobs[1].task.inline = "exit 0"
        past.run()
    assert (work / "out").read_text() == "changed\n"
    assert run.Experiment.catalog("past") == [first, past.id]
    assert states(past) == {"function": "SUCCEEDED", "script": "SUCCEEDED", "group": "SUCCEEDED", "after": "SUCCEEDED"}
    assert past.jobs[0].status() is run.JobState.SUCCEEDED
    old = run.Experiment.from_id(first)
    assert states(old)["script"] == "FAILED"
    assert old.jobs[0].task.text == "é $x\n"


def test_reset_leaves_alone_what_has_not_run(caplog: pytest.LogCaptureFixture) -> None:
    exp = run.Experiment("not yet")
    exp.add(bash("true"), name="a")
    job = exp.jobs[0]
    assert exp.reset() is exp
    assert exp.jobs == [job]
    assert "has not run yet" in caplog.text


def test_a_reset_that_fails_changes_nothing(past: run.Experiment) -> None:
    before = past.id, [job.id for job in past.jobs]
    (past.directory / "script" / "task.json").write_text("{")
    with pytest.raises(run.NemoRunError):
        past.reset()
    assert (past.id, [job.id for job in past.jobs]) == before


@pytest.mark.parametrize("level", [logging.ERROR, logging.DEBUG])
def test_looking_back_leaves_the_level_of_log_messages(level: int, past: run.Experiment) -> None:
    logger = logging.getLogger("nemo_run")
    before = logger.level
    try:
        logger.setLevel(level)
        run.Experiment.from_id(past.id).reset()
        run.Experiment.from_title("past")
        assert logger.level == level
        run.Experiment("new", log_level="WARNING")
        assert logger.level == logging.WARNING
    finally:
        logger.setLevel(before)


def test_jobs_of_a_past_experiment_say_how_they_ended(past: run.Experiment) -> None:
    found = {job.id: (job.state.name, job.launched) for job in run.Experiment.from_id(past.id).jobs}
    assert found == {
        "function": ("SUCCEEDED", True), "script": ("FAILED", True), "group": ("SUCCEEDED", True),
        "after": ("CANCELLED", False),
    }  # fmt: skip
    group = run.Experiment.from_id(past.id).jobs[2]
    assert isinstance(group, JobGroup)
    assert [bool(handle) for handle in group.handles] == [True, True]
    assert group.states == [run.JobState.SUCCEEDED] * 2
    assert run.Experiment.from_id(past.id).jobs[1].handle


def test_jobs_of_an_experiment_that_runs_say_so() -> None:
    exp = run.Experiment("at work", clean_mode=True)
    exp.add(bash("sleep 600"), name="long")
    exp.run(detach=True)
    eventually(lambda: run.Experiment.from_id(exp.id).jobs[0].state is run.JobState.RUNNING)
    exp.cancel("long")
    assert run.Experiment.from_id(exp.id).jobs[0].state is run.JobState.CANCELLED


def test_an_experiment_of_another_home_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.Experiment("elsewhere", base_dir=str(tmp_path / "base"), clean_mode=True) as exp:
        exp.add(bash("true"), name="a")
        exp.run()
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "base"))
    again = run.Experiment.from_id(exp.id)
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "third"))
    with again.reset():
        again.run()
    assert again.directory.is_relative_to(tmp_path / "base")


def test_rerun_runs_the_same_again(past: run.Experiment, work: Path) -> None:
    (work / "out").unlink()
    again = past.rerun()
    assert again.id != past.id
    assert states(again) == states(past)
    assert (work / "out").read_text() == "é $x\n"


def test_resume_of_what_has_ended_runs_nothing(past: run.Experiment, work: Path) -> None:
    before = states(past)
    past.resume()
    assert states(past) == before
    assert attempts(work) == ["x"]


def test_delete_never_touches_what_runs(past: run.Experiment, work: Path) -> None:
    exp = run.Experiment("running")
    exp.add(bash("sleep 600"), name="job")
    exp.run(detach=True)
    eventually(lambda: states(exp)["job"] == "RUNNING")
    deleted, kept = housekeeping.prune(older_than=-1)
    assert deleted == [past.id]
    assert "job" in kept[exp.id] or "driven" in kept[exp.id]
    with pytest.raises(ExperimentBusyError):
        housekeeping.delete(exp._its_store)
    with pytest.raises(ExperimentNotFoundError):
        run.Experiment.from_id(past.id)
    exp.cancel_jobs()
    eventually(lambda: not exp._its_store.is_driven())
    housekeeping.delete(exp._its_store)
    assert run.Experiment.catalog() == []
    assert work.is_dir()
