"""What functions return, and the exceptions that end them, as the experiment has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import JobTimeoutError, ResultError
from nemo_run.run.artifacts import folder_of
from tests.run import work as tasks
from tests.support import bash


def launched(**options: object) -> run.Experiment:
    with run.Experiment("results", clean_mode=True) as exp:
        exp.add(run.Partial(tasks.gives, **options), name="a")
        exp.run()
    return run.Experiment.from_id(exp.id)


@pytest.mark.parametrize(
    "kind", ["none", "plain", "dataclass", pytest.param("array", marks=pytest.mark.needs("numpy"))]
)
def test_a_value_comes_back_equal(work: Path, kind: str) -> None:
    expected = tasks.gives(kind)
    exp = launched(kind=kind)
    found = exp.result("a")
    assert repr(found) == repr(expected)
    assert type(found) is type(expected)
    assert repr(exp.jobs[0].result()) == repr(exp.results()["a"].value) == repr(expected)
    assert exp.artifacts() == []


def test_other_objects_are_pickles_that_are_read_when_asked_for(work: Path) -> None:
    exp = launched(kind="object")
    with pytest.raises(ResultError, match="unpickle=True"):
        exp.result("a")
    assert exp.result("a", unpickle=True).x == 3


@pytest.mark.parametrize("kind", ["large", "unpicklable"])
def test_what_cannot_be_kept_is_said_and_the_task_succeeds(work: Path, kind: str) -> None:
    exp = launched(kind=kind)
    assert exp.results()["a"].ok
    with pytest.raises(ResultError, match={"large": "NEMO_RUN_ARTIFACTS", "unpicklable": "cannot be stored"}[kind]):
        exp.result("a")


def test_a_group_returns_a_list_and_a_script_nothing(work: Path) -> None:
    with run.Experiment("group", clean_mode=True) as exp:
        exp.add([run.Partial(tasks.gives, kind="plain"), run.Partial(tasks.gives, kind="none")], name="group")
        exp.add(bash("true"), name="script")
        exp.run()
    assert exp.result("group") == [tasks.gives("plain"), None]
    assert exp.result("script") is None


@pytest.mark.parametrize("direct", [False, True])
def test_an_exception_is_data(work: Path, direct: bool) -> None:
    with run.Experiment("fails", clean_mode=True) as exp:
        exp.add(run.Partial(tasks.raises, n=2000), name="a")
        exp.run(direct=direct, check=False)
    with pytest.raises(run.JobFailedError, match=r"ValueError: 2000 is too large, work\.py:") as info:
        exp.result("a")
    error = info.value.exception
    assert error is not None
    assert (error.type, error.module, error.message, error.rank) == ("ValueError", "builtins", "2000 is too large", 0)
    assert [frame.function for frame in error.frames] == ["raises", "_check"]
    assert error.frames[-1].source.startswith("raise ValueError")
    assert "KeyError" in error.traceback  # its cause
    status = exp.status(return_dict=True)
    assert status is not None
    assert status["a"]["exception"]["message"] == "2000 is too large"
    assert status["a"]["reason"].startswith("ValueError: 2000 is too large, work.py:")


def test_the_value_is_that_of_the_last_attempt(work: Path) -> None:
    with run.Experiment("retried", executor=run.LocalExecutor(retries=2), clean_mode=True) as exp:
        exp.add(run.Partial(tasks.gives_at, attempt=2), name="a")
        exp.add(run.Partial(tasks.killed_at, attempt=2), name="b", executor=run.LocalExecutor(retries=1))
        exp.run()
    assert exp.result("a") == 2
    # The first attempt's exception does not explain the second one's end.
    assert "first" not in exp.results()["b"].reason
    assert exp.results()["b"].exception is None


def test_result_waits_and_gives_up(work: Path) -> None:
    with run.Experiment("slow", clean_mode=True) as exp:
        exp.add(bash("until [ -e go ]; do sleep 0.05; done"), name="a")
        exp.run(detach=True)
    with pytest.raises(JobTimeoutError, match=r"0\.3 s"):
        exp.jobs[0].result(timeout=0.3)
    (work / "go").touch()
    assert exp.result("a") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"value": {"$": "array", "npy": "AAAA"}}', '{"value": {"$": "x"}}'])
def test_a_damaged_file_is_named(work: Path, content: str) -> None:
    exp = launched(kind="plain")
    file = folder_of(exp._its_store, exp._prepared.job("a").tasks[0]) / ".nemo_run" / "value.json"
    assert json.loads(file.read_text())["format"] == 1
    file.write_text(content)
    with pytest.raises(run.NemoRunError, match=r"value\.json"):
        exp.result("a")


def test_run_gives_the_value(work: Path) -> None:
    task = run.Partial(tasks.gives, kind="plain")
    for executor in (None, run.LocalExecutor()):
        result = run.run(task, executor=executor)
        assert result is not None
        assert result.value == tasks.gives("plain")
