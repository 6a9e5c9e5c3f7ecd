"""Logs: shown in order, as they are, filtered, from their end, and while they grow."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import JobNotFoundError, NemoRunError
from nemo_run.run.logs import LineFilter, LogFollower, LogRequest
from tests.support import bash, eventually


def ran(script: str, name: str = "job", **options: object) -> run.Experiment:
    with run.Experiment("logs", executor=run.LocalExecutor(**options), clean_mode=True) as exp:  # type: ignore[arg-type]
        exp.add(bash(script), name=name)
        exp.run()
    return exp


def shown(exp: run.Experiment, *jobs: str, **options: object) -> bytes:
    """What a follower shows, from an object that only knows what is stored."""
    past, out = run.Experiment.from_id(exp.id), bytearray()
    request = LogRequest(jobs, **options)  # type: ignore[arg-type]
    LogFollower(past._its_store, past._prepared, request, out.extend).show()
    return bytes(out)


def test_lines_have_the_name_of_their_task(capfd: pytest.CaptureFixture[str]) -> None:
    exp = ran("echo one; echo two >&2; printf three")
    capfd.readouterr()
    exp.logs("job")
    assert capfd.readouterr().out == "job/0 one\njob/0 two\njob/0 three\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"regex": "1"}, [1, 10, 11, 12]),
        ({"regex": "^1$"}, [1]),
        ({"regex": "nothing"}, []),
        ({"tail": 2}, [11, 12]),
        ({"tail": 4, "regex": "0|2"}, [10, 12]),
        ({"tail": 0}, []),
        ({"tail": 99}, range(1, 13)),
        ({"rank": 0, "tail": 1}, [12]),
    ],
)
def test_regex_and_tail(options: dict[str, object], expected: list[int]) -> None:
    assert shown(ran("seq 1 12"), "job", **options).decode().split() == [
        word for n in expected for word in ("job/0", str(n))
    ]


def test_what_is_wrong_is_told() -> None:
    exp = ran("true")
    with pytest.raises(JobNotFoundError, match=r"nobody.*job"):
        exp.logs("nobody")
    with pytest.raises(NemoRunError, match="regular expression"):
        exp.logs("job", regex="(")
    with pytest.raises(NemoRunError, match="rank 3"):
        exp.logs("job", rank=3)


def test_every_attempt_in_turn() -> None:
    exp = ran('echo "try $NEMO_RUN_ATTEMPT"; [ "$NEMO_RUN_ATTEMPT" = 3 ]', retries=2, retry_delay=0.01)
    assert shown(exp, "job") == b"job/0 try 1\njob/0 try 2\njob/0 try 3\n"


def test_a_job_that_never_ran_has_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("logs", clean_mode=True) as exp:
        exp.add(bash("exit 1"), name="bad")
        exp.add(bash("echo x"), name="never", dependencies=["bad"])
        exp.run()
    exp.logs("never")
    assert capfd.readouterr().out == ""


def test_several_jobs_and_members_of_groups() -> None:
    with run.Experiment("logs", clean_mode=True) as exp:
        exp.add(bash("echo a"), name="a")
        exp.add([bash("echo 0"), bash("echo 1")], name="group")
        exp.run()
    assert sorted(shown(exp).splitlines()) == [b"a/0 a", b"group/0/0 0", b"group/1/0 1"]


def following(exp: run.Experiment) -> tuple[threading.Thread, bytearray]:
    """A thread that follows the log of the only job, and what it has shown so far."""
    out = bytearray()
    follower = LogFollower(exp._its_store, exp._prepared, LogRequest(("job",), follow=True), out.extend)
    thread = threading.Thread(target=follower.show)
    thread.start()
    return thread, out


def test_followed_while_it_grows(work: Path) -> None:
    exp = run.Experiment("logs")
    exp.add(bash("echo one; until [ -e go ]; do sleep 0.02; done; echo two; exit 3"), name="job")
    exp.run(detach=True)
    thread, out = following(exp)
    eventually(lambda: bytes(out) == b"job/0 one\n")
    (work / "go").touch()
    thread.join(60)
    assert bytes(out) == b"job/0 one\njob/0 two\n"
    assert exp.results()["job"].exit_code == 3


def test_followed_from_before_it_starts_until_its_last_attempt(work: Path) -> None:
    exp = run.Experiment("logs", executor=run.LocalExecutor(retries=1, retry_delay=0.3))
    exp.add(bash("until [ -e go ]; do sleep 0.02; done"), name="first")
    exp.add(bash('echo "try $NEMO_RUN_ATTEMPT"; [ "$NEMO_RUN_ATTEMPT" = 2 ]'), name="job", dependencies=["first"])
    exp.run(detach=True)
    threading.Timer(0.3, (work / "go").touch).start()
    assert shown(exp, "job", follow=True) == b"job/0 try 1\njob/0 try 2\n"


def test_without_following_what_is_there_now() -> None:
    exp = run.Experiment("logs")
    exp.add(bash("echo now; sleep 600"), name="job")
    exp.run(detach=True)
    eventually(lambda: shown(exp, "job") == b"job/0 now\n")
    exp.cancel_jobs()


def test_shown_while_the_experiment_runs(capfd: pytest.CaptureFixture[str]) -> None:
    with run.Experiment("logs", clean_mode=True) as exp:
        exp.add(bash("seq 1 3"), name="told", tail_logs=True)
        exp.add(bash("seq 4 6"), name="quiet")
        exp.run()
    assert capfd.readouterr().out == "told/0 1\ntold/0 2\ntold/0 3\n"


# what tasks write


def test_binary_and_undecodable(capfd: pytest.CaptureFixture[bytes]) -> None:
    exp = ran("printf '\\377\\376\\000\\033[31m'; echo")
    assert shown(exp, "job") == b"job/0 \xff\xfe\x00\x1b[31m\n"
    assert exp.results()["job"].ok


def test_a_large_line_is_one_line() -> None:
    exp = ran("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end; head -c 1500000 /dev/zero | tr '\\0' y")
    out = shown(exp, "job")
    assert out.count(b"job/0 ") == 3
    assert [len(line) for line in out.splitlines()] == [3_000_006, 9, 1_500_006]
    assert [len(line) for line in shown(exp, "job", regex="^y").splitlines()] == [1_500_006]


def test_a_million_lines_in_order() -> None:
    exp = ran("seq 1 1000000")
    numbers, rest, count = iter(range(1, 1_000_001)), b"", 0
    past = run.Experiment.from_id(exp.id)

    def check(data: bytes) -> None:
        nonlocal rest, count
        assert len(data) < 4 << 20
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            count += 1
            assert line == b"job/0 %d" % next(numbers)

    LogFollower(past._its_store, past._prepared, LogRequest(("job",)), check).show()
    assert (count, rest) == (1_000_000, b"")


def test_a_progress_bar_is_seen_before_its_line_ends(work: Path) -> None:
    exp = run.Experiment("logs")
    exp.add(bash("printf '10%%\\r20%%\\r30%%'; until [ -e go ]; do sleep 0.02; done; printf '\\r100%%\\n'"), name="job")
    exp.run(detach=True)
    thread, out = following(exp)
    eventually(lambda: b"20%" in out)
    (work / "go").touch()
    thread.join(60)
    assert bytes(out) == b"job/0 10%\rjob/0 20%\rjob/0 30%\rjob/0 100%\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("regex", [None, "b"])
def test_pieces_do_not_matter(size: int, regex: str | None) -> None:
    text = b"a\nbb\n\n\r\nprogress 1\rb 2\r\n" + b"b" * 20 + b"\nlast b"
    whole = LineFilter("> ", regex)
    expected = whole.feed(text) + whole.flush()
    pieces = LineFilter("> ", regex)
    out = b"".join(pieces.feed(text[i : i + size]) for i in range(0, len(text), size)) + pieces.flush()
    assert out == expected
    if regex is None:
        assert out == b"> a\n> bb\n> \n> \r\n> progress 1\r> b 2\r\n> " + b"b" * 20 + b"\n> last b\n"


def test_a_reader_that_goes_away_does_not_stop_the_experiment(work: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    (work / "driver.py").write_text(
        "import nemo_run as run\n"
        "with run.Experiment('piped') as exp:\n"
        "    for i in range(10):\n"
        "        exp.add(run.Script(inline='echo x >> ran'), name=f'job-{i}', tail_logs=i < 5,\n"
        "                dependencies=[f'job-{i - 1}'] if i else [])\n"
        "    exp.run()\n"
        "open('end', 'w').close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "driver.py"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=work
    )
    assert process.stdout
    process.stdout.close()
    process.wait(60)
    assert (work / "ran").read_text() == "x\n" * 10
    assert (work / "end").exists()


def test_time_passes_quietly_for_whoever_waits() -> None:
    """Nothing new for a while: the follower sleeps."""
    exp = run.Experiment("logs")
    exp.add(bash("sleep 2"), name="job")
    exp.run(detach=True)
    wall, cpu = time.monotonic(), time.thread_time()
    shown(exp, "job", follow=True)
    assert time.thread_time() - cpu < (time.monotonic() - wall) / 2
