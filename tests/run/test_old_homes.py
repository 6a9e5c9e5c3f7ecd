"""Homes of NVIDIA's NeMo-Run: read as they are, and never changed.

``home_of_nemo_run`` was made by nemo_run 0.11.1 with the scripts that it stored as ``__main__.py``; the Slurm jobs were
submitted to an ``sbatch`` that printed a number.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import ForeignExperimentError, StoreError
from nemo_run.run import catalog, housekeeping
from nemo_run.run.overview import overview
from tests.support import bash

LOCAL = "nightly_1796052993458614160"
SLURM = "on the cluster_1796053000571409621"


def _content(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home, in use."""
    copy = shutil.copytree(Path(__file__).parent / "home_of_nemo_run", tmp_path / "home")
    monkeypatch.setenv("NEMORUN_HOME", str(copy))
    return copy


def test_its_experiments_are_listed_with_ours_in_the_order_of_their_age(home: Path) -> None:
    with run.Experiment("nightly", clean_mode=True) as ours:
        ours.add(bash("true"), name="new")
        ours.run()
    assert sorted(run.Experiment.catalog()) == sorted([LOCAL, SLURM, ours.id])
    assert run.Experiment.catalog().index(LOCAL) < run.Experiment.catalog().index(SLURM)
    assert sorted(run.Experiment.catalog("nightly")) == sorted([LOCAL, ours.id])
    assert run.Experiment.catalog("on the cluster") == [SLURM]
    assert run.Experiment.from_id(LOCAL).id == LOCAL


def test_an_experiment_that_ran_on_this_machine_tells_how_it_ended(home: Path) -> None:
    exp = run.Experiment.from_title("nightly")
    assert (exp.id, exp.title) == (LOCAL, "nightly")
    document = exp.status(return_dict=True)
    assert document is not None
    ends = {name: (job["status"].name, job["exit_code"], job["executor"]) for name, job in document.items()}
    assert ends == {
        "alpha": ("SUCCEEDED", 0, "LocalExecutor"),
        "beta": ("FAILED", 3, "LocalExecutor"),
        "pair": ("SUCCEEDED", 0, "LocalExecutor"),
    }
    assert document["beta"]["dependencies"] == ["alpha"]
    assert document["beta"]["handle"].startswith("local_persistent://nemo_run/beta-")
    assert document["beta"]["local_dir"] == str(exp.directory / "beta")
    assert [job.state.name for job in exp.jobs] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert exp.jobs[1].launched
    assert repr(exp.jobs[1]) == "<StoredJob 'beta'>"
    assert exp.results()["beta"].log_tail == ("oops",)
    with pytest.raises(run.errors.JobFailedError, match="beta"):
        exp.raise_for_failure()


