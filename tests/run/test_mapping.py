"""Maps: one function with many items."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError, InvalidJobError
from nemo_run.run.store import ExperimentStore
from tests.run import work as tasks


def arguments(exp: run.Experiment) -> list[dict[str, Any]]:
    return [job.task.__arguments__ for job in exp.jobs]


@pytest.mark.parametrize("how", [{}, {"detach": True}, {"direct": True}, {"sequential": True}], ids=str)
def test_every_item_has_a_job_and_another_task_takes_them_all(work: Path, how: dict[str, bool]) -> None:
    with run.Experiment("map", clean_mode=True) as exp:
        mapped = exp.map(tasks.scores, [0.1, 0.2, 0.3], name="score")
        exp.add(run.Partial(tasks.takes, whole=mapped.outputs, part=1), name="best")
        exp.run(**how)
    assert [exp.result(job)["score"] for job in mapped.jobs] == [0.1, 0.2, 0.3]
    assert exp.result("best") == [repr([exp.result(job) for job in mapped.jobs]), "1"]
    assert list(exp.jobs[-1].dependencies) == ["score-0", "score-1", "score-2"]


def test_items_fill_what_a_partial_leaves_open() -> None:
    exp = run.Experiment("open")
    exp.map(run.Partial(tasks.write, text="x"), ["a", "b"], [1, 2])
    assert arguments(exp) == [{"path": "a", "text": "x", "times": 1}, {"path": "b", "text": "x", "times": 2}]


def test_arguments_of_a_function_are_those_of_every_item() -> None:
    exp = run.Experiment("constant")
    exp.map(tasks.write, ["a", "b"], times=3)
    assert arguments(exp) == [{"path": "a", "times": 3}, {"path": "b", "times": 3}]


def test_a_list_of_tasks_is_a_map_of_theirs() -> None:
    exp = run.Experiment("list")
    mapped = exp.map([run.Partial(tasks.leave, code=0), run.Script(inline="true")], name="some")
    assert (mapped.name, mapped.jobs) == ("some", ["some-0", "some-1"])
    assert exp.map([run.Script(inline="true")], name="some").name == "some_2"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda exp: exp.map(tasks.leave), "needs items"),
        (lambda exp: exp.map(tasks.leave, []), "no items"),
        (lambda exp: exp.map([]), "no items"),
        (lambda exp: exp.map(tasks.write, ["a"], ["x", "y"]), "as many items"),
        (lambda exp: exp.map(run.Partial(tasks.leave, code=1), [1]), "no parameter left"),
        (lambda exp: exp.map(run.Partial(tasks.write, path="x"), ["a"], times=1), "on the run.Partial"),
        (lambda exp: exp.map([run.Script(inline="true")], [1]), "takes no items"),
        (lambda exp: exp.map(7, [1]), "cannot be a task"),
    ],
)
def test_what_is_no_map_is_refused(call: Any, says: str) -> None:
    with pytest.raises(InvalidJobError, match=says):
        call(run.Experiment("refused"))


def test_the_status_says_how_far_a_map_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("status", clean_mode=True) as exp:
        exp.map(tasks.leave, [0, 1, 0, 2], name="codes")
        exp.run()
    exp.status()
    assert "codes: 2 of 4 done, 2 failed" in capsys.readouterr().out
    assert {one["mapped"] for one in exp.status(return_dict=True).values()} == {"codes"}


def test_a_map_is_one_after_a_reset_and_a_rerun(work: Path) -> None:
    with run.Experiment("again", clean_mode=True) as exp:
        exp.map(tasks.leave, [0, 0], name="codes")
        exp.run()
    again = run.Experiment.from_id(exp.id).rerun()
    assert [job.mapped for job in ExperimentStore(again.directory).read_definition().jobs] == ["codes"] * 2
    with run.Experiment.from_id(exp.id).reset() as fresh:
        fresh.run()
    assert [job.mapped for job in ExperimentStore(fresh.directory).read_definition().jobs] == ["codes"] * 2


@pytest.fixture
def helper(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user, in the folder that is launched from."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "helper_of_maps.py").write_text(
        "import os, pathlib\n"
        "def f(x):\n"
        "    pathlib.Path(os.environ['NEMO_RUN_ARTIFACTS'], 'a').write_text(str(x))\n"
        "    return 1 // x\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "helper_of_maps.py"
    sys.modules.pop("helper_of_maps", None)


def test_only_what_failed_runs_again_and_the_rest_is_taken_over(helper: Path) -> None:
    f = importlib.import_module("helper_of_maps").f
    with run.Experiment("some", clean_mode=True) as exp:
        mapped = exp.map(f, [1, 0, 2], name="f")
        exp.add(run.Partial(sorted, mapped.outputs), name="all")
        exp.run()
    assert [exp.results()[name].state.name for name in (*mapped.jobs, "all")] == [
        "SUCCEEDED", "FAILED", "SUCCEEDED", "CANCELLED",
    ]  # fmt: skip
    same = run.Experiment.from_id(exp.id).rerun(failed=True)
    states = same.status(return_dict=True)
    assert [states[name]["status"].name for name in (*mapped.jobs, "all")] == [
        "SUCCEEDED", "FAILED", "SUCCEEDED", "CANCELLED",
    ]  # fmt: skip
    assert states["f-0"]["reason"] == f"as in {exp.id}"
    assert states["f-1"]["reason"].startswith("ZeroDivisionError")
    assert (same.directory / "f-0" / "artifacts" / "a").samefile(exp.directory / "f-0" / "artifacts" / "a")
    helper.write_text("def f(x):\n    return 7\n")
    sys.modules.pop("helper_of_maps")
    fixed = run.Experiment.from_id(same.id).rerun(failed=True, today=True)
    assert [fixed.result(name) for name in mapped.jobs] == [1, 7, 0]
    assert fixed.result("all") == [0, 1, 7]
    assert [one.path for one in fixed.artifacts()] == ["a", "a"]
    with pytest.raises(ExperimentError, match="every job"):
        fixed.rerun(failed=True)
