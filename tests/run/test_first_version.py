"""Experiments that the first version of this package stored: they open, resume, and run again.

``home_of_first_version`` was written by the version before engines had folders of their own. It has data only; names of
folders stand as ``@NAME@``. The controller of ``interrupted`` was killed when its second job had just been submitted;
the jobs of ``engines``, one for each engine but the local one, were never launched.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.commands.adoption import adopt_all
from nemo_run.core.execution.backends import Backends
from nemo_run.errors import ReceivedExperimentError
from nemo_run.run.store import ExperimentStore

STORED = Path(__file__).with_name("home_of_first_version")
ENGINES = ("dgxcloud", "docker", "kubeflow", "kubernetes", "lepton", "skypilot", "slurm")
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: none}}]
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the home with folders of this machine, in use."""
    folders = {name: tmp_path / name.lower() for name in ("HOME", "WORK", "USER")}
    values = {**folders, "PYTHON": sys.executable, "SOURCE": Path(run.__file__).parents[1]}
    values["KUBECONFIG"] = kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    folders["WORK"].mkdir(exist_ok=True)
    for source in STORED.rglob("*"):
        if source.is_file():
            text = source.read_text(encoding="utf-8")
            for name, value in values.items():
                text = text.replace(f"@{name}@", str(value))
            copy = folders["HOME"] / source.relative_to(STORED)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text, encoding="utf-8")
    monkeypatch.setenv("NEMORUN_HOME", str(folders["HOME"]))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.chdir(folders["WORK"])
    return folders["HOME"]


@pytest.fixture
def adopted(home: Path) -> Path:
    """The same home: its experiments have no marks, as that version wrote none, and are adopted once."""
    adopt_all(yes=True)
    return home


def states(exp: run.Experiment) -> dict[str, str]:
    document = exp.status(return_dict=True)
    assert document is not None
    return {name: job["status"].name for name, job in document.items()}


def test_an_experiment_that_has_ended_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = run.Experiment.from_title("ended")
    assert states(exp) == {
        "good": "SUCCEEDED",
        "bad": "FAILED",
        "after": "CANCELLED",
        "pair": "SUCCEEDED",
        "function": "SUCCEEDED",
    }
    exp.logs("good")
    exp.logs("function")
    shown = capsys.readouterr().out
    assert "from the old one" in shown
    assert "from a function" in shown
    (kept,) = exp.artifacts("good")
    assert (kept.path, Path(kept.file).read_text()) == ("result.txt", "kept\n")


@pytest.mark.needs("Python 3.11")  # print tells its arguments
def test_what_failed_runs_again(adopted: Path) -> None:
    (adopted / "flag").touch()  # now it can succeed
    again = run.Experiment.from_title("ended").rerun()
    assert set(states(again).values()) == {"SUCCEEDED"}


@pytest.mark.needs("Python 3.11")  # print tells its arguments
def test_a_reset_experiment_has_the_same_jobs(adopted: Path) -> None:
    exp = run.Experiment.from_title("ended").reset()
    (good,) = [job for job in exp.jobs if job.id == "good"]
    assert isinstance(good.executor, run.LocalExecutor)
    assert good.executor.env_vars == {"COLOUR": "blue", "MY_TOKEN": "hush-hush"}
    (adopted / "flag").touch()
    exp.run()
    assert set(states(exp).values()) == {"SUCCEEDED"}


def test_an_interrupted_experiment_goes_on_where_it_was(adopted: Path) -> None:
    exp = run.Experiment.from_title("interrupted")
    exp.resume()
    assert states(exp) == {"first": "SUCCEEDED", "second": "SUCCEEDED", "third": "SUCCEEDED"}
    attempts = {path.parts[-3]: path.name for path in Path(exp.directory).glob("*/attempts/*")}
    assert attempts == {"first": "1", "second": "1", "third": "1"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_of_every_engine_is_understood(adopted: Path, engine: str) -> None:
    exp = run.Experiment.from_title("engines")
    (job,) = [job for job in exp.jobs if job.id == engine]
    executor = job.executor
    assert isinstance(executor, run.Executor)
    assert executor.engine == engine
    assert executor.env_vars == {"COLOUR": "blue"}
    store = ExperimentStore(Path(exp.directory))
    plan = store.read_plan(store.read_definition().job(engine).tasks[0])
    with Backends() as backends:
        assert f"scripts/{engine}.sh" in backends.of(plan).describe(plan)


def test_the_jobs_of_all_engines_can_be_prepared_again(adopted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = run.Experiment.from_title("engines").reset()
    exp.dryrun()
    shown = capsys.readouterr().out
    assert [engine for engine in ENGINES if f"scripts/{engine}.sh" not in shown] == []


def test_experiments_without_marks_are_only_looked_at_until_they_are_adopted(home: Path) -> None:
    exp = run.Experiment.from_title("interrupted")
    assert states(exp)["third"] in ("UNSUBMITTED", "SUBMITTED")
    with pytest.raises(ReceivedExperimentError, match=f"nemorun experiment adopt {exp.id}"):
        exp.resume()
