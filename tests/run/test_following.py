"""Metrics that a task writes elsewhere: what is new comes, and a file that begins anew replaces what is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_run.core.tunnel.client import LocalTunnel
from nemo_run.run.following import fetch_now, take_in


def brought(here: Path, *there: Path) -> None:
    """Bring what is new of files of one machine into a folder for each."""
    way = LocalTunnel(job_dir="")
    wanted = [(lambda task=task: (way, str(task)), here / task.name / "artifacts") for task in there]
    for folder, (start, piece) in fetch_now(wanted).items():
        take_in(folder, start, piece)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there" / "it's a task" / "artifacts").mkdir(parents=True)
    return tmp_path / "there" / "it's a task"


def test_what_is_new_comes_and_what_begins_anew_replaces(tmp_path: Path, there: Path) -> None:
    source, copy = there / "artifacts" / "metrics.jsonl", tmp_path / there.name / "artifacts" / "metrics.jsonl"
    brought(tmp_path, there)
    assert not copy.exists()
    for text in ("a\n", "a\n" * 100, "a\n" * 100 + "b", "a\n" * 100 + "bc\n", "other\n", "other\n" * 1000):
        source.write_text(text)
        brought(tmp_path, there)
        assert copy.read_text() == text
    source.unlink()
    brought(tmp_path, there)
    assert copy.read_text() == text


def test_one_command_brings_those_of_several_tasks(tmp_path: Path, there: Path) -> None:
    other, without = there.parent / "other", there.parent / "without"
    (other / "artifacts").mkdir(parents=True)
    (there / "artifacts" / "metrics.jsonl").write_bytes(b"\0\xff\n")
    (other / "artifacts" / "metrics.jsonl").write_text("of the other\n")
    brought(tmp_path, there, without, other)
    assert (tmp_path / there.name / "artifacts" / "metrics.jsonl").read_bytes() == b"\0\xff\n"
    assert (tmp_path / "other" / "artifacts" / "metrics.jsonl").read_text() == "of the other\n"
    assert not (tmp_path / "without").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path, there: Path) -> None:
    (there / "artifacts" / "metrics.jsonl").write_text("new\n")
    (tmp_path / "target").write_text("old\n")
    folder = tmp_path / there.name / "artifacts"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").symlink_to(tmp_path / "target")
    brought(tmp_path, there)
    assert (tmp_path / "target").read_text() == "old\n"


class Unused(LocalTunnel):
    """A way that nothing is to be asked on."""

    def execute(self, command: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        pytest.fail(f"asked: {command}")


def test_a_task_that_writes_here_is_not_asked(there: Path) -> None:
    (there / "artifacts" / "metrics.jsonl").write_text("x\n")
    assert fetch_now([(lambda: (Unused(job_dir=""), str(there)), there / "artifacts")]) == {}
