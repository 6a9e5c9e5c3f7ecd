"""What engines share: the journal of an attempt, logs that are followed, small tar files, files that are replaced."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.shared.attempt_folder import AttemptFolder
from nemo_run.core.execution.shared.follower import Follower
from nemo_run.core.execution.shared.manifests import as_yaml
from nemo_run.core.execution.shared.pauses import wait_until
from nemo_run.core.execution.shared.small_tar import folder_archive, tar_of
from nemo_run.core.files import locked, replacing
from nemo_run.errors import ExecutorError


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    return AttemptFolder.of(Plan("any", "job", str(tmp_path), {}), 2)


def test_a_journal_begins_empty(attempt: AttemptFolder) -> None:
    assert (attempt.submission(), attempt.end(), attempt.recorded()) == ({}, {}, None)
    assert (attempt.is_submitted, attempt.is_cancelled, attempt.has_ended) == (False, False, False)


def test_a_journal_tells_any_process_what_was_written(attempt: AttemptFolder) -> None:
    attempt.note_submission(nodes=2)
    attempt.request_cancel(kill_at=5)
    attempt.request_cancel(kill_at=9)
    attempt.write_end(TaskStatus(JobState.CANCELLED, 143, "cancelled", 1.0, 2.0, "here"), artifacts=True)
    other = AttemptFolder(attempt.path)
    assert other.is_submitted
    assert other.submission()["nodes"] == 2
    assert other.cancel_request()["kill_at"] == 5
    assert other.recorded() == TaskStatus(JobState.CANCELLED, 143, "cancelled", 1.0, 2.0, "here")
    assert other.end()["artifacts"]


@pytest.mark.parametrize("name", ["submitted.json", "launch.json", "workload.json"])
def test_a_submission_that_an_earlier_version_noted_is_read(attempt: AttemptFolder, name: str) -> None:
    attempt.make()
    (attempt.path / name).write_text(json.dumps({"nodes": 3}))
    assert attempt.submission() == {"nodes": 3}
    assert attempt.is_submitted


def test_an_end_is_not_written_where_the_experiment_was_deleted(attempt: AttemptFolder) -> None:
    status = attempt.write_end(TaskStatus(JobState.FAILED, 3, ended=2.0))
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert not attempt.path.exists()


def test_one_at_a_time_holds_the_lock_of_an_attempt(attempt: AttemptFolder) -> None:
    attempt.make()
    seen: list[str] = []

    def second() -> None:
        with attempt.locked():
            seen.append("second")

    thread = threading.Thread(target=second)
    with attempt.locked():
        thread.start()
        thread.join(0.2)
        seen.append("first")
    thread.join()
    assert seen == ["first", "second"]


def read_all(follower: Follower) -> bytes:
    data = b""
    while not follower.is_over:
        data += follower.read(5)
    return data


def test_a_follower_gives_all_in_order() -> None:
    pieces = [bytes([i]) * (i * 5000) for i in range(1, 60)]

    def receive(_: threading.Event) -> Generator[bytes, None, None]:
        yield from pieces

    assert read_all(Follower(receive, "log", at_most=3)) == b"".join(pieces)


def test_a_follower_keeps_what_ended_it() -> None:
    def receive(_: threading.Event) -> Generator[bytes, None, None]:
        yield b"a"
        raise ExecutorError("no more")

    follower = Follower(receive, "log")
    assert read_all(follower) == b"a"
    assert str(follower.error) == "no more"


def test_a_follower_that_is_closed_ends_what_it_follows() -> None:
    ended = threading.Event()

    def receive(closed: threading.Event) -> Generator[bytes, None, None]:
        try:
            while not closed.is_set():
                yield b"x" * 100_000
        finally:
            ended.set()

    follower = Follower(receive, "log", at_most=2)
    assert follower.read(5)
    follower.close()
    assert ended.wait(10)


def test_a_tar_file_of_a_folder_has_its_files_folders_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.sh").write_text("exit 3")
    (tmp_path / "a" / "run.sh").chmod(0o755)
    content = folder_archive(tmp_path)
    assert content == folder_archive(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert sorted(tar.getnames()) == ["a", "a/run.sh", "empty"]
        member = tar.extractfile("a/run.sh")
        assert member is not None
        assert member.read() == b"exit 3"
        assert tar.getmember("a/run.sh").mode == 0o755


def test_files_in_a_tar_file_are_their_owners_alone() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of({"a": b"1"}))) as tar:
        assert tar.getmember("a").mode == 0o600


def test_documents_keep_texts_of_several_lines_and_words_that_look_like_numbers() -> None:
    text = as_yaml({"run": "a\nb\n", "no": "no"}, {"version": "1e3"})
    assert text == "run: |\n  a\n  b\n'no': 'no'\n---\nversion: '1e3'\n"


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"file": b"old"}
    with replacing(path) as file:
        file.write(b"new")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"file": b"new"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock"):
        raise KeyError
    with locked(tmp_path / "lock"):
        pass


def test_waiting_ends_with_the_answer_or_says_what_is_late() -> None:
    answers = iter(["", "", "there"])
    assert wait_until(lambda: next(answers), lambda _: "late", within=60, pause=0.01) == "there"
    with pytest.raises(ExecutorError, match=r"not gone after 0\.05 s"):
        wait_until(lambda: False, lambda within: f"not gone after {within:g} s", within=0.05, pause=0.01)
