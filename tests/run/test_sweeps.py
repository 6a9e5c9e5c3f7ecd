"""Sweeps: the points that are tried, the jobs that they make, and what is compared afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import nemo_run as run
from nemo_run.errors import SweepError, UnknownFieldError
from nemo_run.run.space import points, spaces_of
from nemo_run.run.sweep import read_sweeps
from tests.run import work as tasks

SPACE = {"lr": run.choice(0.1, 0.01), "kind": ["a", "b"]}


def taken(space: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return list(points(spaces_of(space), **{"sampler": "grid", "trials": None, "seed": 0, **options}))


def test_a_grid_has_every_combination_once() -> None:
    assert taken({"a": [1, 2], "b": run.randint(3, 5), "c": "x"}) == [
        {"a": a, "b": b, "c": "x"} for a in (1, 2) for b in (3, 4, 5)
    ]
    assert taken({"a": [1, 2, 3]}, trials=2) == [{"a": 1}, {"a": 2}]


@given(st.integers(), st.floats(1e-8, 1.0), st.floats(1.5, 1e6))
def test_draws_lie_inside_and_depend_on_the_seed_only(seed: int, low: float, high: float) -> None:
    space = {"u": run.uniform(low, high), "l": run.loguniform(low, high), "i": run.randint(-3, 3), "c": [1, "x"]}
    found = taken(space, sampler="random", trials=20, seed=seed)
    assert found == taken(space, sampler="random", trials=20, seed=seed)
    for point in found:
        assert low <= point["u"] <= high
        assert low * 0.999 <= point["l"] <= high * 1.001
        assert point["i"] in range(-3, 4)
        assert point["c"] in (1, "x")


@pytest.mark.parametrize(
    ("space", "options", "says"),
    [
        ({}, {}, "at least one parameter"),
        ({"a": []}, {}, "at least one value"),
        ({"a": run.uniform(0, 1)}, {}, "no end of values"),
        ({"a": [1]}, {"sampler": "random"}, "number of its trials"),
        ({"a": [1]}, {"trials": 0}, "at least one"),
        ({"a": [1]}, {"sampler": "best"}, "'grid' or 'random'"),
    ],
)
def test_spaces_that_have_no_points_are_refused(space: dict[str, Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(SweepError, match=says):
        taken(space, **options)


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, float("nan")), (float("-inf"), 1)])
def test_ends_in_the_wrong_order_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(SweepError):
        run.uniform(*ends)
    with pytest.raises(SweepError):
        run.loguniform(*ends)


def test_what_is_wrong_is_found_when_it_is_added() -> None:
    exp = run.Experiment("wrong")
    with pytest.raises(UnknownFieldError, match="lr"):
        exp.sweep(run.Partial(tasks.scores, lr=1.0), {"l": [1]})
    with pytest.raises(run.ConfigError, match="lr"):
        exp.sweep(run.Partial(tasks.scores, lr=1.0), {"lr": ["x"]})
    with pytest.raises(SweepError, match="direction"):
        exp.sweep(run.Partial(tasks.scores), SPACE, direction="up")  # type: ignore[arg-type]
    with pytest.raises(SweepError, match=r"run\.Partial"):
        exp.sweep(run.Script(inline="true"), SPACE)  # type: ignore[arg-type]


def test_names_tell_the_values_where_they_are_short() -> None:
    exp = run.Experiment("names")
    assert exp.sweep(run.Partial(tasks.scores), SPACE).jobs == ["lr=0.1,kind=a", "lr=0.1,kind=b", "lr=0.01,kind=a",
                                                                "lr=0.01,kind=b"]  # fmt: skip
    assert exp.sweep(run.Partial(tasks.scores), {"kind": ["x" * 70, "y"]}).jobs == ["scores-0", "kind=y"]
    same = exp.sweep(run.Partial(tasks.scores), {"lr": [0.100001, 0.100002]}, name="same")
    assert same.jobs == ["lr=0.1", "same-1"]


def swept(**options: Any) -> run.Experiment:
    with run.Experiment("swept", clean_mode=True) as exp:
        exp.sweep(run.Partial(tasks.scores), SPACE, **options)
        exp.add(run.Partial(tasks.gives, kind="plain"), name="other")
        exp.run()
    return run.Experiment.from_id(exp.id)


def test_the_best_is_first_and_failures_are_last(work: Path) -> None:
    exp = swept(objective="score")
    trials = exp.compare()
    assert [(trial.parameters, trial.state, trial.objective) for trial in trials] == [
        ({"lr": 0.1, "kind": "a"}, "SUCCEEDED", 0.1),
        ({"lr": 0.01, "kind": "a"}, "SUCCEEDED", 0.01),
        ({"lr": 0.1, "kind": "b"}, "FAILED", None),
        ({"lr": 0.01, "kind": "b"}, "FAILED", None),
    ]
    assert [trial.objective for trial in exp.compare(direction="minimize")][:2] == [0.01, 0.1]
    assert [trial.objective for trial in exp.compare("twice")][:2] == [0.2, 0.02]
    assert [trial.objective for trial in exp.compare("logged")][:2] == [1.1, 1.01]  # a metric
    assert [trial.objective for trial in exp.compare("nothing")] == [None] * 4


def test_a_sweep_stays_one_when_it_is_run_again(work: Path) -> None:
    exp = swept(objective="score", direction="minimize")
    again = exp.rerun()
    assert [trial.objective for trial in again.compare()][:2] == [0.01, 0.1]
    with exp.reset():
        exp.run()
    assert [trial.objective for trial in exp.compare()][:2] == [0.01, 0.1]


def test_jobs_of_a_loop_are_compared_too(work: Path) -> None:
    with run.Experiment("loop", clean_mode=True) as exp:
        for lr in (0.2, 0.3):
            exp.add(run.Partial(tasks.scores, lr=lr), name=f"job-{lr}")
        exp.run()
    assert read_sweeps(exp._its_store) == []
    found = [(trial.job, trial.parameters, trial.results) for trial in exp.compare("score")]
    assert found == [
        ("job-0.3", {"lr": 0.3}, {"score": 0.3, "twice": 0.6}),
        ("job-0.2", {"lr": 0.2}, {"score": 0.2, "twice": 0.4}),
    ]


@pytest.mark.parametrize("content", ["[", "3", "[3]", '[{"points": 3}]', '[{"points": {"a": {"b": {"$": "x"}}}}]'])
def test_a_damaged_file_is_named(work: Path, content: str) -> None:
    exp = swept()
    file = exp.directory / "sweeps.json"
    assert len(json.loads(file.read_text())[0]["points"]) == 4
    file.write_text(content)
    with pytest.raises(run.NemoRunError, match=r"sweeps\.json"):
        exp.compare()