def test_its_logs_are_read(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    exp = run.Experiment.from_id(LOCAL)
    exp.logs("alpha")
    exp.logs("pair")
    assert capfdbinary.readouterr().out == b"alpha/0 hello from alpha\npair/0/0 first\npair/1/0 second\n"
    exp.logs("beta", rank=0, regex="oo")
    assert capfdbinary.readouterr().out == b"beta/0 oops\n"
    with pytest.raises(StoreError, match="no log of rank 1 of 'beta'"):
        exp.logs("beta", rank=1)


def test_a_slurm_job_that_may_go_on_is_unknown_and_no_cluster_is_asked(home: Path) -> None:
    exp = run.Experiment.from_title("on the cluster")
    assert exp.id == SLURM
    document = exp.status(return_dict=True)
    assert document is not None
    train = document["train"]
    assert (train["status"].name, train["executor"], train["job_id"]) == ("UNKNOWN", "SlurmExecutor", "nemo_run/4711")
    assert train["reason"] == "NeMo-Run saw it SUBMITTED last; ask Slurm: sacct -j 4711"
    assert document["pair"]["dependencies"] == ["train"]
    assert exp.wait()["pair"].state.name == "UNKNOWN"


def test_the_log_of_a_slurm_job_is_read_where_it_was_fetched(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    exp = run.Experiment.from_id(SLURM)
    with pytest.raises(StoreError, match=r"look for it on this machine in /home/ada/cluster/.*/train"):
        exp.logs("train")
    (exp.directory / "train" / "sbatch_acct-acct.train_4711.out").write_text("trained\n")
    exp.logs("train")
    assert capfdbinary.readouterr().out == b"train/0 trained\n"


def test_a_job_on_another_host_is_named_with_its_host_and_no_connection_is_made(home: Path) -> None:
    """The job was stored by nemo_run 0.11.1 with an ``SSHTunnel`` to a host that is not there, when it ran."""
    folder = home / "experiments" / "t" / "t_1700000000"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "job_of_nemo_run_over_ssh.json", folder / "_TASKS")
    exp = run.Experiment.from_id("t_1700000000")
    train = exp.progress()["train"]
    assert train.state.name == "UNKNOWN"
    assert train.reason == "NeMo-Run saw it RUNNING last; ask Slurm on login.example.org: sacct -j 99"
    with pytest.raises(StoreError, match=r"look for it on login\.example\.org in /scratch/ada/t/t_1/train"):
        exp.logs("train")


def _nemorun(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nemo_run", "experiment", *command], capture_output=True, text=True, check=False
    )


def test_commands_look_at_it_and_change_nothing(home: Path) -> None:
    before = _content(home)
    assert "2 succeeded, 1 failed" in _nemorun("list").stdout
    assert "sacct -j 4712" in _nemorun("status", SLURM).stdout
    assert _nemorun("logs", "nightly", "0").stdout == "alpha/0 hello from alpha\n"
    pruned = _nemorun("prune", "--older-than", "0s", "--yes")
    assert f"kept: experiment {LOCAL!r} was made by NVIDIA's NeMo-Run" in pruned.stderr
    cancelled = _nemorun("cancel", "nightly")
    assert cancelled.returncode == 1
    assert "not cancelled" in cancelled.stderr
    assert _content(home) == before


@pytest.mark.parametrize(
    "act",
    [
        lambda exp: exp.cancel("alpha"),
        lambda exp: exp.jobs[0].cancel(),
        lambda exp: exp.resume(),
        lambda exp: exp.rerun(),
        lambda exp: exp.reset(),
        lambda exp: exp.tasks,
        lambda exp: exp.jobs[0].executor,
        lambda exp: exp.services("alpha"),
        lambda exp: housekeeping.delete(catalog.find(exp.id)),
        lambda exp: catalog.find(exp.id).delete(),
    ],
    ids=["cancel", "job-cancel", "resume", "rerun", "reset", "tasks", "executor", "services", "delete", "store-delete"],
)
def test_what_would_change_it_is_refused_and_nothing_is_written(home: Path, act: Callable[[Any], Any]) -> None:
    before = _content(home)
    with pytest.raises(ForeignExperimentError, match=r"made by NVIDIA's NeMo-Run 0\.11\.1.*launch its script again"):
        act(run.Experiment.from_id(LOCAL))
    assert _content(home) == before


def test_it_is_never_pruned(home: Path) -> None:
    before = _content(home)
    deleted, kept = housekeeping.prune(older_than=-1e9)
    assert (deleted, sorted(kept)) == ([], [LOCAL, SLURM])
    assert "not deleted" in kept[LOCAL]
    assert _content(home) == before


def test_looking_runs_nothing_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    """Names that are stored, the task itself and the script are as bad as can be."""
    evil = tmp_path / "evil"
    module = home / "evil_module.py"
    module.write_text(f"open({str(evil)!r}, 'w')\n")
    folder = home / "experiments" / "nightly" / LOCAL
    (folder / "__main__.py").write_text(module.read_text())

    def turn(document: dict[str, Any]) -> None:
        for one in document["objects"].values():
            if isinstance(one["type"], dict):
                one["type"]["module"] = "evil_module" if one["type"]["name"] == "Config" else one["type"]["module"]

    _rewrite(folder / "_TASKS", turn, task="cos\nsystem\n(S'touch evil'\ntR.")
    before = _content(home)
    exp = run.Experiment.from_id(LOCAL)
    exp.status()
    exp.logs("alpha")
    exp.wait()
    assert exp.progress()["beta"].state.name == "FAILED"
    assert not evil.exists()
    assert _content(home) == before


def _rewrite(path: Path, turn: Callable[[dict[str, Any]], None], task: Any = None) -> None:
    jobs = json.loads(path.read_text())
    for job in jobs:
        document = json.loads(zlib.decompress(base64.urlsafe_b64decode(job[0])))
        turn(document)
        job[:] = [base64.urlsafe_b64encode(zlib.compress(json.dumps(document).encode())).decode(), task]
    path.write_text(json.dumps(jobs))


def _name_the_job(name: Any) -> Callable[[dict[str, Any]], None]:
    def turn(document: dict[str, Any]) -> None:
        root = document["objects"][document["root"]["key"]]
        root["items"][0][1]["value"] = name

    return turn


def _folder_is(name: Any) -> Callable[[dict[str, Any]], None]:
    def turn(document: dict[str, Any]) -> None:
        for one in document["objects"].values():
            for item in one["items"]:
                if item[0] == "Attr(name='job_dir')":
                    item[1]["value"] = name

    return turn


def _turn_in_circles(document: dict[str, Any]) -> None:
    document["objects"] = {document["root"]["key"]: document["root"]}


@pytest.mark.parametrize(
    "turn",
    [
        _name_the_job(3),
        _name_the_job("\x1b[2J"),
        _name_the_job(None),
        _folder_is("/home/ada/.."),
        _folder_is(7),
        _turn_in_circles,
        lambda document: document.pop("objects"),
        lambda document: document["root"].update(key="nowhere"),
    ],
    ids=["number", "escape", "no-name", "parent", "number-folder", "circle", "no-objects", "nowhere"],
)
def test_what_is_not_as_it_should_be_is_damage(home: Path, turn: Callable[[dict[str, Any]], None]) -> None:
    _rewrite(home / "experiments" / "nightly" / LOCAL / "_TASKS", turn)
    with pytest.raises(StoreError, match=r"_TASKS: the file is damaged"):
        run.Experiment.from_id(LOCAL)


@pytest.mark.parametrize("text", ["", "{}", "[[1, 2]]", '["x"]', '[["AAAA", ""]]', '[["eJw=", ""]]', "[" * 100_000])
def test_a_damaged_file_hides_its_own_experiment_only(home: Path, text: str) -> None:
    (home / "experiments" / "nightly" / LOCAL / "_TASKS").write_text(text)
    with pytest.raises(StoreError, match="damaged"):
        run.Experiment.from_id(LOCAL)
    assert overview(catalog.find(LOCAL)).problem
    assert overview(catalog.find(SLURM)).jobs == {"UNKNOWN": 2}


def test_a_job_that_is_too_large_is_refused(home: Path) -> None:
    path = home / "experiments" / "nightly" / LOCAL / "_TASKS"
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * (100 << 20))).decode()
    path.write_text(json.dumps([[bomb, ""]]))
    with pytest.raises(StoreError, match="too large"):
        run.Experiment.from_id(LOCAL)
