"""The bundle runs function tasks where nothing but Python is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemo_run.config import Config, Partial
from nemo_run.core.execution.base import Command
from nemo_run.core.execution.shared.shipping import run_by_bundle
from nemo_run.core.runners.bundle import RUNNER, runner_bundle
from nemo_run.run.prepare import encode

SUPPORTED = ("python3.10", "python3.11", "python3.12", "python3.13")


def run(python: str, *args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Python as if nothing were installed."""
    argv = [python, "-I", "-S", *map(str, args)]
    return subprocess.run(argv, cwd=cwd, env={}, capture_output=True, text=True, check=False)


def pythons() -> list[str]:
    """This Python, and all others that this machine has and the product supports."""
    others = [path for path in map(shutil.which, SUPPORTED) if path]
    return [sys.executable, *(path for path in others if run(path, "--version").returncode == 0)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runner_bundle(tmp_path_factory.mktemp("bundle"))


def store_task(folder: Path, config: Any, **more: Any) -> str:
    stored = encode({"config": config})
    document = {**stored.document, "sys_path": [], **more}
    if stored.main or "main" in more:
        (folder / "main.pkl").write_bytes(stored.main)
    (folder / "task.json").write_text(json.dumps(document))
    return str(folder / "task.json")


@pytest.mark.parametrize("python", pythons())
def test_a_bare_python_runs_a_task(python: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "code_of_the_user.py").write_text(
        "import sys\ndef work(inner, text): print(inner, text, 'site' in sys.modules)\n"
    )
    document = {
        "_target_": "code_of_the_user.work",
        "_partial_": True,
        "inner": {"_target_": "fractions.Fraction", "numerator": 6, "denominator": 4},
        "text": "it's $HOME\n",
    }
    task = store_task(tmp_path, Partial(dict))
    stored = json.loads(Path(task).read_text())
    Path(task).write_text(json.dumps({**stored, "config": document}))
    result = run(python, bundle, "-n", "t", task, cwd=tmp_path)
    assert result.stdout == "3/2 it's $HOME\n False\n", result.stderr
    assert result.returncode == 0


def test_the_names_of_this_package_are_there_too(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(
        "import nemo_run as run\n"
        "def inner(width: int) -> run.Config[dict]: return run.Config(dict, width=width)\n"
        "def work(width: int): print(run.__file__, inner(width).build())\n"
    )
    task = store_task(tmp_path, Partial(dict))
    stored = json.loads(Path(task).read_text())
    document = {"_target_": "recipe.work", "_partial_": True, "width": 4}
    Path(task).write_text(json.dumps({**stored, "config": document}))
    result = run(sys.executable, bundle, task, cwd=tmp_path)
    assert result.stdout == f"{bundle}/nemo_run/__init__.py {{'width': 4}}\n", result.stderr


def test_its_name_tells_its_content_and_it_is_written_once(bundle: Path) -> None:
    before = bundle.stat()
    assert runner_bundle(bundle.parent) == bundle
    assert bundle.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
    assert bundle.read_bytes() == runner_bundle(bundle.parent / "other").read_bytes()
    assert bundle.stat().st_mode & 0o777 == 0o644


def test_code_pickled_by_another_python_is_refused_in_words(bundle: Path, tmp_path: Path) -> None:
    task = store_task(tmp_path, Config(dict), main="main.pkl", python="3.7")
    result = run(sys.executable, bundle, task, cwd=tmp_path)
    assert result.returncode == 1
    assert "pickled by Python 3.7, but it runs on Python 3." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_command_of_the_runner_is_run_by_the_bundle() -> None:
    command = Command(("/usr/bin/python3", "-m", RUNNER, "-n", "t", "task.json"), {"PYTHONPATH": "/theirs", "A": "1"})
    bundled = run_by_bundle(command, "/runner.zip")
    assert bundled.argv == ("/usr/bin/python3", "/runner.zip", "-n", "t", "task.json")
    assert bundled.env == command.env


def test_other_commands_stay_as_they_are() -> None:
    command = Command(("python3", "-m", "http.server"), {"PYTHONPATH": "/here"})
    assert run_by_bundle(command, "/runner.zip") is command
