"""Odd values in the files of experiments, each of which once ended a look with a traceback, for all or for one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core import values
from nemo_run.core.execution.jobs import JobState
from nemo_run.core.runners.outputs import SUGGESTED
from nemo_run.errors import StoreError
from nemo_run.run import artifacts, catalog, stored
from nemo_run.run.metrics import task_metrics
from nemo_run.run.overview import overview
from nemo_run.run.records import JobProgress, TaskProgress
from nemo_run.run.sharing import export
from nemo_run.run.sweep import trials_of
from nemo_run.ui import reading
from nemo_run.ui.logs import Log, LogName
from tests.run import work as tasks
from tests.trust.conftest import Received

_ODD = [10**400, 1e300, float("nan"), float("inf"), -5, True]


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def looked_at(store: Any) -> None:
    """Look at an experiment in the ways that read most; what cannot be read is said as an error of ours."""
    definition = store.read_definition()
    for look in (
        lambda: overview(store),
        lambda: reading.dumps(reading.experiment(store)),
        lambda: reading.dumps(reading.outcomes(store)),
        lambda: reading.dumps(reading.trials(store)),
        lambda: reading.dumps(reading.artifact_list(store)),
        lambda: reading.dumps(reading.configuration(store, definition.jobs[0].id)),
        lambda: reading.dumps(reading.search_words(store)),
        lambda: trials_of(store, definition),
        lambda: export(store, store.path.parent / "export.tar.gz"),
        lambda: read_log(store, definition.jobs[0].id),
    ):
        try:
            look()
        except run.NemoRunError:
            continue


def read_log(store: Any, job: str) -> None:
    with contextlib.closing(Log(store, LogName(store.id, job, 0, 1, None))) as log:
        log.read(0)


@pytest.fixture
def home(received: Received, monkeypatch: pytest.MonkeyPatch) -> Received:
    monkeypatch.setenv("NEMORUN_HOME", str(received.home))
    return received


@pytest.fixture
def of_nemo_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which NVIDIA's NeMo-Run noted the end of a task, in a home of its."""
    home = shutil.copytree(Path(__file__).parents[1] / "run/home_of_nemo_run", tmp_path / "home")
    monkeypatch.setenv("NEMORUN_HOME", str(home))
    return next(home.rglob("SUCCESS"))


@pytest.mark.parametrize("value", _ODD, ids=repr)
def test_an_odd_time_noted_by_nemo_run_hides_nothing(value: Any, of_nemo_run: Path) -> None:
    document = json.loads(of_nemo_run.read_text())
    document["last_updated"] = value
    of_nemo_run.write_text(json.dumps(document))
    rows = [overview(store) for store in catalog.launched()]
    assert [row.title for row in rows] == ["nightly", "on the cluster"]
    assert all(row.row(2e9).cells for row in rows)


_CHANGES: dict[str, tuple[str, Callable[[Any], object]]] = {
    "an attempt that is a list": (
        "job/state.json",
        lambda doc: doc["tasks"][0].update(history=[{"handle": "local://x", "attempt": []}]),
    ),
    "a time of an artifact that is no number": ("job/artifacts.json", lambda doc: doc[0].update(modified=float("nan"))),
    "a deep configuration": ("job/task.json", lambda doc: doc.update(config=nested(900))),
    "a deep executor": ("job/task.json", lambda doc: doc["executor"].update(x=nested(900))),
    "a deep history": (
        "job/state.json",
        lambda doc: doc["tasks"][0].update(history=[{"handle": "local://x", "node": nested(900)}]),
    ),
    "deep provenance": ("provenance.json", lambda doc: doc.update(argv=nested(900))),
    "as deep as it may be": ("job/task.json", lambda doc: doc.update(config=nested(190))),
}


@pytest.mark.parametrize("name", _CHANGES)
def test_an_odd_value_ends_no_look_with_a_traceback(name: str, home: Received) -> None:
    file, change = _CHANGES[name]
    home.edit(file, change)
    (home.folder / "job/attempts/1/log").unlink()
    looked_at(catalog.find(home.id))


def test_a_deep_result_or_exception_is_one_problem(home: Received) -> None:
    folder = home.folder / "job/artifacts/.nemo_run"
    folder.mkdir(exist_ok=True)
    (folder / "value.json").write_text(json.dumps({"problem": nested(900)}))
    (folder / "exception.json").write_text(json.dumps({"attempt": 1, "time": 1.0, "frames": [{"file": nested(900)}]}))
    store = catalog.find(home.id)
    assert "nested" in reading.outcomes(store)["job"]["problem"]
    looked_at(store)


