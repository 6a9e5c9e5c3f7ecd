"""What is kept of an experiment: configuration, logs, artifacts, provenance; and running it again from that."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError
from nemo_run.run import artifacts, catalog
from nemo_run.run.compare import compare
from nemo_run.run.housekeeping import prune
from nemo_run.run.store import ExperimentStore
from tests.support import bash

LEAVE = """
echo kept > "$NEMO_RUN_ARTIFACTS/a.txt"
mkdir -p ckpt/deep && echo one > ckpt/1.pt && echo two > ckpt/deep/2.pt && echo no > ckpt/notes.txt
"""


def store_of(experiment: run.Experiment) -> ExperimentStore:
    return catalog.find(experiment.id)


# ------------------------------------------------------------------------------------------------- artifacts


@pytest.mark.parametrize("code", [0, 3])
def test_artifacts_are_collected_whether_a_task_succeeds_or_fails(code: int, work: Path) -> None:
    with run.Experiment("artifacts") as exp:
        exp.add(bash(f"{LEAVE}\nexit {code}"), name="leave", artifacts=["ckpt/**/*.pt"])
        exp.add(bash("true"), name="nothing")
        exp.run()
    found = {artifact.path: artifact for artifact in exp.artifacts()}
    assert sorted(found) == ["a.txt", "ckpt/1.pt", "ckpt/deep/2.pt"]
    assert found["a.txt"].size == 5
    assert found["a.txt"].sha256 == hashlib.sha256(b"kept\n").hexdigest()
    assert exp.artifacts("nothing") == []
    manifest = json.loads((exp.directory / "leave" / "artifacts.json").read_text())
    assert {entry["path"] for entry in manifest} == set(found)

    copies = artifacts.copy_out(exp.artifacts(), work / "got")
    assert sorted(str(path.relative_to(work / "got" / "leave")) for path in copies) == sorted(found)
    assert (work / "got" / "leave" / "ckpt" / "deep" / "2.pt").read_text() == "two\n"


def test_an_artifact_that_changed_afterwards_is_told(work: Path) -> None:
    with run.Experiment("changed") as exp:
        exp.add(bash('echo kept > "$NEMO_RUN_ARTIFACTS/a.txt"'), name="leave")
        exp.run()
    Path(exp.artifacts()[0].file).write_text("other")
    with pytest.raises(ExperimentError, match=r"a\.txt: changed since it was collected"):
        artifacts.copy_out(exp.artifacts(), work / "got")


@pytest.mark.parametrize("path", ["../../out", "/tmp/abs/out", "a/../../../out", "link/out", ""])
def test_no_list_of_artifacts_copies_outside_of_the_folder(path: str, work: Path) -> None:
    with run.Experiment("received") as exp:
        exp.add(bash('echo kept > "$NEMO_RUN_ARTIFACTS/a.txt"'), name="leave")
        exp.run()
    outside = work / "outside"
    outside.mkdir()
    (work / "got" / "leave").mkdir(parents=True)
    (work / "got" / "leave" / "link").symlink_to(outside)
    manifest = exp.directory / "leave" / "artifacts.json"
    (good,) = json.loads(manifest.read_text())
    manifest.write_text(json.dumps([good, {**good, "path": path.replace("/tmp/abs", str(outside))}]))
    with pytest.raises(ExperimentError, match="nothing was copied"):
        artifacts.copy_out(exp.artifacts(), work / "got")
    assert [str(p.relative_to(work)) for p in work.rglob("*") if p.name in ("out", "a.txt")] == []


def test_no_file_that_a_list_or_a_link_names_elsewhere_is_copied(work: Path) -> None:
    with run.Experiment("received") as exp:
        exp.add(bash('echo kept > "$NEMO_RUN_ARTIFACTS/a.txt"'), name="leave")
        exp.run()
    (work / "secret").write_text("hush\n")
    manifest = exp.directory / "leave" / "artifacts.json"
    (good,) = json.loads(manifest.read_text())
    manifest.write_text(json.dumps([{**good, "file": str(work / "secret")}]))
    (copy,) = artifacts.copy_out(exp.artifacts(), work / "got")
    assert copy.read_text() == "kept\n"
    kept = Path(good["file"])
    kept.unlink()
    kept.symlink_to(work / "secret")
    with pytest.raises(ExperimentError, match="is a link"):
        artifacts.copy_out(exp.artifacts(), work / "got2")
    assert not (work / "got2").exists()


def test_artifacts_of_a_job_with_any_name_are_copied_below_the_folder(work: Path) -> None:
    with run.Experiment("names") as exp:
        exp.add(bash('echo kept > "$NEMO_RUN_ARTIFACTS/a.txt"'), name="../../up")
        exp.run()
    (copy,) = artifacts.copy_out(exp.artifacts(), work / "got")
    assert copy.resolve().is_relative_to(work / "got")


def test_members_of_a_group_have_artifacts_of_their_own() -> None:
    with run.Experiment("group") as exp:
        exp.add([bash('echo $0 > "$NEMO_RUN_ARTIFACTS/x"'), bash('echo 22 > "$NEMO_RUN_ARTIFACTS/x"')], name="pair")
        exp.run()
    assert {artifact.task for artifact in exp.artifacts("pair")} == {"pair/0", "pair/1"}


# ------------------------------------------------------------------------------------------------- provenance


def test_provenance_tells_who_where_and_with_what_but_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "hush-1", "lr=1", "wandb.HF_TOKEN=hush-2"])
    executor = run.LocalExecutor(env_vars={"MY_TOKEN": "hush-3", "SEEN": "yes"})
    with run.Experiment("who", executor=executor) as exp:
        exp.add(bash('test "$MY_TOKEN" = hush-3', env={"DB_PASSWORD": "hush-4"}), name="t")
        exp.run(check=True)
    provenance = store_of(exp).read_provenance()
    assert provenance["argv"] == ["train.py", "--api-key", "****", "lr=1", "wandb.HF_TOKEN=****"]
    assert {"user", "host", "cwd", "python", "packages", "code", "nemo_run"} <= set(provenance)
    assert "fiddle" in provenance["packages"]
    for shown in ("provenance.json", "experiment.json", "t/state.json"):
        assert "hush" not in (exp.directory / shown).read_text()


def test_the_code_of_a_script_that_is_beside_the_current_folder(work: Path) -> None:
    scripts, other = work.parent / "scripts", work.parent / "other"
    for folder in (scripts, other):
        folder.mkdir()
        (folder / "launch.py").write_text(
            "import nemo_run as run\nrun.run(run.Script(inline='true'), executor=run.LocalExecutor(), name='beside')\n"
        )
    subprocess.run([sys.executable, "../scripts/launch.py"], check=True, cwd=work)
    store = catalog.latest("beside")
    (code,) = [entry for entry in store.read_provenance()["code"] if entry["kind"] == "files"]
    assert code["root"] == str(scripts)
    with tarfile.open(store.path / code["archive"]) as archive:
        assert archive.getnames() == ["launch.py"]


# ------------------------------------------------------------------------------------------------- running again

HELPER = """
def work():
    print("this is the {age} code")
