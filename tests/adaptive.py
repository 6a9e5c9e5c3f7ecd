"""An adaptive sweep with pruning, whose launcher and controller are killed meanwhile: the same on every engine.

``NEMO_RUN_TRIALS`` and ``NEMO_RUN_KILLS`` make it larger.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import nemo_run as run
from tests.support import eventually

_MODULE = """\
import os, time
import nemo_run as run

def trial(x: float, marks: str, behind: float) -> dict[str, float]:
    with open(marks, "a") as file:
        file.write(f"{os.environ['NEMO_RUN_TASK']} {x!r}\\n")
    score = 1 - abs(x - 0.3)
    for step in range(2000 if score < behind else 5):
        run.log_metrics({"score": score}, step=step)
        time.sleep(0.1)
    if score < behind:
        raise RuntimeError("nobody has ended it")
    return {"score": score}
"""
_BEHIND = 0.75


def sweep_and_kill(
    executor: run.Executor, folder: Path, marks: Path, monkeypatch: pytest.MonkeyPatch, trials: int = 8, kills: int = 1
) -> run.Experiment:
    """Run a sweep to its end, and check that its study is what ran.

    Args:
        executor: Where its trials run.
        folder: Folder for the code that travels with them.
        marks: File that trials of the engine can write to.
        monkeypatch: That of the test.
        trials: How many trials.
        kills: How often who drives it is killed.
    """
    trials = int(os.environ.get("NEMO_RUN_TRIALS", trials))
    kills = int(os.environ.get("NEMO_RUN_KILLS", kills))
    work = folder / "code"
    work.mkdir()
    (work / "sweep_of_trials.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(str(work))
    monkeypatch.delitem(sys.modules, "sweep_of_trials", raising=False)
    task = run.Partial(importlib.import_module("sweep_of_trials").trial, marks=str(marks), behind=_BEHIND)
    marks.touch()
    marks.chmod(0o666)
    executor.packager = run.PatternPackager(include_pattern=str(work / "*.py"), relative_path=str(work))
    with run.Experiment("adaptive", executor=executor, skip_status_at_exit=True) as exp:
        exp.sweep(
            task, {"x": run.uniform(0, 1)}, sampler=optuna.samplers.TPESampler(seed=5, n_startup_trials=8),
            trials=trials, max_parallel=4, pruner=optuna.pruners.ThresholdPruner(lower=_BEHIND), objective="score",
        )  # fmt: skip
        exp.run(detach=True)
    _kill_again_and_again(exp, kills)
    exp.wait()
    _check(exp, marks, trials)
    return exp


def _kill_again_and_again(exp: run.Experiment, kills: int) -> None:
    """Kill who drives the experiment at any moment, and let another one go on."""
    source = random.Random(len(exp.id))
    driver: subprocess.Popen[bytes] | None = None
    for number in range(kills):
        time.sleep(source.uniform(1, 4))
        with contextlib.suppress(ProcessLookupError, KeyError, OSError):
            os.kill(int(exp._its_store.controller()["pid"]), signal.SIGKILL)
        if driver:
            driver.kill()
            driver.wait()
        eventually(lambda: not exp._its_store.is_driven())
        if number < kills - 1:
            resume = [sys.executable, "-m", "nemo_run", "experiment", "resume", exp.id]
            driver = subprocess.Popen(resume, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            eventually(lambda now=driver: exp._its_store.is_driven() or now.poll() is not None)  # type: ignore[misc]
    if kills:
        exp.resume(detach=True)


def _check(exp: run.Experiment, marks: Path, trials: int) -> None:
    """Check that each trial ran once and was told once, and that those that fell behind were ended."""
    lines = marks.read_text().splitlines()
    ran = dict(line.split() for line in lines)
    study = study_of(exp)
    told = {trial.user_attrs["job"]: trial for trial in study.trials}
    states = {name: one["status"].name for name, one in exp.status(return_dict=True).items()}
    assert len(lines) == len(ran) == len(told) == len(study.trials) == len(states) == trials
    for job, trial in told.items():
        x = trial.params["x"]
        is_behind = 1 - abs(x - 0.3) < _BEHIND
        assert ran[job] == repr(x)
        assert trial.state is (TrialState.PRUNED if is_behind else TrialState.COMPLETE)
        assert states[job] == ("CANCELLED" if is_behind else "SUCCEEDED")
    assert set(states.values()) == {"CANCELLED", "SUCCEEDED"}
    best = exp.compare()[0]
    assert (best.job, best.objective) == (study.best_trial.user_attrs["job"], study.best_value)
    assert best.objective == max(1 - abs(float(x) - 0.3) for x in ran.values())


def study_of(exp: run.Experiment) -> optuna.Study:
    """Read the study from its journal, as anybody does."""
    (journal,) = (exp.directory / "journals").iterdir()
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
