"""Adaptive sweeps, with the real Optuna: what the study knows is what ran, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import nemo_run as run
from nemo_run.errors import ExperimentBusyError, SweepError
from nemo_run.run.space import points, spaces_of
from tests.run import work as tasks
from tests.support import eventually

SPACE = {
    "x": run.uniform(0, 1),
    "kind": run.choice("flat", "steep", "fails"),
    "slope": run.uniform(0.1, 0.2, when={"kind": "steep"}),
}


def study_of(exp: run.Experiment, name: str = "trial") -> optuna.Study:
    backend = JournalFileBackend(str(exp.directory / "journals" / f"{name}.jsonl"))
    return optuna.load_study(study_name=name, storage=JournalStorage(backend))


def assert_the_study_is_what_ran(exp: run.Experiment, marks: Path, trials: int) -> None:
    """Each job ran once, with the values of its trial, and its end was told."""
    ran = dict(line.split() for line in marks.read_text().splitlines())
    assert len(marks.read_text().splitlines()) == len(ran) == trials
    study = study_of(exp)
    assert len(study.trials) == trials
    compared = {one.job: one for one in exp.compare()}
    for trial in study.trials:
        one = compared[trial.user_attrs["job"]]
        assert ran[one.job] == repr(one.parameters["x"]) == repr(trial.params["x"])
        assert ("slope" in one.parameters) is (one.parameters["kind"] == "steep")
        assert trial.state is (TrialState.COMPLETE if one.state == "SUCCEEDED" else TrialState.FAIL)
        assert trial.value == one.objective
    assert study.best_value == exp.compare()[0].objective
    assert study.best_trial.user_attrs["job"] == exp.compare()[0].job


def experiment(marks: Path, trials: int, **options: Any) -> run.Experiment:
    exp = run.Experiment("adaptive", executor=run.LocalExecutor(), skip_status_at_exit=True)
    task = run.Partial(tasks.trial, marks=str(marks))
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=4)
    exp.sweep(task, SPACE, sampler=sampler, trials=trials, objective="score", **options)
    return exp


def test_a_study_chooses_values_when_trials_start(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with experiment(marks, 10, max_parallel=2) as exp:
        exp.run()
    assert_the_study_is_what_ran(exp, marks, 10)
    assert max(spans_at_once(exp)) <= 2


def spans_at_once(exp: run.Experiment) -> list[int]:
    spans = [(one["started"], one["ended"]) for one in exp.status(return_dict=True).values()]
    return [sum(start < moment < end for start, end in spans) + 1 for moment, _ in spans]


def test_whoever_is_killed_the_study_is_what_ran(tmp_path: Path) -> None:
    marks, trials, kills = tmp_path / "marks", int(os.environ.get("NEMO_RUN_TRIALS", "24")), 6
    source = random.Random(4)
    with experiment(marks, trials, max_parallel=3) as exp:
        exp.run(detach=True)
    for _ in range(int(os.environ.get("NEMO_RUN_KILLS", kills))):
        time.sleep(source.uniform(0.2, 1.5))  # any moment will do
        with contextlib.suppress(ProcessLookupError, KeyError, OSError):
            os.kill(int(exp._its_store.controller()["pid"]), signal.SIGKILL)
        eventually(lambda: not exp._its_store.is_driven())
        if not all(one["status"].is_final for one in exp.status(return_dict=True).values()):
            with contextlib.suppress(ExperimentBusyError):
                exp.resume(detach=True)
    exp.wait()
    assert_the_study_is_what_ran(exp, marks, trials)


def test_trials_that_fall_behind_are_cancelled(tmp_path: Path) -> None:
    pruner = optuna.pruners.ThresholdPruner(lower=0.5)
    with run.Experiment("pruned", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        exp.sweep(
            run.Partial(tasks.falls_behind, go=str(tmp_path / "go")), {"x": run.uniform(0, 1)},
            sampler=optuna.samplers.RandomSampler(seed=3), pruner=pruner, trials=6, objective="score",
        )  # fmt: skip
        exp.run()
    trials = {one.user_attrs["job"]: one for one in study_of(exp, "falls_behind").trials}
    for job, status in exp.status(return_dict=True).items():
        behind = trials[job].params["x"] < 0.5
        assert trials[job].state is (TrialState.PRUNED if behind else TrialState.COMPLETE)
        assert status["status"].name == ("CANCELLED" if behind else "SUCCEEDED")
        assert status["reason"].startswith("pruned: score is behind") is behind
        assert behind or trials[job].intermediate_values == dict.fromkeys(range(5), trials[job].params["x"])
    assert {one.state for one in trials.values()} == {TrialState.PRUNED, TrialState.COMPLETE}


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with experiment(marks, 4) as exp:
        exp.run(detach=True)
    eventually(marks.exists)
    os.kill(int(exp._its_store.controller()["pid"]), signal.SIGKILL)
    eventually(lambda: not exp._its_store.is_driven())
    with (exp.directory / "journals" / "trial.jsonl").open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    exp.resume()
    assert_the_study_is_what_ran(exp, marks, 4)


def test_another_user_s_study_is_not_loaded(tmp_path: Path) -> None:
    with experiment(tmp_path / "marks", 2) as exp:
        exp.run()
    stored = next((exp.directory / "studies").iterdir())
    stored.write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "loaded") + b"'\ntR.")
    assert len(run.Experiment.from_id(exp.id).compare()) == 2
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sampler": "best"}, "a sampler of Optuna"),
        ({"sampler": 3}, "a sampler of Optuna"),
        ({"sampler": "tpe"}, "trials=50"),
        ({"sampler": "tpe", "trials": 5, "pruner": 1}, "a pruner of Optuna"),
        ({"sampler": "tpe", "trials": 5, "pruner": optuna.pruners.MedianPruner()}, "objective"),
        ({"sampler": "tpe", "trials": 5, "max_parallel": 0}, "at least one trial"),
    ],
)
def test_what_makes_no_study_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SweepError, match=says):
        run.Experiment("refused").sweep(run.Partial(tasks.trial), {"x": run.uniform(0, 1)}, **options)


def test_spaces_that_depend_on_others() -> None:
    space = {"kind": ["a", "b"], "n": run.choice(1, 2, when={"kind": "a"}), "m": run.choice(3, when={"n": [2, 5]})}
    found = list(points(spaces_of(space), "grid", None, 0))
    assert found == [{"kind": "a", "n": 1}, {"kind": "a", "n": 2, "m": 3}, {"kind": "b"}]
    assert all(point in found for point in points(spaces_of(space), "random", 30, 0))
    with pytest.raises(SweepError, match="has to stand before it"):
        spaces_of({"n": run.choice(1, when={"kind": "a"}), "kind": ["a"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "x,kind\n0.1,flat\n0.2,steep\n"),
        ("p.json", '[{"x": 0.1, "kind": "flat"}, {"x": 0.2, "kind": "steep"}]'),
        ("p.jsonl", '{"x": 0.1, "kind": "flat"}\n\n{"x": 0.2, "kind": "steep"}\n'),
        ("p.yaml", "- {x: 0.1, kind: flat}\n- {x: 0.2, kind: steep}\n"),
    ],
)
def test_points_are_listed_in_a_file(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    sweep = run.Experiment("listed").sweep(run.Partial(tasks.trial), str(tmp_path / name))
    assert list(sweep.points.values()) == [{"x": 0.1, "kind": "flat"}, {"x": 0.2, "kind": "steep"}]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.json", "{", "cannot be read"),
        ("p.json", "[1]", "a list of points"),
        ("p.csv", "x,y\n1\n", "shorter"),
        ("p.txt", "", "not from .txt"),
    ],
)
def test_a_file_without_points_is_refused(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SweepError, match=says):
        run.Experiment("listed").sweep(run.Partial(tasks.trial), str(tmp_path / name))