"""

DRIVER = """
import helper
import nemo_run as run

def own():
    print("driver and helper:")
    helper.work()

if __name__ == "__main__":
    with run.Experiment("aged", executor=run.LocalExecutor()) as exp:
        first = exp.add(helper.work, name="helper")
        exp.add(own, name="own", dependencies=[first])
        exp.add(run.Script(path="script.sh"), name="script")
        exp.run(check=True)
"""


def write(folder: Path, age: str) -> None:
    (folder / "helper.py").write_text(HELPER.format(age=age))
    (folder / "script.sh").write_text(f"echo this is the {age} script; cat data.txt")
    (folder / "data.txt").write_text(f"{age} data\n")


def git(*command: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    subprocess.run(["git", *who, *command], check=True, capture_output=True)


def log_of(exp: run.Experiment, job: str) -> str:
    return (exp.directory / job / "attempts" / "1" / "log").read_text()


@pytest.mark.parametrize("kept_in", ["no repository", "a commit", "uncommitted changes", "untracked files"])
def test_a_rerun_has_the_code_of_its_day_and_the_data_of_today(kept_in: str, work: Path) -> None:
    (work / "driver.py").write_text(DRIVER)
    if kept_in != "no repository":
        (work / ".gitignore").write_text("data.txt\n__pycache__\n")
        git("init", "-q")
        git("add", "driver.py", ".gitignore")
        write(work, "older")
        if kept_in != "untracked files":
            git("add", "helper.py", "script.sh")
        git("commit", "-q", "-m", "x")
    if kept_in != "a commit":
        write(work, "old")
    subprocess.run([sys.executable, "driver.py"], check=True, capture_output=True)
    age = "older" if kept_in == "a commit" else "old"
    old = run.Experiment.from_title("aged")
    assert f"this is the {age} code" in log_of(old, "helper")
    write(work, "new")

    again = old.rerun()
    again.raise_for_failure()
    assert again.id != old.id
    assert log_of(again, "helper") == log_of(old, "helper")
    assert log_of(again, "own") == log_of(old, "own")
    assert log_of(again, "script") == f"this is the {age} script\nnew data\n"
    assert store_of(again).read_provenance()["rerun_of"] == old.id
    once_more = again.rerun()
    assert log_of(once_more, "own") == log_of(old, "own")


def test_packaged_code_is_what_a_task_runs_in_and_is_run_again(work: Path) -> None:
    write(work, "old")
    packager = run.PatternPackager(include_pattern=str(work / "*"), relative_path=str(work))
    with run.Experiment("packaged", executor=run.LocalExecutor(packager=packager)) as exp:
        exp.add(run.Script(path="script.sh"), name="script")
        exp.add(bash('python3 -c "import helper; helper.work()"'), name="import")
        exp.run(check=True)
    write(work, "new")
    again = run.Experiment.from_id(exp.id).rerun()
    again.raise_for_failure()
    assert log_of(again, "script") == log_of(exp, "script") == "this is the old script\nold data\n"
    assert log_of(again, "import") == log_of(exp, "import") == "this is the old code\n"


# ------------------------------------------------------------------------------------------------- comparing, deleting


def test_two_experiments_are_compared_without_their_code(work: Path) -> None:
    def launch(size: int, text: str) -> run.Experiment:
        with run.Experiment("compared") as exp:
            exp.add(run.Partial(dict, size=size, same=1), name="a")
            exp.add(bash(text), name="b", dependencies=["a"])
            exp.run(check=True)
        return exp

    old, new = launch(1, "true"), launch(2, "true # other")
    changes = {change.path: (change.old, change.new) for change in compare(store_of(new), store_of(old)).changes}
    assert changes == {"jobs.a.config.size": (1, 2), "jobs.b.config.inline": ("true", "true # other")}
    assert not compare(store_of(new), store_of(new)).changes


def test_pruning_takes_what_is_old_and_has_ended() -> None:
    with run.Experiment("old", clean_mode=True) as ended:
        ended.add(bash("true"), name="t")
        ended.run()
    with run.Experiment("old", clean_mode=True) as runs:
        runs.add(bash("sleep 600"), name="t")
        runs.run(detach=True)
    assert prune(older_than=3600) == ([], {})
    deleted, kept = prune(older_than=-1)
    assert deleted == [ended.id]
    assert list(kept) == [runs.id]
    assert "may still run" in kept[runs.id] or "still being driven" in kept[runs.id]
    runs.cancel_jobs()
    assert not ended.directory.exists()
