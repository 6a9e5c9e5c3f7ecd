"""Tasks that take what other tasks return."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import JobNotFoundError
from tests.run import work as tasks


@pytest.mark.parametrize("how", [{}, {"detach": True}, {"direct": True}, {"sequential": True}], ids=str)
def test_values_and_parts_of_them_arrive(work: Path, how: dict[str, bool]) -> None:
    with run.Experiment("flow", clean_mode=True) as exp:
        first = exp.add(run.Partial(tasks.gives, kind="dataclass"), name="first")
        scores = exp.sweep(run.Partial(tasks.scores), {"lr": [0.1, 0.2]})
        exp.add(run.Partial(tasks.takes, whole=exp.output(first), part=exp.output(first, "more", 1)), name="takes")
        exp.add(run.Partial(tasks.takes, whole=scores.outputs, part=exp.output("lr=0.2", "score")), name="best")
        exp.run(**how)
    assert exp.result("takes") == [repr(tasks.gives("dataclass")), repr(Path("b"))]
    assert exp.result("best") == [repr([{"score": 0.1, "twice": 0.2}, {"score": 0.2, "twice": 0.4}]), "0.2"]
    assert list(exp.jobs[-1].dependencies) == ["lr=0.1", "lr=0.2"]


def test_a_group_takes_and_gives(work: Path) -> None:
    with run.Experiment("groups", clean_mode=True) as exp:
        exp.add([run.Partial(tasks.gives, kind="plain"), run.Partial(tasks.gives, kind="none")], name="group")
        member = run.Partial(tasks.takes, whole=exp.output("group", 1), part=3)
        exp.add([member, member], name="takers")
        exp.run()
    assert exp.result("takers") == [["None", "3"]] * 2


def test_an_output_that_was_not_kept_fails_the_task_that_needs_it(work: Path) -> None:
    with run.Experiment("lacking", clean_mode=True) as exp:
        for kind in ("object", "large"):
            exp.add(run.Partial(tasks.gives, kind=kind), name=kind)
            exp.add(run.Partial(tasks.takes, whole=exp.output(kind), part=1), name=f"takes {kind}")
        exp.add(run.Partial(tasks.takes, whole=exp.output("object", "x"), part=1), name="part")
        exp.run()
    found = exp.results()
    assert "unpickle" in found["takes object"].reason
    assert "MiB" in found["takes large"].reason
    assert {found[name].state for name in ("takes object", "takes large", "part")} == {run.JobState.FAILED}


def test_a_part_that_is_not_there_is_named(work: Path) -> None:
    with run.Experiment("part", clean_mode=True) as exp:
        exp.add(run.Partial(tasks.gives, kind="plain"), name="a")
        exp.add(run.Partial(tasks.takes, whole=exp.output("a", "nothing"), part=1), name="b")
        exp.run()
    assert "'nothing'" in exp.results()["b"].reason


def test_only_jobs_that_were_added_have_outputs() -> None:
    exp = run.Experiment("none")
    with pytest.raises(JobNotFoundError, match="there are: none"):
        exp.output("train")


def test_a_rerun_takes_the_new_values(work: Path) -> None:
    with run.Experiment("again", clean_mode=True) as exp:
        exp.add(run.Partial(tasks.counts), name="count")
        exp.add(run.Partial(tasks.takes, whole=exp.output("count"), part=1), name="takes")
        exp.run()
    assert exp.result("takes") == ["1", "1"]
    assert exp.rerun().result("takes") == ["2", "1"]
    with run.Experiment.from_id(exp.id).reset() as fresh:
        fresh.run()
    assert fresh.result("takes") == ["3", "1"]
