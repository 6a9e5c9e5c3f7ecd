"""An engine of another package: the one of the examples, installed, behaves as ours do."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Executor, JobState, get_backend
from nemo_run.testing import BackendContract
from tests.support import bash, states, work as work  # noqa: PLC0414  (a fixture)

PACKAGE = Path(__file__).parents[2] / "examples" / "nohup_executor"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PACKAGE)], check=True)
    return target


@pytest.fixture(autouse=True)
def on_the_path(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("PYTHONPATH", str(installed))
    yield
    sys.modules.pop("nemo_run_nohup", None)


def make_executor(**options: Any) -> Executor:
    executor: Executor = importlib.import_module("nemo_run_nohup").NohupExecutor(**options)
    return executor


class TestNohupBackend(BackendContract):
    def make_executor(self, **options: Any) -> Executor:
        return make_executor(**options)


def test_it_is_found_by_its_name() -> None:
    assert get_backend("nohup").name == "nohup"


def test_an_experiment(work: Path) -> None:
    with run.Experiment("nohup", executor=make_executor(retries=1, retry_delay=0.01)) as experiment:
        script = 'echo "try $NEMO_RUN_ATTEMPT" > $NEMO_RUN_ARTIFACTS/a; exit $((2 - NEMO_RUN_ATTEMPT))'
        experiment.add(bash(script), name="a")
        experiment.add(run.Partial(sorted, [2, 1]), name="b", dependencies=["a"])
        experiment.run(detach=True)
        experiment.attach()
    assert states(experiment) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert [Path(artifact.file).read_text() for artifact in experiment.artifacts()] == ["try 2\n"]


def test_the_command_line_knows_it() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "nemo_run", "executors", "--json"], capture_output=True, text=True, check=True
    )
    [entry] = [entry for entry in json.loads(listed.stdout) if entry["name"] == "nohup"]
    assert entry["class"] == "nemo_run_nohup.NohupExecutor"


def test_the_command_line_takes_it(work: Path, nemorun_home: Path) -> None:
    (work / "train.py").write_text(
        "import nemo_run as run\n\n"
        "@run.cli.entrypoint\n"
        "def train(size: int = 1):\n"
        "    print('size', size)\n\n"
        "if __name__ == '__main__':\n"
        "    run.cli.main(train)\n"
    )
    words = ["size=3", "run.executor=nohup", "run.executor.retries=1", "--yes"]
    done = subprocess.run([sys.executable, "train.py", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "size 3" in done.stdout
    [plan] = nemorun_home.rglob("plan.json")
    assert json.loads(plan.read_bytes())["engine"] == "nohup"


def test_a_task_whose_supervision_was_killed_is_told(tmp_path: Path) -> None:
    contract = TestNohupBackend()
    contract.tmp_path, contract._requests, contract._submitted = tmp_path, 0, []
    contract.backend = make_executor().backend()
    handle = contract.start("kill -9 $PPID; sleep 0.1")
    assert contract.end(handle).lost
    assert contract.status(handle).state is JobState.FAILED
