"""Links that tasks or received files leave lead nowhere: nothing is read or written through them."""

from __future__ import annotations

import errno
import io
import os
import re
import tarfile
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.shared.attempt_files import copy_matching, open_log
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.inside import copy_inside, files_inside, open_inside, read_inside
from nemo_run.core.packaging.archive import unpack
from nemo_run.errors import ExecutorError, PackagingError, StoreError
from nemo_run.run import artifacts
from tests.support import bash


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder, beside one with a private file."""
    folder = tmp_path / "top"
    folder.mkdir()
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("KEY\n")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "private" / "key"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_a_link_anywhere_on_the_way_is_not_followed(flags: int, top: Path, key: Path, tmp_path: Path) -> None:
    (top / "file").symlink_to(key)
    (top / "folder").symlink_to(key.parent)
    (top / "a").mkdir()
    (top / "a" / "up").symlink_to("..")
    (tmp_path / "other-top").symlink_to(key.parent)
    for where, name in ((top, "file"), (top, "folder/key"), (top, "a/up/file"), (tmp_path / "other-top", "key")):
        with pytest.raises(OSError, match="is a link, which is not followed"):
            open_inside(where, name, flags)
    for name in ("../private/key", str(key), "."):
        with pytest.raises(OSError, match=r"leads out of its folder|s a directory|no regular file"):
            open_inside(top, name, flags)
    assert key.read_text() == "KEY\n"


def test_a_pipe_is_not_waited_for(top: Path) -> None:
    os.mkfifo(top / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        open_inside(top, "pipe")


def test_what_is_missing_is_told_with_its_path(top: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(top / "a"))):
        open_inside(top, "a/b")


def test_a_copy_replaces_a_link_and_keeps_time(top: Path, key: Path) -> None:
    (top / "from").write_text("new\n")
    os.utime(top / "from", (1e9, 1e9))
    (top / "to").symlink_to(key)
    with read_inside(top, "from") as source:
        copy_inside(source.fileno(), top, "to")
        copy_inside(source.fileno(), top, "new/folder/to")
    assert key.read_text() == "KEY\n"
    assert not (top / "to").is_symlink()
    assert (top / "to").read_text() == (top / "new/folder/to").read_text() == "new\n"
    assert (top / "to").stat().st_mtime == 1e9
    assert sorted(path.name for path in top.iterdir()) == ["from", "new", "to"]


def test_links_are_no_files_of_a_folder(top: Path, key: Path) -> None:
    (top / "real").write_text("")
    (top / "link").symlink_to(key)
    (top / "folder").symlink_to(key.parent)
    os.mkfifo(top / "pipe")
    found = list(files_inside(top))
    for _, fd in found:
        os.close(fd)
    assert [name for name, _ in found] == ["real"]
    assert list(files_inside(top / "folder")) == []


def test_matching_files_are_copied_by_way_of_links_inside_only(top: Path, key: Path, tmp_path: Path) -> None:
    (top / "step-1.pt").write_text("one\n")
    (top / "last.pt").symlink_to("step-1.pt")
    (top / "evil.pt").symlink_to(key)
    (top / "folder").symlink_to(key.parent)
    with pytest.raises(ExecutorError, match=r"'evil.pt' \(is a link that leads out.*'folder/key'"):
        copy_matching(top, ["*.pt", "folder/*"], tmp_path / "got")
    got = {str(path.relative_to(tmp_path / "got")): path.read_text() for path in (tmp_path / "got").rglob("*")}
    assert got == {"step-1.pt": "one\n", "last.pt": "one\n"}


def test_matching_files_are_not_copied_through_a_link(top: Path, key: Path, tmp_path: Path) -> None:
    (top / "a").mkdir()
    (top / "a" / "key").write_text("theirs\n")
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "a").symlink_to(key.parent)
    with pytest.raises(ExecutorError, match="is a link"):
        copy_matching(top, ["a/*"], tmp_path / "got")
    assert key.read_text() == "KEY\n"


def test_a_log_that_is_a_link_is_not_read(top: Path, key: Path) -> None:
    (top / "log").symlink_to(key)
    with pytest.raises(ExecutorError, match="is a link"):
        open_log(top).read()


@pytest.mark.parametrize("name", ["1", "attempts", "log"])
def test_the_journal_is_not_written_through_a_link(name: str, top: Path, key: Path) -> None:
    key.rename(key.with_name("log"))
    folder = AttemptFolder(top / "attempts" / "1")
    folder.make()
    link = {"1": folder.path, "attempts": folder.path.parent, "log": folder.path / "log"}[name]
    if link.exists():
        link.rename(top / "moved")
    link.symlink_to(key.parent)
    if name == "log":
        link.unlink()
        link.symlink_to(key.with_name("log"))
        folder.append_to_log(b"theirs\n")
    else:
        with pytest.raises(ExecutorError, match="is a link"):
            folder.append_to_log(b"theirs\n")
        with pytest.raises(ExecutorError, match="is a link"):
            folder.request_cancel()
    assert key.with_name("log").read_text() == "KEY\n"
    assert [path.name for path in key.parent.iterdir()] == ["log"]


def test_artifacts_of_a_local_task_are_no_links(work: Path, tmp_path: Path, key: Path, top: Path) -> None:
    text = f"""echo 1 > "$NEMO_RUN_ARTIFACTS/real"; ln -s {key} "$NEMO_RUN_ARTIFACTS/stolen"
