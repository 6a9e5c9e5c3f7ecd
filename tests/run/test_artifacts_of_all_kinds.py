"""What can be collected arrives, and the rest is named: the rules, and this machine. Engines have own tests."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.shared import leftovers
from nemo_run.errors import ArtifactsLeftOutError, ExecutorError
from tests import kinds_of_artifacts


@pytest.mark.parametrize("direct", [False, True])
def test_all_kinds_here(direct: bool, work: Path) -> None:
    with run.Experiment("kinds", executor=run.LocalExecutor()) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run(direct=direct)
    kinds_of_artifacts.check(exp, "t", as_root=os.geteuid() == 0)


@pytest.mark.parametrize("direct", [False, True])
def test_services_can_be_announced(direct: bool, work: Path) -> None:
    with run.Experiment("services", executor=run.LocalExecutor()) as exp:
        exp.add(run.Script(inline='echo "{}" > "$NEMO_RUN_SERVICES/x.json"'), name="t")
        exp.run(direct=direct, check=True)
    assert [path.name for path in (exp.directory / "t" / "services").iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ({"l": "file"}, ""),
        ({"l": "deep/../file"}, ""),
        ({"l": "k", "k": "file"}, ""),
        ({"k": "deep", "l": "k/er"}, ""),
        ({"k": "deep", "l": "k/../file"}, ""),
        ({"l": "."}, ""),
        ({"l": "/there/file"}, ""),
        ({"l": "/there"}, ""),
        ({"l": "/thereabouts/file"}, "a link that leads out of the folder"),
        ({"k": "..", "l": "k/there/file"}, "a link that leads out of the folder"),
        ({"l": "deep/er/../../../x"}, "a link that leads out of the folder"),
        ({"l": "file/x"}, "a link to nothing"),
        ({"l": "k", "k": "l"}, "a link in a circle"),
        ({f"l{n}": f"l{n + 1}" for n in range(60)} | {"l": "l0", "l60": "file"}, "a link in a circle"),
    ],
)
def test_where_links_lead(links: dict[str, str], problem: str) -> None:
    found = leftovers.link_problems(links, ["file", "deep", "deep/er"], "/there")
    assert found.get("l", "") == problem


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("tar: ./a b: Cannot open: Permission denied", {"a b": "Permission denied"}),
        ("tar: ./d: Cannot savedir: Permission denied", {"d": "Permission denied"}),
        ("tar: can't open './a: b': Permission denied", {"a: b": "Permission denied"}),
        ("tar: ./s: socket ignored", {"s": "a socket"}),
        ("tar: ./s: Warning: Cannot stat: No such file or directory", {"s": "No such file or directory"}),
        ("tar: ./g: file changed as we read it", {"g": "changed while it was read"}),
        ("tar: ./g: File shrank by 5 bytes; padding with zeros", {"g": "changed while it was read"}),
        ("tar: ./g: File removed before we read it", {"g": "removed meanwhile"}),
        ("tar: Exiting with failure status due to previous errors", {}),
        ("Warning: Permanently added a host", {}),
        ("tar: something new", {"something new": "as tar says"}),
    ],
)
def test_what_tar_says(line: str, left: dict[str, str]) -> None:
    assert leftovers.complaints(f"{line}\n".encode()) == left


def test_a_file_that_grows_while_it_is_read_arrives_or_is_named(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "still").write_text("still")
    done = threading.Event()

    def grow() -> None:
        with (source / "grows").open("wb") as file:
            while not done.is_set():
                file.write(b"x" * 100_000)
                file.truncate(min(file.tell(), 50_000_000))

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        packed = subprocess.run(["sh", "-c", leftovers.PACK_ALL], cwd=source, capture_output=True, check=True).stdout
    finally:
        done.set()
        writer.join()
    left = leftovers.unpack_all(packed, target)
    assert (target / "still").read_text() == "still"
    assert (target / "grows").exists() or "grows" in left
    assert left.keys() <= {"grows", "."}


def test_what_came_before_a_break_is_kept(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("first", "second"):
            entry = tarfile.TarInfo(name)
            entry.size = 100_000
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    with pytest.raises(ExecutorError, match="incompletely"):
        leftovers.unpack(io.BytesIO(buffer.getvalue()[:150_000]), tmp_path / "target")
    assert (tmp_path / "target" / "first").stat().st_size == 100_000


def test_an_archive_writes_nowhere_else(tmp_path: Path) -> None:
    top = tmp_path / "top"
    target = top / "target"
    target.mkdir(parents=True)
    (target / "link").symlink_to(top)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../up", "/tmp/absolute", "link/through", "link", "good"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"text"))
    buffer.seek(0)
    left = leftovers.unpack(buffer, target)
    assert sorted(left) == ["../up", "/tmp/absolute", "link/through"]
    assert sorted(path.name for path in top.iterdir()) == ["target"]
    assert {path.name: path.read_text() for path in target.iterdir()} == {"good": "text", "link": "text"}


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (ArtifactsLeftOutError({"b": "too"}), ArtifactsLeftOutError, r"'a' \(why\), 'b' \(too\)"),
        (ExecutorError("no volume"), ExecutorError, r"no volume; these artifacts were left out: 'a'"),
        (None, ArtifactsLeftOutError, r"'a' \(why\)"),
    ],
)
def test_problems_are_gathered(error: Exception | None, expected: type[Exception], words: str) -> None:
    def collect() -> None:
        with leftovers.gathered() as left:
            left["a"] = "why"
            if error:
                raise error

    with pytest.raises(expected, match=words):
        collect()
