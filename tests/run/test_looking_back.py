"""Past experiments: found again, looked at, reset, run again, deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentBusyError, ExperimentNotFoundError, InvalidNameError
from nemo_run.run import housekeeping, store as stores
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
    half = stores.create("past")
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
    again = past.reset()
    assert again.jobs[2].end_group_on == "never"
    with again:
        again.run()
    assert again.id != past.id
    assert states(again) == states(past)
    assert (work / "out").read_text() == "é $x\n"
    assert attempts(work) == ["x", "x"]
    assert states(run.Experiment.from_id(past.id)) == states(past)


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