ln -s {key.parent} "$NEMO_RUN_ARTIFACTS/folder"; ln -s {top} elsewhere; echo 2 > elsewhere/2.pt"""
    with run.Experiment("links") as exp:
        exp.add(bash(text), name="t", artifacts=["elsewhere/*.pt"])
        exp.run()
    # the user's own task may work in another folder of the user by way of a link
    assert [one.path for one in exp.artifacts()] == ["elsewhere/2.pt", "real"]
    reason = run.Experiment.from_id(exp.id).status(return_dict=True)["t"]["reason"]  # type: ignore[index]
    assert re.findall("'([^']+)'", reason) == ["folder", "stolen"]


def test_a_job_whose_folder_is_a_link_has_no_artifacts(key: Path) -> None:
    with run.Experiment("links") as exp:
        exp.add(bash("echo 1 > $NEMO_RUN_ARTIFACTS/key"), name="t")
        exp.run()
    (exp.directory / "t").rename(exp.directory / "moved")
    (exp.directory / "t").symlink_to(key.parent)
    with pytest.raises(StoreError, match="is a link"):
        run.Experiment.from_id(exp.id).artifacts()


def test_no_artifact_is_copied_from_or_through_a_link(key: Path, work: Path) -> None:
    with run.Experiment("links") as exp:
        exp.add(bash("mkdir $NEMO_RUN_ARTIFACTS/private; echo KEY > $NEMO_RUN_ARTIFACTS/private/key"), name="t")
        exp.run()
    found = exp.artifacts()
    (work / "out").mkdir()
    (work / "elsewhere").mkdir()
    (work / "link").symlink_to("elsewhere")  # of the user's own, who names it
    assert [copy.read_text() for copy in artifacts.copy_out(found, work / "link")] == ["KEY\n"]
    (work / "out" / "t").symlink_to(work / "elsewhere")
    with pytest.raises(run.NemoRunError, match="is a link"):
        artifacts.copy_out(found, work / "out")
    folder = Path(found[0].file).parent
    folder.rename(folder.with_name("other"))
    folder.symlink_to(key.parent)
    with pytest.raises(run.NemoRunError, match="is a link"):
        artifacts.copy_out(found, work / "new")


def test_what_a_service_sends_is_not_unpacked_through_a_link(top: Path, key: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("folder/key")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"bad"))
    (top / "folder").symlink_to(key.parent)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar, pytest.raises(PackagingError, match="through a link"):
        unpack(tar, top, top, foreign=True)
    assert key.read_text() == "KEY\n"


def test_errors_have_their_number(top: Path, key: Path) -> None:
    (top / "link").symlink_to(key)
    with pytest.raises(OSError, match="link") as caught:
        open_inside(top, "link")
    assert caught.value.errno == errno.ELOOP
