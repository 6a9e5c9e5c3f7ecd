"""An environment for a job: what its code depends on becomes a virtual environment where it runs, once for all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import uv

import nemo_run as run
from nemo_run.core.execution.shared import environments
from nemo_run.errors import ExecutorError
from tests.support import bash

UV = uv.find_uv_bin()
SHOW = "import wanted, sys; print('wanted', wanted.VERSION, sys.prefix != sys.base_prefix)"


def make_wheel(folder: Path, name: str, version: str, code: str = "") -> Path:
    """Make a wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", code or f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        make_wheel(folder, "wanted", version)
    return folder


def launch(executor: Any, *tasks: Any) -> tuple[run.Experiment, dict[str, Any]]:
    experiment = run.Experiment("environments", executor=executor, clean_mode=True)
    for index, task in enumerate(tasks):
        experiment.add(task, name=f"t{index}")
    with experiment:
        experiment.run()
    return experiment, experiment.results()


def logs(experiment: run.Experiment, capfd: pytest.CaptureFixture[str], job: str) -> str:
    capfd.readouterr()
    experiment.logs(job)
    return capfd.readouterr().out


def kept() -> list[Path]:
    """The environments of this machine."""
    from nemo_run.config.home import get_nemorun_home

    return sorted(path.parent for path in Path(get_nemorun_home(), "environments").glob("*/*/made"))


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_task_runs_in_the_environment_of_its_requirements(
    tool: str, wheels: Path, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("requirements.txt").write_text("wanted == 1.0\n")
    path = f"{Path(UV).parent}:/usr/bin:/bin" if tool == "uv" else "/usr/bin:/bin"
    executor = run.LocalExecutor(environment="requirements.txt", wheels=str(wheels), env_vars={"PATH": path})
    tasks = [bash(f'python3 -c "{SHOW}"; echo "$VIRTUAL_ENV"') for _ in range(4)]
    experiment, results = launch(executor, *tasks)
    assert {result.state for result in results.values()} == {run.JobState.SUCCEEDED}
    (made,) = kept()
    said = [logs(experiment, capfd, f"t{index}") for index in range(4)]
    assert all("wanted 1.0 True\n" in text and f"{made}\n" in text for text in said)
    assert sum("makes an environment from requirements.txt" in text for text in said) == 1
    done = {"uv": "+ wanted==1.0", "pip": "Successfully installed wanted-1.0"}[tool]
    assert done in made.with_name(f"{made.name}.log").read_text()


def test_other_requirements_are_another_environment(wheels: Path, work: Path) -> None:
    for version in ("1.0", "2.0"):
        Path("requirements.txt").write_text(f"wanted == {version}\n")
        executor = run.LocalExecutor(environment="auto", wheels=str(wheels))
        _, results = launch(executor, bash(f'python3 -c "{SHOW}" | grep {version}'))
        assert results["t0"].state is run.JobState.SUCCEEDED
    assert len(kept()) == 2


def test_a_function_runs_in_it_without_this_package(wheels: Path, work: Path) -> None:
    Path("pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\ndependencies = ["wanted < 2"]\n')
    Path("in_environment.py").write_text(
        "def version():\n    import wanted, sys\n    return [wanted.VERSION, sys.prefix != sys.base_prefix]\n"
    )
    sys.path.insert(0, str(work))
    from in_environment import version  # type: ignore[import-not-found]

    executor = run.LocalExecutor(environment="auto", wheels=str(wheels))
    experiment, results = launch(executor, run.Partial(version))
    sys.path.remove(str(work))
    assert results["t0"].state is run.JobState.SUCCEEDED
    assert experiment.result("t0") == ["1.0", True]


def test_what_cannot_be_made_says_why_and_is_made_anew(
    wheels: Path, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("requirements.txt").write_text("wanted == 3.0\n")
    executor = run.LocalExecutor(environment="requirements.txt", wheels=str(wheels))
    experiment, results = launch(executor, bash("echo begun"))
    assert results["t0"].state is run.JobState.FAILED
    text = logs(experiment, capfd, "t0")
    assert "the environment could not be made from requirements.txt; the whole log: " in text
    assert "wanted" in text
    assert "begun" not in text
    assert kept() == []
    make_wheel(wheels, "wanted", "3.0")
    _, results = launch(executor, bash("true"))
    assert results["t0"].state is run.JobState.SUCCEEDED


def test_a_maker_that_was_killed_is_taken_over_from(wheels: Path, work: Path, tmp_path: Path) -> None:
    environment = environments.Environment("r.txt", "wanted == 1.0\n", "3.x", str(wheels))
    for name, text in environment.files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    argv = [*environments.making(str(tmp_path), str(tmp_path / "kept"), sys.executable), "python3", "-c", SHOW]
    assert "wanted 1.0 True" in subprocess.check_output(argv, text=True)
    (made,) = tmp_path.glob("kept/*/*/made")
    made.unlink()
    shutil.rmtree(made.parent / "lib")
    lock = made.parent.with_name(f"{made.parent.name}.lock")
    lock.mkdir()
    subprocess.run(["touch", "-d", "10 minutes ago", lock], check=True)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "waits for the environment, which another job makes" in done.stderr
    assert "wanted 1.0 True" in done.stdout


def test_uv_makes_what_it_has_locked(wheels: Path, work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["wanted < 2"]\n'
    )
    subprocess.run([UV, "lock", "--quiet", "--no-index", f"--find-links={wheels}"], check=True)
    path = f"{Path(UV).parent}:{os.environ['PATH']}"
    executor = run.LocalExecutor(environment="auto", wheels=str(wheels), env_vars={"PATH": path})
    experiment, results = launch(executor, bash(f'python3 -c "{SHOW}"'))
    assert results["t0"].state is run.JobState.SUCCEEDED
    assert "makes an environment from uv.lock with uv" in logs(experiment, capfd, "t0")


@pytest.mark.parametrize(
    ("value", "file", "message"),
    [
        ("auto", {}, "has none of uv.lock, pyproject.toml, requirements.txt"),
        ("auto", {"pyproject.toml": "[tool.x]\n"}, "has none of"),
        ("other.txt", {}, "there is no such file"),
        ("pyproject.toml", {"pyproject.toml": "[project\n"}, "cannot be read"),
        ("pyproject.toml", {"pyproject.toml": "[project]\n"}, "has no list of dependencies"),
    ],
)
def test_what_tells_no_dependencies_is_an_error_at_the_launch(
    work: Path, value: str, file: dict[str, str], message: str
) -> None:
    for name, text in file.items():
        Path(name).write_text(text)
    with pytest.raises(ExecutorError, match=message):
        launch(run.LocalExecutor(environment=value), bash("true"))


def test_an_engine_that_makes_none_says_so(work: Path) -> None:
    Path("requirements.txt").write_text("")
    executor = run.SkypilotExecutor(environment="auto", cloud="kubernetes", packager=run.Packager())
    experiment = run.Experiment("none", executor=executor)
    experiment.add(bash("true"), name="a")
    with pytest.raises(ExecutorError, match="the skypilot engine makes no environments"), experiment:
        experiment.run()
