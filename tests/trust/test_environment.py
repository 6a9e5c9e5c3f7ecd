"""What the launching process had in its environment: tasks inherit it, and nobody else can read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.shared.inherited import read_environment, write_environment
from nemo_run.errors import StoreError
from nemo_run.run import adopting
from tests.support import bash, eventually
from tests.trust.conftest import Received

SECRET = "-".join(("hush", "hush", "4711"))  # the code that is recorded is this file, too
SAY = 'echo "said <$DEPLOY_TOKEN>" | tr h H'


def launched(title: str, *, fails: bool = False) -> run.Experiment:
    with run.Experiment(title, clean_mode=True) as exp:
        exp.add(bash(SAY + ("; exit 1" if fails else "")), name="job")
        exp.run()
    return exp


def log(exp: run.Experiment) -> str:
    return (exp.directory / "job/attempts/1/log").read_text()


def test_it_is_in_no_file_of_the_home_in_clear(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    exp = launched("inherits")
    assert "said <Hus" in log(exp)
    home = exp.directory.parents[2]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_it_is_inherited_again_when_the_experiment_is_run_again(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    exp = launched("again")
    monkeypatch.delenv("DEPLOY_TOKEN")
    again = run.Experiment.from_id(exp.id).rerun()
    eventually(lambda: again.wait()["job"].state.is_final)
    assert "said <Hus" in log(again)


def test_elsewhere_tasks_inherit_from_who_starts_them(monkeypatch: pytest.MonkeyPatch, received: Received) -> None:
    monkeypatch.setenv("NEMORUN_HOME", str(received.home))
    monkeypatch.setenv("DEPLOY_TOKEN", "my-own")
    store = run.Experiment.from_id(received.id)._its_store
    write_environment(store.path / "environment.json", {"DEPLOY_TOKEN": SECRET})
    (received.home / f"experiments/.key-{os.geteuid()}").unlink()  # it was sealed in the home of the sender
    adopting.adopt(adopting.prepare(store))
    assert read_environment(store.path / "environment.json")["DEPLOY_TOKEN"] == "my-own"
    assert run.Experiment.from_id(received.id).rerun().wait()["job"].state.name == "SUCCEEDED"


def test_a_changed_one_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "a/b/environment.json"
    file.parent.mkdir(parents=True)
    write_environment(file, {"A": "1", "B": "\udc80"})
    assert read_environment(file) == {"A": "1", "B": "\udc80"}
    text = file.read_text()
    for changed in (text[:40] + ("A" if text[40] != "A" else "B") + text[41:], text.replace('"\n}', 'x"\n}')):
        assert changed != text
        file.write_text(changed)
        assert "PATH" in read_environment(file)
        assert "A" not in read_environment(file)


@pytest.mark.parametrize("content", ["[]", "{", '{"A": 1}', '{"sealed": 1}'])
def test_a_damaged_one_is_an_error(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a/b/environment.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(StoreError, match=str(file)):
        read_environment(file)


def test_one_that_an_earlier_version_stored_is_read(tmp_path: Path) -> None:
    file = tmp_path / "environment.json"
    file.write_text('{"A": "1"}')
    assert read_environment(file) == {"A": "1"}
    assert read_environment("") == {}
