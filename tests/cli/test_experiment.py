"""``nemorun experiment``."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.commands.selection import parse_age
from nemo_run.config.suggest import did_you_mean
from nemo_run.errors import CommandLineError, ExperimentNotFoundError
from nemo_run.run import catalog
from tests.cli.conftest import Nemorun


@pytest.fixture
def three() -> str:
    """Id of an experiment with a job that succeeded, one that failed, and one that never ran."""
    with run.Experiment("three jobs", clean_mode=True) as exp:
        exp.add(run.Script(inline="echo one; echo hit > $NEMO_RUN_ARTIFACTS/found.txt"), name="first")
        exp.add(run.Script(inline="printf '[b]two[/b]\\n\\\\n'; exit 3"), name="second")
        exp.add(run.Script(inline="echo three"), name="third", dependencies=["first", "second"])
        exp.run()
    return exp.id


@pytest.fixture
def sleeping() -> run.Experiment:
    with run.Experiment("sleeping", clean_mode=True) as exp:
        exp.add(run.Script(inline="echo up; sleep 60"), name="sleeper")
        exp.run(detach=True)
    return exp


def test_nothing_yet(nemorun: Nemorun) -> None:
    assert nemorun("experiment", "list").stderr == "there are no experiments yet\n"
    assert json.loads(nemorun("experiment", "list", "--json").stdout) == []
    assert "there are no experiments" in nemorun("experiment", "status", code=2).stderr


def test_list(nemorun: Nemorun, three: str) -> None:
    listed = nemorun("experiment", "list").stdout
    (row,) = (line.split() for line in listed.splitlines()[1:])
    assert row[0] == "FAILED"
    assert three in row
    assert "just now" in listed
    assert "1 succeeded, 1 failed, 1 cancelled" in listed
    (entry,) = json.loads(nemorun("experiment", "list", "three jobs", "--json").stdout)
    assert entry["id"] == three
    assert entry["title"] == "three jobs"
    assert entry["state"] == "FAILED"
    assert entry["jobs"] == {"SUCCEEDED": 1, "FAILED": 1, "CANCELLED": 1}
    unknown = nemorun("experiment", "list", "tree jobs")
    assert unknown.stdout == ""
    assert "did you mean 'three" in unknown.stderr


def test_a_damaged_experiment_does_not_hide_the_others(nemorun: Nemorun, three: str) -> None:
    run.Experiment.from_id(three).directory.joinpath("experiment.json").write_text("{")
    with run.Experiment("fine", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="a")
        exp.run()
    damaged, fine = sorted(nemorun("experiment", "list").stdout.splitlines()[1:])
    assert "experiment.json: the file is damaged" in damaged
    assert (fine.split()[0], fine.split()[-1]) == ("SUCCEEDED", exp.id)
    assert "experiment.json: the file is damaged" in nemorun("experiment", "status", three, code=1).stderr


@pytest.mark.parametrize("ask", ["id", "title", "beginning", "nothing"])
def test_status_of_the_experiment_that_is_meant(nemorun: Nemorun, three: str, ask: str) -> None:
    which = {"id": [three], "title": ["three jobs"], "beginning": [three[:12]], "nothing": []}[ask]
    shown = nemorun("experiment", "status", *which).stdout
    assert shown.startswith(f"experiment {three}\n")
    assert "not run: its dependency 'second' ended as FAILED with exit code 3" in shown


def test_status_for_programs(nemorun: Nemorun, three: str) -> None:
    document = json.loads(nemorun("experiment", "status", three, "--json").stdout)
    assert document["state"] == "FAILED"
    states = {name: (job["status"], job["exit_code"]) for name, job in document["jobs"].items()}
    assert states == {"first": ("SUCCEEDED", 0), "second": ("FAILED", 3), "third": ("CANCELLED", None)}
    nemorun("experiment", "status", three, "--exit-code", code=1)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["status", "thre_jobs"], "there is no experiment 'thre"),
        (["status", "../../etc"], "'../../etc' is not the id of an experiment"),
        (["status", ""], "'' is not the id of an experiment"),
        (["logs", "three jobs", "sekond"], "did you mean 'second'? There are: first, second, third"),
        (["logs", "three jobs", "3"], "has no job '3'. There are: first, second, third"),
        (["logs", "three jobs", "--regex", "("], "'(' is not a regular expression"),
        (["cancel", "three jobs", "frist"], "did you mean 'first'?"),
        (["statsu"], "did you mean 'status'?"),
        (["status", "--jsn"], "--json"),
        (["list", "--limit", "-1"], "--limit"),
        (["delete", "three jobs"], "'three jobs' is not the id of an experiment"),
        (["prune", "--older-than", "soon"], "'soon' is not an age"),
        (["prune", "--older-than", "0s"], "There is no terminal to ask in; say --yes"),
    ],
)
def test_what_makes_no_sense(nemorun: Nemorun, three: str, argv: list[str], said: str) -> None:
    done = nemorun("experiment", *argv, code=2)
    assert said in done.stderr
    assert run.Experiment.catalog() == [three]


def test_a_beginning_that_several_share(nemorun: Nemorun) -> None:
    for title in ("sweep_a", "sweep_b"):
        with run.Experiment(title, clean_mode=True) as exp:
            exp.add(run.Script(inline="true"), name="a")
            exp.run()
    assert f"the newest being {exp.id}" in nemorun("experiment", "status", "sweep", code=2).stderr


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["first"], "first/0 one\n"),
        (["1"], "second/0 [b]two[/b]\nsecond/0 \\n\n"),
        (["1", "--regex", "wo"], "second/0 [b]two[/b]\n"),
        (["1", "--tail", "1"], "second/0 \\n\n"),
        (["2"], ""),
        ([], "first/0 one\nsecond/0 [b]two[/b]\nsecond/0 \\n\n"),
    ],
)
def test_logs(nemorun: Nemorun, three: str, argv: list[str], shown: str) -> None:
    assert nemorun("experiment", "logs", three, *argv).stdout == shown


def test_logs_for_programs(nemorun: Nemorun, three: str) -> None:
    lines = nemorun("experiment", "logs", three, "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [(one["job"], one["rank"], one["line"]) for one in found] == [
        ("first", 0, "one"),
        ("second", 0, "[b]two[/b]"),
        ("second", 0, "\\n"),
    ]
    assert {(one["task"], one["attempt"]) for one in found} == {("first", 1), ("second", 1)}
    only = nemorun("experiment", "logs", three, "--json", "--regex", "^o").stdout
    assert [json.loads(line)["line"] for line in only.splitlines()] == ["one"]


def test_logs_of_retries_and_bars_for_programs(nemorun: Nemorun) -> None:
    with run.Experiment("bars", executor=run.LocalExecutor(retries=1), clean_mode=True) as exp:
        exp.add(run.Script(inline="printf '10%%\\r99%%\\r\\nb\\xff\\r\\n5%%\\r6%%\\r'; exit 1"), name="job")
        exp.run()
    found = [json.loads(line) for line in nemorun("experiment", "logs", "--json").stdout.splitlines()]
    assert sorted((one["attempt"], one["line"]) for one in found) == sorted(
        (attempt, line) for attempt in (1, 2) for line in ("99%", "b\ufffd", "6%")
    )


def test_whoever_reads_the_output_may_stop(three: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "nemo_run", "experiment", "logs", three],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_cancel(nemorun: Nemorun, three: str, sleeping: run.Experiment) -> None:
    assert nemorun("experiment", "cancel", sleeping.id, "0").stdout == "sleeper: CANCELLED\n"
    assert nemorun("experiment", "cancel", sleeping.id).stdout == "sleeper: CANCELLED, as it was before\n"
    also = nemorun("experiment", "cancel", three, "third", "--dependencies").stdout.splitlines()
    assert sorted(line.split(":")[0] for line in also) == ["first", "second", "third"]
    nemorun("experiment", "attach", sleeping.id, code=1)


def test_attach_ends_with_the_experiment(nemorun: Nemorun) -> None:
    with run.Experiment("short", clean_mode=True) as exp:
        exp.add(run.Script(inline="echo up; sleep 0.5; echo down"), name="job")
        exp.run(detach=True)
    assert "job/0 down\n" in nemorun("experiment", "attach").stdout


def test_rerun(nemorun: Nemorun, three: str) -> None:
    failed = nemorun("experiment", "rerun", three, code=1)
    assert "job 'second'" in failed.stderr
    first, again = run.Experiment.catalog("three jobs")
    assert first == three
    assert again in nemorun("experiment", "status").stdout


def test_the_newest_is_meant_by_its_word_and_where_nothing_is_said(nemorun: Nemorun, three: str) -> None:
    assert nemorun("experiment", "tag", "newest", "paper").stdout == f"{three}: paper\n"
    refused = nemorun("experiment", "cancel", code=2).stderr
    assert f"Cancel what has not ended of the newest, {three}?" in refused
    cancelled = json.loads(nemorun("experiment", "cancel", "--yes", "--json").stdout)
    assert cancelled == {"first": "SUCCEEDED", "second": "FAILED", "third": "CANCELLED"}
    nemorun("experiment", "rerun", code=1)
    assert len(run.Experiment.catalog("three jobs")) == 2


def test_newest_may_be_a_title(nemorun: Nemorun, three: str) -> None:
    with run.Experiment("newest", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="a")
        exp.run()
    with run.Experiment("later", clean_mode=True) as later:
        later.add(run.Script(inline="true"), name="a")
        later.run()
    assert json.loads(nemorun("experiment", "status", "newest", "--json").stdout)["id"] == exp.id
    assert json.loads(nemorun("experiment", "status", "--json").stdout)["id"] == later.id


def test_titles_and_beginnings_of_ids_that_are_nearly_so(nemorun: Nemorun, three: str) -> None:
    with run.Experiment("pretrain", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="a")
        exp.run()
    day = exp.id[: len("pretrain_20260102")]
    for typed, meant in (("pretrian", "pretrain?"), (day.replace("train", "trian"), exp.id), ("tree jobs", "three")):
        assert f"did you mean {meant}" in nemorun("experiment", "status", typed, code=2).stderr
        with pytest.raises(ExperimentNotFoundError, match=f"did you mean {meant[:-1]}"):
            run.Experiment.from_title(typed)


def test_of_many_names_a_message_has_some() -> None:
    assert did_you_mean("jbo-7", [f"job-{i}" for i in range(100)]).endswith("job-39 and 60 more")


def test_diff(nemorun: Nemorun) -> None:
    ids = []
    for text in ("before", "after"):
        with run.Experiment("twice", clean_mode=True) as exp:
            exp.add(run.Script(inline=f"echo {text}"), name="job")
            exp.run()
        ids.append(exp.id)
    shown = nemorun("experiment", "diff", *ids).stdout
    assert "echo before" in shown
    assert "echo after" in shown


def test_resume(nemorun: Nemorun, sleeping: run.Experiment) -> None:
    assert "nemorun experiment attach" in nemorun("experiment", "resume", sleeping.id, code=1).stderr
    nemorun("experiment", "cancel", sleeping.id)
    nemorun("experiment", "resume", sleeping.id, code=1)


def test_artifacts(nemorun: Nemorun, three: str, here: Path) -> None:
    (entry,) = json.loads(nemorun("experiment", "artifacts", three, "--json").stdout)
    assert (entry["task"], entry["path"], entry["size"]) == ("first", "found.txt", 4)
    assert entry["sha256"] in nemorun("experiment", "artifacts", three, "first").stdout
    assert nemorun("experiment", "artifacts", three, "second").stdout == ""
    nemorun("experiment", "artifacts", three, "--copy-to", "copies")
    assert (here / "copies" / "first" / "found.txt").read_text() == "hit\n"


def test_delete_and_prune(nemorun: Nemorun, three: str, sleeping: run.Experiment) -> None:
    assert "cancel it first" in nemorun("experiment", "delete", sleeping.id, "--yes", code=1).stderr
    assert nemorun("experiment", "prune", "--older-than", "1h", "--yes").stdout == "no experiment is older than 1h\n"
    shown = nemorun("experiment", "prune", "--older-than", "0s", "--dryrun").stdout
    assert set(shown.split()) == {three, sleeping.id}
    planned = json.loads(nemorun("experiment", "prune", "--older-than", "0s", "--dryrun", "--json").stdout)
    assert planned == {"older": [three, sleeping.id], "deleted": [], "kept": {}}
    kept = nemorun("experiment", "prune", "--older-than", "0s", "--yes", "--json")
    assert "1 deleted\nkept: " in kept.stderr
    found = json.loads(kept.stdout)
    assert (found["older"], found["deleted"], [*found["kept"]]) == ([three, sleeping.id], [three], [sleeping.id])
    assert run.Experiment.catalog() == [sleeping.id]
    nemorun("experiment", "cancel", sleeping.id)
    nemorun("experiment", "delete", sleeping.id, "--yes")
    assert run.Experiment.catalog() == []


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5h", 5400), ("2 d", 172800), ("1w", 604800)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds
    with pytest.raises(CommandLineError, match="is not an age"):
        parse_age(text + "x")


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_in_a_terminal(three: str, env: dict[str, str], coloured: bool) -> None:
    """In colour unless that is not wanted."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nemo_run", "experiment", "list"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **env},
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert three in text
    assert ("\x1b[1;31mFAILED" in text) == coloured


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_what_cannot_be_encoded_is_shown_escaped(encoding: str, three: str) -> None:
    (folder,) = (store.path for store in catalog.launched() if store.id == three)
    odd = "sbatch: \udcff\udcfe é"
    state = json.loads((folder / "first" / "state.json").read_text())
    state["tasks"][0].update(state="FAILED", exit_code=1, reason=odd)
    (folder / "first" / "state.json").write_text(json.dumps(state))
    (folder / "summary.json").unlink()
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    for words in (
        ["list"],
        ["list", "--json"],
        ["status", three],
        ["status", three, "--json"],
        ["logs", three, "first"],
    ):
        argv = [sys.executable, "-m", "nemo_run", "experiment", *words]
        done = subprocess.run(argv, env=env, capture_output=True, check=True, timeout=120)
        if words[0] == "status":
            assert rb"sbatch: \udcff\udcfe" in done.stdout
        if words == ["status", three, "--json"]:
            assert json.loads(done.stdout)["jobs"]["first"]["reason"] == odd
    look = f"import nemo_run as run; run.Experiment.from_id({three!r}).status()"
    done = subprocess.run([sys.executable, "-c", look], env=env, capture_output=True, check=True, timeout=120)
    assert rb"sbatch: \udcff\udcfe" in done.stdout
