"""The store: whole files, owner only, one damaged file hides no other, many processes at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core import files
from nemo_run.errors import ExperimentBusyError, InvalidNameError, StoreError
from nemo_run.run import catalog
from nemo_run.run.overview import overview
from nemo_run.run.records import Definition, JobProgress
from nemo_run.run.store import ExperimentStore
from tests.support import attempts, bash, eventually, states

NAMES = ["plain", "../../etc/passwd", "/abs", "a b", "$(id)", "日本", "..", ".", "-", "x" * 300, "é/ü", "\udcff"]


@pytest.fixture
def ended(work: Path) -> run.Experiment:
    with run.Experiment("stored", clean_mode=True) as exp:
        exp.add(bash("echo hello; exit 4"), name="a")
        exp.add(bash("echo world"), name="b")
        exp.run()
    return exp


def test_folders_and_files_are_for_their_owner_only(ended: run.Experiment, nemorun_home: Path) -> None:
    os.umask(os.umask(0o022))
    for path in [nemorun_home, *nemorun_home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"


def launched(title: str, **options: str) -> ExperimentStore:
    store = catalog.create(title, **options)
    store.write_definition(Definition(store.id, title, 0.0))
    return store


@pytest.mark.parametrize("title", NAMES)
def test_any_title_stays_inside(title: str, nemorun_home: Path) -> None:
    store = launched(title)
    assert store.path.parent.parent == nemorun_home / "experiments"
    assert catalog.find(store.id).path == store.path
    assert catalog.ids(title) == [store.id]


def test_a_definition_of_a_later_format_says_what_to_do(ended: run.Experiment) -> None:
    path = ended.directory / "experiment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "something": "new"}))
    with pytest.raises(StoreError, match=r"format 2, .* up to 1: pip install --upgrade nemo-run"):
        run.Experiment.from_id(ended.id)


@pytest.mark.parametrize("directory", ["../x", "/x", "..", ".", "a/../../x", "a/b", ""])
def test_no_definition_leads_outside_of_its_experiment(directory: str, ended: run.Experiment) -> None:
    path = ended.directory / "experiment.json"
    doc = json.loads(path.read_text())
    doc["jobs"][0]["directory"] = directory
    path.write_text(json.dumps(doc))
    with pytest.raises(StoreError, match=re.escape(str(path))):
        run.Experiment.from_id(ended.id)


@pytest.mark.parametrize("name", ["a", "cancel"])
def test_nothing_is_written_through_a_link_in_place_of_a_folder(name: str, ended: run.Experiment, work: Path) -> None:
    shutil.rmtree(ended.directory / name, ignore_errors=True)
    (ended.directory / name).symlink_to(work)
    store, job = ended._its_store, ended._prepared.jobs[0]
    with pytest.raises(StoreError, match="is a link"):
        store.request_cancel(job) if name == "cancel" else store.write_progress(job, JobProgress([]))
    assert list(work.iterdir()) == []


def test_a_lock_that_is_a_link_creates_nothing_elsewhere(ended: run.Experiment, work: Path) -> None:
    lock = ended.directory / "controller.lock"
    lock.unlink()
    lock.symlink_to(work / "elsewhere")
    with pytest.raises(StoreError, match=re.escape(str(lock))):
        ended.resume()
    assert not (work / "elsewhere").exists()


def test_different_names_are_different_folders() -> None:
    names = [*NAMES, "x" * 299, "a-b", "a  b"]
    assert len({files.folder_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("wrong", ["", "  ", "a\nb", "a\0b", "\x1b[31m", 42, None])
def test_what_cannot_be_a_title(wrong: object, nemorun_home: Path) -> None:
    with pytest.raises(InvalidNameError):
        run.Experiment(wrong)  # type: ignore[arg-type]
    assert not nemorun_home.exists()


@pytest.mark.parametrize("wrong", ["../x", "/etc", "a/b", "a b", "..", ".hidden", "x" * 300])
def test_what_cannot_be_an_id(wrong: str, nemorun_home: Path) -> None:
    exp = run.Experiment("title", id=wrong)
    with pytest.raises(InvalidNameError):
        exp.add(bash("true"))
    assert [path for path in nemorun_home.rglob("*") if path.is_file() and path.name != ".gitignore"] == []


def test_an_id_is_taken_once() -> None:
    assert catalog.create("title", experiment_id="mine").id == "mine"
    with pytest.raises(InvalidNameError, match="mine"):
        catalog.create("title", experiment_id="mine")


def test_ids_are_sorted_by_age() -> None:
    ids = ["t_20200101_000000", "t_20200101_000000_2", "t_20200101_000000_10", "t_20210101_000000", "s_20200601_000000"]
    for one in ids:
        launched(one[0], experiment_id=one)
    assert catalog.ids() == [ids[0], ids[1], ids[2], ids[4], ids[3]]


def test_what_was_launched_within_one_second_is_in_the_order_of_its_launch(nemorun_home: Path) -> None:
    """Titles and numbers say nothing of it: the definition's time of writing does."""
    names = ["zeta_20200101_000000", "alpha_20200101_000000", "mine", "beta_20200101_000000_2", "beta_20200101_000000"]
    begin = time.mktime((2020, 1, 1, 0, 0, 0, 0, 0, -1))
    for index, name in enumerate(names):
        store = launched(name.split("_")[0], experiment_id=name)
        os.utime(store.path / "experiment.json", (begin + index / 100,) * 2)
    assert catalog.ids() == names
    assert [store.id for store in catalog.launched("beta")] == names[3:]


