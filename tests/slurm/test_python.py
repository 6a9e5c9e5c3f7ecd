"""Which Python runs function tasks on the nodes, and what is said before submission where it cannot."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.errors import ExecutorError
from tests.runners.test_older_python import OLD
from tests.slurm.test_experiments import launch, project  # noqa: F401

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def _python(folder: Path, text: str) -> str:
    """Make a program that stands for a Python; its path."""
    path = folder / "python3.x"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def _function_task() -> run.Partial:
    return run.Partial(importlib.import_module("slurm_work").train, steps=3)


def _submitted() -> int:
    return len(subprocess.check_output(["squeue", "-h", "-t", "all"], text=True).splitlines())


@pytest.mark.usefixtures("project")
def test_the_python_that_is_named_runs_function_tasks_on_the_nodes(executor: SlurmExecutor, jobs_folder: Path) -> None:
    executor.packager = GitArchivePackager()
    executor.python = _python(jobs_folder, 'case $* in *runner*) touch "${0%/*}/used";; esac; exec python3 "$@"')
    experiment = run.Experiment("named", executor=executor)
    experiment.add(_function_task(), name="a")
    assert launch(experiment)["a"].state is run.JobState.SUCCEEDED
    assert (jobs_folder / "used").exists()


@pytest.mark.usefixtures("project")
def test_a_python_that_is_too_old_is_refused_before_anything_is_submitted(
    executor: SlurmExecutor, jobs_folder: Path
) -> None:
    executor.packager = GitArchivePackager()
    executor.python = _python(jobs_folder, "echo 3.6")
    before = _submitted()
    experiment = run.Experiment("old", executor=executor)
    experiment.add(_function_task(), name="a")
    with pytest.raises(ExecutorError, match=r"python3\.x on .* is Python 3\.6, and function tasks need 3\.9 or newer"):
        launch(experiment)
    assert _submitted() == before
    executor.setup_lines = "true  # which may load another one"
    experiment = run.Experiment("loads", executor=executor)
    experiment.add(_function_task(), name="a")
    launch(experiment)
    assert _submitted() == before + 1


def test_functions_pickled_by_another_python_are_told_of_before(executor: SlurmExecutor, jobs_folder: Path) -> None:
    executor.python = _python(jobs_folder, "echo 3.9")
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("def train(): pass", namespace)  # as in a launching script
    main = sys.modules["__main__"]
    main.train = namespace["train"]  # type: ignore[attr-defined]
    experiment = run.Experiment("pickled", executor=executor)
    experiment.add(run.Partial(namespace["train"]), name="a")
    with pytest.raises(ExecutorError, match=r"is Python 3\.9, but the task uses functions of the launching script"):
        launch(experiment)
    del main.train  # type: ignore[attr-defined]


@pytest.mark.usefixtures("project")
def test_function_tasks_run_on_the_python_of_enterprise_distributions(here: object, executor: SlurmExecutor) -> None:
    executor.tunnel, executor.python, executor.packager = here, OLD, GitArchivePackager()  # type: ignore[assignment]
    experiment = run.Experiment("enterprise", executor=executor)
    experiment.add(_function_task(), name="a")
    assert launch(experiment)["a"].state is run.JobState.SUCCEEDED
