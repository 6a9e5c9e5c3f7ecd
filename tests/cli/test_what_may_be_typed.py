"""What one may type next, and where something will run: commands of one's own, executors, experiments, jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

import nemo_run as run
from nemo_run.cli.commands import completing
from nemo_run.cli.context import _where
from tests.cli.conftest import Nemorun

WORKSPACE = '''
import nemo_run as run

@run.cli.entrypoint(namespace="models")
def train(rate: float = 0.1):
    """Train a model."""

@run.cli.factory
@run.autoconvert
def two_nodes(time: str = "01:00:00") -> run.Executor:
    """Two nodes of the cluster."""
    return run.SlurmExecutor(account="me", nodes=2, time=time)
'''


def test_help_has_ones_own_commands_and_executors(nemorun: Nemorun, here: Path) -> None:
    (here / "workspace.py").write_text(WORKSPACE)
    assert "Your commands: train." in nemorun("--help").stdout
    shown = nemorun("models", "train", "--help").stdout
    assert "two_nodes(time='01:00:00')" in shown
    assert "Two nodes of the cluster." in shown


def test_a_workspace_that_cannot_be_loaded_does_not_hide_the_help(nemorun: Nemorun, here: Path) -> None:
    (here / "workspace.py").write_text("import nothing_of_this_name")
    done = nemorun("--help")
    assert "experiment" in done.stdout
    assert "nothing_of_this_name" in done.stderr


class _Typed:
    params = {"which": "completed"}  # noqa: RUF012  (as Click has it)


def test_experiments_and_their_jobs_are_completed() -> None:
    with run.Experiment("completed", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="first")
        exp.add(run.Script(inline="true"), name="second")
        exp.run()
    assert completing.experiments("comp") == ["completed", exp.id]
    assert completing.experiments("other") == []
    assert completing.jobs(cast("Any", _Typed), "s") == ["second"]
    _Typed.params = {"which": "nothing"}
    assert completing.jobs(cast("Any", _Typed), "") == []


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("status comp", ["completed"]), ("cancel comp", ["completed"]), ("logs completed s", ["second"])],
)
def test_a_shell_asks_for_them(words: str, wanted: list[str]) -> None:
    with run.Experiment("completed", clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="first")
        exp.add(run.Script(inline="true"), name="second")
        exp.run()
    asked = f"nemorun experiment {words}"
    env = {"_NEMORUN_COMPLETE": "complete_bash", "COMP_WORDS": asked, "COMP_CWORD": str(len(asked.split()) - 1)}
    argv = [sys.executable, "-c", "import sys; sys.argv = ['nemorun']; from nemo_run.__main__ import main; main()"]
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [*wanted, *([exp.id] if wanted == ["completed"] else [])], done.stderr


def test_what_is_cut_in_a_table_is_found_again(nemorun: Nemorun) -> None:
    with run.Experiment("cut", clean_mode=True) as exp:
        exp.add(run.Script(inline="echo hello"), name="a-long-name-of-a-job")
        exp.run()
    cut = f"{exp.id[:5]}…{exp.id[-6:]}"
    assert nemorun("experiment", "logs", cut, "a-long…job").stdout == "a-long-name-of-a-job/0 hello\n"
    assert "cut…nothing" in nemorun("experiment", "status", "cut…nothing", code=2).stderr


def test_differences_for_programs(nemorun: Nemorun) -> None:
    for text in ("echo a", "echo b"):
        with run.Experiment("differs", clean_mode=True) as exp:
            exp.add(run.Script(inline=text), name="job")
            exp.run()
    old, new = run.Experiment.catalog("differs")
    changes = json.loads(nemorun("experiment", "diff", old, new, "--json").stdout)
    assert ("'echo a'", "'echo b'") in [(change["old"], change["new"]) for change in changes]


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        (None, "in this process"),
        (run.LocalExecutor(), "on LocalExecutor"),
        (run.SlurmExecutor(account="me", nodes=4, time="02:00:00"), r"4 nodes, for 02:00:00 at most"),
    ],
)
def test_a_question_says_where_and_for_how_long(executor: run.Executor | None, said: str) -> None:
    assert said in _where(executor)