def test_the_id_of_an_experiment_is_known_before_it_is_stored(nemorun_home: Path) -> None:
    exp = run.Experiment("planned", clean_mode=True)
    identity, folder = exp.id, exp.directory
    assert repr(exp)
    assert not list(nemorun_home.rglob("planned*"))
    exp.add(bash("true"), name="a")
    exp.run()
    assert (exp.id, exp.directory) == (identity, folder)
    assert folder.is_dir()
    assert run.Experiment("mine", id="my-id").id == "my-id"
    with pytest.raises(InvalidNameError):
        _ = run.Experiment("mine", id="../my-id").id


def test_ids_that_are_planned_at_once_differ() -> None:
    assert len({run.Experiment("same").id for _ in range(50)}) == 50


def test_a_title_of_the_store_itself() -> None:
    store = catalog.create("experiments")
    assert catalog.find(store.id).path == store.path


def test_eight_processes_with_one_title_at_once(work: Path) -> None:
    driver = work / "driver.py"
    driver.write_text(
        textwrap.dedent("""
            import sys, time, nemo_run as run
            while time.time() < float(sys.argv[1]): pass
            with run.Experiment("same", clean_mode=True) as exp:
                exp.add(run.Script(inline='echo "$1" > "out-$1"; exit "$1"', args=[sys.argv[2]]), name="job")
                exp.run()
            print(exp.id)
        """)
    )
    start = str(time.time() + 3)
    processes = [
        subprocess.Popen([sys.executable, driver, start, str(i)], stdout=subprocess.PIPE, text=True) for i in range(8)
    ]
    ids = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert len(set(ids)) == 8
    assert sorted(run.Experiment.catalog("same")) == sorted(ids)
    for i, one in enumerate(ids):
        assert run.Experiment.from_id(one).results()["job"].exit_code == i
        assert (work / f"out-{i}").read_text() == f"{i}\n"