def test_a_file_of_metrics_that_pretends_to_be_huge_comes_to_an_end(
    home: Received, caplog: pytest.LogCaptureFixture
) -> None:
    (home.folder / "job/artifacts").mkdir(exist_ok=True)
    with (home.folder / "job/artifacts/metrics.jsonl").open("wb") as file:
        file.write(b'{"step": 1, "metrics": {"loss": 0.5}}\n')
        file.truncate(1 << 40)
    store = catalog.find(home.id)
    [loss] = task_metrics(store, store.read_definition().jobs[0].tasks[0]).values()
    assert loss.last == 0.5
    assert "larger than 1 GiB" in caplog.text


@pytest.mark.parametrize("path", [None, [], 7, {"a": 1}], ids=repr)
def test_a_choice_for_a_parameter_without_a_name_is_shown_as_it_is(path: Any, home: Received) -> None:
    (home.folder / "job/inputs.json").write_text(json.dumps({SUGGESTED: values.encode({"x": 1})}))
    wrong = {"_target_": "nemo_run.core.runners.outputs.suggested", **({} if path is None else {"path": path})}
    home.edit("job/task.json", lambda doc: doc.update(config={"_target_": "a.b", "x": wrong}))
    looked_at(catalog.find(home.id))


@pytest.mark.parametrize("name", ["job/state.json", "job/task.json", "provenance.json", "labels.json", "summary.json"])
def test_a_document_that_is_a_link_is_not_read(name: str, home: Received) -> None:
    outside = home.top / "outside.json"
    document = json.loads((home.folder / name).read_text()) if (home.folder / name).exists() else {}
    outside.write_text(json.dumps({**document, "note": "CANARY", "user": "CANARY"}))
    (home.folder / name).unlink(missing_ok=True)
    (home.folder / name).symlink_to(outside)
    store = catalog.find(home.id)
    looked_at(store)
    said = home.nemorun("experiment", "show", home.id)
    assert "CANARY" not in said.stdout + said.stderr
    assert "Traceback" not in said.stderr


def test_results_are_taken_over_without_following_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("CANARY")
    with run.Experiment("first", clean_mode=True) as exp:
        exp.add(run.Script(inline="echo a > $NEMO_RUN_ARTIFACTS/a.txt"), name="job")
        exp.run()
    old, new = catalog.find(exp.id), catalog.create("second")
    task = old.read_definition().jobs[0].tasks[0]
    folder = old.path / task.directory
    (folder / "artifacts.json").unlink()
    (folder / "artifacts.json").symlink_to(tmp_path / "secret")
    (folder / "artifacts/link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "artifacts/pipe")
    with pytest.raises(StoreError, match="link"):
        artifacts.take_over(old, task, new, task)
    (folder / "artifacts.json").unlink()
    new = catalog.create("third")
    artifacts.take_over(old, task, new, task)
    assert [path.name for path in (new.path / task.directory).rglob("*")] == ["artifacts", "a.txt"]
    assert (new.path / task.directory / "artifacts/a.txt").samefile(folder / "artifacts/a.txt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", [run.Config(os.system, command="touch executed"), run.Config(tasks.Object)], ids=repr)
def test_an_executor_is_built_of_known_parts_only(part: Any) -> None:
    config = run.Config(run.LocalExecutor, packager=part)
    with pytest.raises(StoreError, match="no part of one"):
        stored.built_executor(config, Path("task.json"))
    assert not (Path.cwd() / "executed").exists()


def test_parts_that_executors_have_are_built() -> None:
    config = run.Config(
        run.SlurmExecutor, account="a", packager=run.Config(run.GitArchivePackager), launcher=run.Config(run.Torchrun),
        tunnel=run.Config(run.LocalTunnel, job_dir="/x"), restarts=run.Config(run.Restarts),
    )  # fmt: skip
    built = stored.built_executor(config, Path("task.json"))
    assert isinstance(built, run.SlurmExecutor)
    assert isinstance(built.packager, run.GitArchivePackager)
    assert isinstance(built.tunnel, run.LocalTunnel)


def test_progress_counts_what_it_did_before() -> None:
    # What is written is read: every type that an attempt of a history has.
    task = TaskProgress(JobState.FAILED, attempt=1, handle="x", history=[{"handle": "x", "attempt": 1, "started": 1.0}])
    assert JobProgress.from_json(JobProgress([task]).to_json()).tasks == [task]
