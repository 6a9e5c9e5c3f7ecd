"""A disk that is full, or that nothing can be written to (H13)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import StoreError
from tests.support import bash, eventually, states

pytestmark = pytest.mark.needs("root")


@pytest.fixture(autouse=True)
def small_disk(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of a few hundred kilobytes, with the home on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k,mode=700", "tmpfs", str(disk)], check=True)
    monkeypatch.setenv("NEMORUN_HOME", str(disk / "home"))
    monkeypatch.chdir(tmp_path)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def launch(name: str) -> run.Experiment:
    with run.Experiment(name, clean_mode=True) as exp:
        exp.add(bash("echo said"), name="t")
        exp.run()
    return exp


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    filler = disk / "filler"
    fd = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except OSError:
        return filler
    finally:
        os.close(fd)


def whole_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.json")}


def test_a_full_disk_is_told_and_what_is_there_stays_readable(
    small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = launch("before")
    kept = whole_files(before.directory)
    filler = fill(small_disk)
    with pytest.raises(StoreError, match=r"cannot be (written|created): No space left on device") as caught:
        launch("full")
    assert str(small_disk / "home") in str(caught.value)

    past = run.Experiment.from_id(before.id)
    assert states(past) == {"t": "SUCCEEDED"}
    past.logs("t")
    assert "said" in capfd.readouterr().out
    assert whole_files(before.directory) == kept
    filler.unlink()
    assert states(launch("after")) == {"t": "SUCCEEDED"}
    assert not list((small_disk / "home").rglob("*.tmp"))


def test_a_disk_that_fills_while_a_job_runs(small_disk: Path, tmp_path: Path) -> None:
    """How the job ended is written once there is room again."""
    with run.Experiment("filling", clean_mode=True) as exp:
        exp.add(bash(f"touch begun; while [ ! -e go ]; do sleep 0.05; done; rm {small_disk}/filler"), name="t")
        exp.run(detach=True)
    past = run.Experiment.from_id(exp.id)
    eventually((tmp_path / "begun").exists)
    fill(small_disk)
    (tmp_path / "go").touch()
    past.wait()
    if states(past)["t"] != "SUCCEEDED":  # the controller may have met the full disk, and given up with an error
        past._quiet = True
        past.resume()
    assert states(past) == {"t": "SUCCEEDED"}


def test_a_home_that_cannot_be_written_to(small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = launch("before")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        launch("refused")
    assert os.environ["NEMORUN_HOME"] in str(caught.value)
    past = run.Experiment.from_id(before.id)
    assert states(past) == {"t": "SUCCEEDED"}
    past.status()
    past.logs("t")
    assert "said" in capfd.readouterr().out