# whole files


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    code = f"""
        import resource
        from pathlib import Path
        from nemo_run.core import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            files.write_json(Path({str(path)!r}), "x" * 5000)
        except OSError as e:
            print(e)
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    ).stdout
    assert str(path) in out
    assert "nothing was changed" in out
    assert files.read_json(path) == {"a": 1}
    assert {one.name for one in tmp_path.glob("*file*")} == {path.name}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_json(path, ["0"] * 10)
    writer = textwrap.dedent(f"""
        from pathlib import Path
        from nemo_run.core import files
        n = 0
        while True:
            n += 1
            files.write_json(Path({str(path)!r}), [str(n)] * 20_000)
    """)
    process = subprocess.Popen([sys.executable, "-c", writer])
    try:
        seen = set()
        while len(seen) < 20:
            doc = files.read_json(path)
            assert len(set(doc)) == 1
            seen.add(doc[0])
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("value", ["naïve — 日本語 🚀", "\udcff\udc80", "a\u2028b", "\x00\x1f"])
def test_any_text_survives(value: str, tmp_path: Path) -> None:
    files.write_json(tmp_path / "x", {value: value})
    assert files.read_json(tmp_path / "x") == {value: value}


# damage

GARBAGE = {
    "empty": b"",
    "truncated": None,
    "binary": bytes(range(256)),
    "zeros": b"\0" * 500,
    "null": b"null",
    "number": b"7",
    "list": b"[]",
    "object": b"{}",
    "text": b'"text"',
    "wrong": b'{"tasks": [], "jobs": 3, "pid": "x", "exit_code": "zero", "engine": 1}',
    "deep": b'{"tasks": [{"state": "NO_SUCH_STATE"}], "jobs": [{"id": 1}]}',
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_one_damaged_file_hides_no_other(kind: str, ended: run.Experiment, capfd: pytest.CaptureFixture[str]) -> None:
    """Each file of job ``a`` and of the experiment is damaged in turn."""
    with run.Experiment("other", clean_mode=True) as other:
        other.add(bash("exit 0"), name="fine")
        other.run()
    for path in sorted(path for path in ended.directory.rglob("*") if path.is_file() and "b" not in path.parts[-4:]):
        if path.name in ("log", "a.sh", "b.sh", "controller.lock") or "b" in path.relative_to(ended.directory).parts:
            continue
        good = path.read_bytes()
        garbage = GARBAGE[kind]
        path.write_bytes(good[: len(good) // 2] if garbage is None else garbage)
        assert set(run.Experiment.catalog()) == {ended.id, other.id}
        assert states(run.Experiment.from_id(other.id)) == {"fine": "SUCCEEDED"}
        look(ended.id, path)
        path.write_bytes(good)
        capfd.readouterr()
        assert states(run.Experiment.from_id(ended.id)) == {"a": "FAILED", "b": "SUCCEEDED"}


ODD: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "nested": lambda path: path.write_text("[" * 100_000),
    "number": lambda path: path.write_text("9" * 10_000),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_in_place_of_one_hides_no_other_and_is_not_waited_for(
    kind: str, ended: run.Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    with run.Experiment("other", clean_mode=True) as other:
        other.add(bash("exit 0"), name="fine")
        other.run()
    for name in ("summary.json", "experiment.json", "controller.json", "a/state.json", "a/attempts/1/exit.json"):
        path = ended.directory / name
        kept = path.rename(path.with_name("kept"))
        ODD[kind](path)
        assert set(run.Experiment.catalog()) == {ended.id, other.id}
        assert {one.id: one.problem for one in map(overview, catalog.launched())}[other.id] == ""
        look(ended.id, path)
        path.rmdir() if kind == "folder" else path.unlink()
        kept.rename(path)
        capfd.readouterr()


def test_a_folder_that_cannot_be_read_is_named_once_and_hides_no_other(ended: run.Experiment) -> None:
    root = ended.directory.parents[1]
    for name in ("another", "stored/stored_20250101_000000"):
        (root / name).mkdir()
        (root / name).chmod(0)
    (root / "loop").symlink_to("loop")
    code = "from nemo_run.run import catalog; print(*catalog.ids(), *catalog.ids())"
    ordinary = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    done = subprocess.run([*ordinary, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [ended.id, ended.id]
    assert [line.partition(":")[0].removeprefix(f"{root}/") for line in sorted(done.stderr.splitlines())] == [
        "another",
        "stored/stored_20250101_000000",
    ]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_log_that_is_no_file_is_not_waited_for(kind: str, ended: run.Experiment) -> None:
    log = ended.directory / "a" / "attempts" / "1" / "log"
    log.unlink()
    ODD[kind](log)
    with pytest.raises(run.NemoRunError, match=re.escape(str(log))):
        ended.logs("a")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("experiment.json", "created", "yesterday"),
        ("experiment.json", "created", float("nan")),
        ("experiment.json", "created", 1e300),
        ("experiment.json", "title", ["x"]),
        ("experiment.json", "jobs/0/id", 3),
        ("experiment.json", "jobs/0/dependencies", [3]),
        ("experiment.json", "jobs/0/tasks", []),
        ("experiment.json", "jobs/0/tasks/0/retries", "many"),
        ("a/state.json", "tasks/0/reason", {}),
        ("a/state.json", "tasks/0/handle", 7),
        ("a/state.json", "tasks/0/started", "early"),
        ("a/state.json", "tasks/0/ended", float("inf")),
        ("a/state.json", "tasks/0/exit_code", "zero"),
        ("a/state.json", "tasks/0/tries", None),
        ("a/attempts/1/exit.json", "started", "early"),
        ("a/attempts/1/exit.json", "reason", 3),
    ],
)
def test_a_value_of_another_type_is_told_at_the_door(
    name: str, field: str, value: object, ended: run.Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    path = ended.directory / name
    doc = place = json.loads(path.read_text())
    *way, last = field.split("/")
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    path.write_text(json.dumps(doc))
    (ended.directory / "summary.json").unlink()
    if "exit" in name:
        state = json.loads((ended.directory / "a/state.json").read_text())
        state["tasks"][0].update(state="RUNNING", exit_code=None, ended=None)
        (ended.directory / "a/state.json").write_text(json.dumps(state))
    (row,) = map(overview, catalog.launched())
    assert str(path) in row.problem if name == "experiment.json" else row.state in ("UNKNOWN", "FAILED")
    look(ended.id, path)


def look(experiment_id: str, damaged: Path) -> None:
    """Everything either works or says which file is damaged; job ``b`` is seen if only job ``a`` is damaged."""
    if damaged.name == "experiment.json" and told(lambda: run.Experiment.from_id(experiment_id), damaged):
        return
    past = run.Experiment.from_id(experiment_id)
    document = past.status(return_dict=True)
    assert document is not None
    if "b" in document:
        assert str(document["b"]["status"]) == "SUCCEEDED"
        assert str(document["a"]["status"]) == "FAILED" or str(damaged) in document["a"]["reason"]
    past.status()
    past.results()
    for action in (
        past.attach,
        past.artifacts,
        lambda: past.logs("b"),
        lambda: past.logs("a"),
        lambda: past.jobs[0].task,
    ):
        told(action, damaged)


def told(action: Callable[[], object], damaged: Path) -> bool:
    """Whether the action fails; if so, its error names the damaged file."""
    try:
        action()
    except run.NemoRunError as e:
        message = str(e)
    else:
        return False
    assert str(damaged) in message
    return True


@pytest.mark.parametrize("kind", GARBAGE)
def test_damage_while_it_runs(kind: str, work: Path) -> None:
    """Whatever file of a running attempt is damaged: it can be looked at, cancelled and resumed."""
    exp = run.Experiment("running", executor=run.LocalExecutor(grace=0.5))
    exp.add(bash("echo x >> ran; sleep 600"), name="a")
    exp.run(detach=True)
    eventually(lambda: attempts(work))
    os.kill(exp._its_store.controller()["pid"], 9)
    folder = exp.directory / "a" / "attempts" / "1"
    for name in ("spec.json", "running.json", "supervisor.json"):
        good = (folder / name).read_bytes()
        garbage = GARBAGE[kind]
        (folder / name).write_bytes(good[: len(good) // 2] if garbage is None else garbage)
        assert states(exp) == {"a": "RUNNING"}
        exp.logs("a", follow=False)
        if name != "supervisor.json":
            (folder / name).write_bytes(good)
    exp.cancel_jobs()
    assert str(states(exp)["a"]) in ("CANCELLED", "FAILED")


def test_a_damaged_end_is_told_and_not_run_again(ended: run.Experiment) -> None:
    """The controller was killed before it took note; the supervisor's note is damaged."""
    job = ended.directory / "a"
    state = json.loads((job / "state.json").read_text())
    state["tasks"][0].update(state="RUNNING", exit_code=None, ended=None)
    (job / "state.json").write_text(json.dumps(state))
    (job / "attempts" / "1" / "exit.json").write_bytes(b"")
    past = run.Experiment.from_id(ended.id)
    past.resume()
    result = past.results()["a"]
    assert result.state is run.JobState.FAILED
    assert str(job / "attempts" / "1" / "exit.json") in result.reason
    assert not (job / "attempts" / "2").exists()


