"""Ids that users give: two machines or users may give the same one, and neither takes the other's job for its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.run import catalog


def plan_of(experiment_id: str | None, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the plan that a machine makes which was never used before."""
    shutil.rmtree(home, ignore_errors=True)
    monkeypatch.setenv("NEMORUN_HOME", str(home))
    executor = run.KubernetesExecutor(namespace="ml", image="busybox", workdir_pvc="data", packager=run.Packager())
    with run.Experiment("train", id=experiment_id, executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="job")
        exp.dryrun(log=False, delete_exp_dir=False)
    found: dict[str, Any] = json.loads(next(home.rglob("plan.json")).read_text())
    return found


def test_machines_that_give_the_same_id_make_other_pods_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (plan_of("nightly", tmp_path / "home", monkeypatch) for _ in range(2))
    assert one["directory"] == other["directory"]
    assert one["spec"]["name"] != other["spec"]["name"]
    assert one["spec"]["folder"] != other["spec"]["folder"]


def test_an_id_of_ours_is_random_enough() -> None:
    assert catalog.launch_text(catalog.create("train").id) == ""
    assert catalog.launch_text("nightly") != catalog.launch_text("nightly")
    assert catalog.launch_text("train_20261201_050252")
