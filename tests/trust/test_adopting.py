"""Whose an experiment is: the mark and its key, and adopting what was received."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ReceivedExperimentError, StoreError
from nemo_run.run import adopting, catalog
from nemo_run.run.ownership import Ownership
from nemo_run.run.store import ExperimentStore
from tests.support import bash
from tests.trust.conftest import Received


def launched(title: str = "own") -> ExperimentStore:
    with run.Experiment(title, clean_mode=True) as exp:
        exp.add(bash("echo said"), name="job")
        exp.run()
    return ExperimentStore(exp.directory)


def key(store: ExperimentStore) -> Path:
    return store.path.parents[1] / f".key-{os.geteuid()}"


def test_the_key_is_made_once_and_for_its_user_only(work: Path) -> None:
    first = launched()
    content = key(first).read_bytes()
    assert len(content) == 32
    assert stat.S_IMODE(key(first).stat().st_mode) == 0o600
    second = launched()
    assert key(second).read_bytes() == content
    assert content not in b"".join(path.read_bytes() for path in second.path.rglob("*") if path.is_file())
    assert first.is_ours
    assert second.is_ours


@pytest.mark.parametrize("damage", ["shared", "link", "short", "gone", "fifo"])
def test_a_key_that_others_may_know_marks_nothing(damage: str, work: Path, tmp_path: Path) -> None:
    store = launched()
    path, elsewhere = key(store), tmp_path / "elsewhere"
    shutil.copy(path, elsewhere)
    if damage == "shared":
        path.chmod(0o640)
    elif damage == "short":
        path.write_bytes(b"x")
    else:
        path.unlink()
        if damage == "link":
            path.symlink_to(elsewhere)
        elif damage == "fifo":
            os.mkfifo(path)
    assert not ExperimentStore(store.path).is_ours
    if damage == "gone":
        assert launched().is_ours
        assert not ExperimentStore(store.path).is_ours
    else:
        with pytest.raises(StoreError, match=r"\.key-.*only this user can read"):
            launched()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")
@pytest.mark.parametrize("part", ["key", "folder"])
def test_what_another_user_owns_is_not_ours(part: str, work: Path) -> None:
    store = launched()
    os.chown(key(store) if part == "key" else store.path, 12345, 12345)
    assert not ExperimentStore(store.path).is_ours
    if part == "folder":
        with pytest.raises(ReceivedExperimentError, match="another user's folder"):
            adopting.prepare(ExperimentStore(store.path))


@pytest.mark.parametrize(
    ("name", "field"), [("experiment.json", "title"), ("mark.json", "mark"), ("job/plan.json", "job_id")]
)
def test_a_changed_file_is_not_acted_on(name: str, field: str, work: Path) -> None:
    store = launched()
    document = json.loads((store.path / name).read_text())
    document[field] = "0" * 64 if field == "mark" else "x"
    (store.path / name).write_text(json.dumps(document))
    with pytest.raises(ReceivedExperimentError, match=f"nemorun experiment adopt {store.id}"):
        run.Experiment.from_id(store.id).rerun()


@pytest.mark.parametrize("name", ["job/task.json", "job/scripts/job.sh", "environment.json", "provenance.json"])
def test_a_changed_file_is_not_run_again(name: str, work: Path) -> None:
    store = launched()
    with (store.path / name).open("a") as file:
        file.write("\n")
    with pytest.raises(ReceivedExperimentError, match=name):
        run.Experiment.from_id(store.id).rerun()
    if name == "job/task.json":
        with pytest.raises(ReceivedExperimentError, match=name):
            print(run.Experiment.from_id(store.id).jobs[0].task)


def test_a_mark_is_of_one_experiment(work: Path) -> None:
    store = launched()
    copy = store.path.with_name("own_20200101_000000")
    shutil.copytree(store.path, copy)
    assert ExperimentStore(store.path).is_ours
    assert not ExperimentStore(copy).is_ours


def test_handles_that_somebody_else_wrote_are_not_asked_for(work: Path) -> None:
    """An experiment that was given away came back with the handle of another job of ours."""
    store = launched()
    (store.path / "summary.json").unlink()
    state = json.loads((store.path / "job/state.json").read_text())
    state["tasks"][0] |= {"state": "RUNNING", "ended": None, "handle": f"local://{launched().path}/job/attempts/1"}
    (store.path / "job/state.json").write_text(json.dumps(state))
    exp = run.Experiment.from_id(store.id)
    assert exp.progress()["job"].reason == "received: not asked"
    with pytest.raises(ReceivedExperimentError):
        exp.cancel("job")


def test_adopting_shows_what_it_would_connect_to_and_run_and_asks(received: Received) -> None:
    tunnel = {"kind": "ssh", "host": "login.example.org", "user": "me", "pre_command": "touch \x1b[31mx"}
    received.is_running("slurm", {"tunnel": tunnel}, "slurm://1/x/attempts/1", folder="/x")
    done = received.nemorun("experiment", "adopt", received.id)
    assert done.returncode != 0  # there is nobody to ask
    for shown in ("login.example.org", r"touch \u001b[31mx", "slurm://1/x/attempts/1", "job.sh", received.id):
        assert shown in done.stdout
    assert "\x1b" not in done.stdout
    assert not Ownership(received.folder).is_ours


def test_what_was_adopted_can_be_run_again_here(received: Received) -> None:
    """It names the folder in which it was launched, which is not this one."""
    assert received.nemorun("experiment", "adopt", received.id, "--yes").returncode == 0
    again = received.nemorun("experiment", "rerun", received.id)
    assert again.returncode == 0, again.stderr
    assert "SUCCEEDED" in again.stdout
    status = json.loads(received.nemorun("experiment", "status", received.id, "--json").stdout)
    assert status["received"] is False
    assert str(received.folder) in status["jobs"]["job"]["handle"]


@pytest.mark.parametrize("handle", ["local:///etc", "slurm://--me/x/attempts/1", "local://{folder}/../x/attempts/1"])
def test_a_handle_that_leads_elsewhere_is_not_adopted(handle: str, received: Received) -> None:
    received.is_running("local", {}, handle.format(folder=received.folder))
    done = received.nemorun("experiment", "adopt", received.id, "--yes")
    assert done.returncode != 0
    assert "is not the handle of its attempt 1" in done.stderr
    assert not (received.folder / "mark.json").exists() or not received_is_ours(received)


def received_is_ours(received: Received) -> bool:
    return bool(json.loads(received.nemorun("experiment", "list", "--json").stdout)[0]["received"] is False)


@pytest.mark.parametrize("path", ["job/scripts/job.sh", "job/plan.json", "environment.json"])
def test_a_link_among_its_files_is_not_adopted(path: str, received: Received) -> None:
    (received.top / "elsewhere").write_text("{}")
    (received.folder / path).unlink()
    (received.folder / path).symlink_to(received.top / "elsewhere")
    done = received.nemorun("experiment", "adopt", received.id, "--yes")
    assert done.returncode != 0
    assert "is a link" in done.stderr


def test_all_of_a_home_are_adopted_at_once(received: Received) -> None:
    copy = received.folder.with_name("got_20200101_000000")
    shutil.copytree(received.folder, copy)
    (copy / "job/plan.json").write_text("{")
    done = received.nemorun("experiment", "adopt", "--all", "--yes")
    assert done.returncode == 0
    assert "got_20200101_000000 is left as it is" in done.stderr
    rows = {row["id"]: row["received"] for row in json.loads(received.nemorun("experiment", "list", "--json").stdout)}
    assert rows.pop("got_20200101_000000") is True
    assert list(rows.values()) == [False]


def test_what_is_driven_is_not_adopted(work: Path) -> None:
    store = launched()
    with store.driving(), pytest.raises(run.NemoRunError, match="is being driven"):
        adopting.prepare(ExperimentStore(store.path))


def test_ids_of_one_title_and_second_differ(work: Path, tmp_path: Path) -> None:
    ids = {catalog.planned("one").name for _ in range(200)}
    assert len(ids) == 200
    assert all(one.rpartition("_")[2].isdecimal() for one in ids)


def test_adopting_shows_whom_it_tells_and_names_what_can_run_anything(received: Received) -> None:
    told = [{"url": "", "command": ["touch", "/tmp/\x1b[31mx"], "when": "end"}]
    (received.folder / "notify.json").write_text(json.dumps(told))
    shown = received.nemorun("experiment", "adopt", received.id).stdout
    assert '"touch", "/tmp/\\u001b[31mx"' in shown
    assert "scripts/job.sh" in shown


def test_what_was_put_beside_the_launched_files_is_not_run_again(work: Path, tmp_path: Path) -> None:
    store = launched()
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("mine")
    (store.path / "job/scripts/link").symlink_to(tmp_path / "private")
    (store.path / "job/scripts/added.sh").write_text("echo added")
    again = run.Experiment.from_id(store.id).rerun()
    assert [path.name for path in (again.directory / "job/scripts").iterdir()] == ["job.sh"]