# one controller


def test_one_controller_at_a_time(work: Path) -> None:
    exp = run.Experiment("driven")
    exp.add(bash("sleep 600"), name="job")
    exp.run(detach=True)
    pid = exp._its_store.controller()["pid"]
    with pytest.raises(ExperimentBusyError, match=f"{pid}.*attach"):
        run.Experiment.from_id(exp.id).resume()
    with pytest.raises(run.NemoRunError):
        run.Experiment.from_id(exp.id).resume(detach=True)
    exp.cancel_jobs()
    assert states(exp) == {"job": "CANCELLED"}


def test_looking_does_not_keep_a_controller_out(work: Path) -> None:
    store = catalog.create("looked at")
    store.write_definition(Definition(store.id, "looked at", 0.0))
    looker = textwrap.dedent(f"""
        from pathlib import Path
        from nemo_run.run.store import ExperimentStore
        store = ExperimentStore(Path({str(store.path)!r}))
        while True:
            store.is_driven()
    """)
    with store.driving():
        pass
    process = subprocess.Popen([sys.executable, "-c", looker])
    try:
        for _ in range(20):
            with store.driving():
                assert store.is_driven()
    finally:
        process.kill()
        process.wait()


@pytest.mark.needs("root")
def test_what_cannot_be_removed_of_one_experiment_stops_no_other(ended: run.Experiment) -> None:
    """Files of another user are said where they are; what follows is deleted."""
    with run.Experiment("other") as other:
        other.add(bash("true"), name="a")
        other.run()
    (other.directory / "a" / "closed" / "inside").mkdir(parents=True)
    (other.directory / "a" / "closed").chmod(0o500)
    theirs = ended.directory / "a" / "theirs"
    (theirs / "inside").mkdir(parents=True)
    os.chown(theirs, 4321, 4321)
    code = f"from nemo_run.run import housekeeping; print(housekeeping.delete_all([{ended.id!r}, {other.id!r}]))"
    ordinary = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
    done = subprocess.run([*ordinary, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grave = next(ended.directory.parent.glob(".deleted-*"))
    assert f"(['{other.id}'], " in done.stdout
    assert f"sudo rm -r {grave}" in done.stdout
    assert not ended.directory.exists()
    assert not other.directory.exists()
