"""An experiment goes from one home to another as a file: all of it can be looked at there, and nothing acts."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError, PackagingError, ReceivedExperimentError
from nemo_run.run import catalog
from nemo_run.run.receiving import receive
from tests.cli.conftest import Nemorun
from tests.run import work as tasks

SECRET = "s3cr3t-7"


@pytest.fixture
def exported(nemorun: Nemorun, tmp_path: Path) -> Path:
    executor = run.LocalExecutor(env_vars={"WANDB_API_KEY": SECRET})
    with run.Experiment("gift", executor=executor, clean_mode=True) as exp:
        exp.add(run.Partial(tasks.gives, kind="dataclass"), name="a")
        script = "echo hello; echo file > $NEMO_RUN_ARTIFACTS/model.txt; exit 3"
        exp.add(run.Script(inline=script, args=["--api-key", SECRET], env={"HF_TOKEN": SECRET}), name="b")
        exp.run()
    file = tmp_path / "gift.tar.gz"
    assert exp.id in nemorun("experiment", "export", "gift", str(file)).stdout
    return file


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEMORUN_HOME", str(tmp_path / "home of a colleague"))


def test_all_is_seen_elsewhere(
    nemorun: Nemorun, exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere(monkeypatch, tmp_path)
    assert "look at it" in nemorun("experiment", "import", str(exported)).stdout
    status = json.loads(nemorun("experiment", "status", "gift", "--json").stdout)
    assert {name: job["status"] for name, job in status["jobs"].items()} == {"a": "SUCCEEDED", "b": "FAILED"}
    assert status["received"] is True
    assert nemorun("experiment", "logs", "gift", "b").stdout.endswith("hello\n")
    exp = run.Experiment.from_title("gift")
    assert exp.result("a").accuracy == 0.5
    assert [artifact.path for artifact in exp.artifacts()] == ["model.txt"]
    assert "tests.run.work.gives" in nemorun("experiment", "show", "gift").stdout
    with pytest.raises(ReceivedExperimentError):
        exp.rerun()


def test_no_secret_goes_along(exported: Path) -> None:
    with tarfile.open(exported) as tar:
        names = tar.getnames()
        contents = b"".join(tar.extractfile(one).read() for one in tar if one.isfile())  # type: ignore[union-attr]
    assert not any(name.endswith(("plan.json", "environment.json", "mark.json", "main.pkl")) for name in names)
    assert SECRET.encode() not in contents


def test_nothing_is_replaced(exported: Path) -> None:
    with pytest.raises(ExperimentError, match="already"):
        receive(exported)
    assert catalog.latest("gift").is_ours


def archive(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return path


DEFINITION = json.dumps({"id": "x_1", "title": "x", "created": 1.0, "jobs": []})


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"x_1__experiment.json": "["},
        {"x_1__other": "3"},
        {"y_1__experiment.json": DEFINITION},
        {"x_1__experiment.json": DEFINITION, "y__experiment.json": DEFINITION},
        {"..__..__evil": "3"},
        {"x_1__experiment.json": DEFINITION.replace('"x"', '"../../../evil"').replace('"x_1"', '"../x"')},
    ],
)
def test_what_is_no_experiment_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(run.NemoRunError):
        receive(archive(tmp_path / "odd.tar.gz", **files))
    assert catalog.ids() == []
    assert list(tmp_path.rglob("evil*")) == []


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(PackagingError):
        receive(tmp_path / "text")
