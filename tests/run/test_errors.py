"""Errors are also of the types that programs written for NeMo-Run catch; the table in the documentation is true."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run import errors
from nemo_run.config import set_value
from nemo_run.core.execution.base import Executor, import_executor
from nemo_run.exceptions import SetValueError
from tests.support import bash

TABLE = Path(__file__).parents[2] / "docs" / "coming-from-nemo-run.md"


class Model:
    def __init__(self, size: int) -> None:
        self.size = size


def circle() -> None:
    exp = run.Experiment("circle")
    exp.add(bash("true"), name="a")
    exp.add(bash("true"), name="b", dependencies=["a"])
    exp.jobs[0].dependencies.append("b")
    exp.run()


def late_dependency() -> None:
    exp = run.Experiment("late")
    exp.add(bash("true"), name="a")
    exp.jobs[0].dependencies.append("nobody")
    exp.run()


def new() -> run.Experiment:
    return run.Experiment("wrong")


SITUATIONS: list[tuple[Callable[[], object], type[Exception], type[Exception]]] = [
    (lambda: run.Experiment.from_title("nobody"), FileNotFoundError, errors.ExperimentNotFoundError),
    (lambda: run.Experiment.from_id("nobody_20200101_000000"), AssertionError, errors.ExperimentNotFoundError),
    (lambda: run.Experiment.from_id("../nobody"), AssertionError, errors.InvalidNameError),
    (lambda: new().add([bash("true"), bash("true")]), AssertionError, errors.InvalidNameError),
    (
        lambda: new().add([bash("true")] * 3, executor=[run.LocalExecutor(), run.LocalExecutor()], name="g"),
        AssertionError,
        errors.InvalidJobError,
    ),
    (lambda: new().add(bash("true"), executor="local"), AssertionError, errors.InvalidJobError),  # type: ignore[arg-type]
    (lambda: new().add(3), TypeError, errors.InvalidJobError),  # type: ignore[arg-type]
    (lambda: new().add([], name="empty"), ValueError, errors.InvalidJobError),
    (lambda: new().add(bash("true"), dependencies=["nobody"]), AssertionError, errors.DependencyError),
    (late_dependency, AssertionError, errors.DependencyError),
    (circle, AssertionError, errors.DependencyError),
    (lambda: run.run(3), TypeError, errors.InvalidJobError),  # type: ignore[arg-type]
    (run.Script, AssertionError, errors.ScriptError),
    (lambda: run.Config(Model, depth=1), TypeError, errors.UnknownFieldError),
    (lambda: setattr(run.Config(Model, size=1), "depth", 1), AttributeError, errors.UnknownFieldError),
    (lambda: run.Config(Model, size=1).depth, AttributeError, errors.UnknownFieldError),
    (lambda: run.Config(Model).size, AttributeError, errors.UnsetArgumentError),
    (lambda: import_executor("nobody"), FileNotFoundError, errors.ExecutorNotFoundError),
    (lambda: import_executor("nobody", __file__), AttributeError, errors.UnknownExecutorError),
    (lambda: run.LocalExecutor(launcher="nobody").get_launcher(), KeyError, errors.LauncherError),
    (lambda: run.LocalExecutor(launcher=run.Torchrun).get_launcher(), AssertionError, errors.LauncherError),  # type: ignore[arg-type]
    (lambda: run.SlurmTemplate().get_template_content(), ValueError, errors.LauncherError),
    (lambda: run.SlurmTemplate(template_path="/no").get_template_content(), FileNotFoundError, errors.LauncherError),
    (lambda: set_value(run.Config(Model, size=1), "depth", 1), SetValueError, errors.UnknownFieldError),
    (lambda: set_value(run.Config(Model, size=1), "size", "x"), SetValueError, errors.ConfigTypeError),
    (lambda: Executor().nnodes(), NotImplementedError, NotImplementedError),
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=range(len(SITUATIONS)))
def test_an_error_is_caught_as_in_nemo_run(
    situation: tuple[Callable[[], object], type[Exception], type[Exception]],
) -> None:
    action, caught_as, ours = situation
    with pytest.raises(caught_as) as raised:
        action()
    assert isinstance(raised.value, ours)
    assert len(str(raised.value)) > 10, "it says what is wrong"


def rows() -> list[tuple[list[str], str]]:
    section = TABLE.read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [([name.strip("` ") for name in caught.split(",")], ours.strip("`")) for _, caught, ours in cells[1:]]


def test_the_table_of_errors_is_true() -> None:
    assert len(rows()) >= 15
    for caught_as, ours in rows():
        error = getattr(errors, ours, None) or getattr(builtins, ours)
        for name in caught_as:
            assert issubclass(error, getattr(builtins, name)), f"{ours} is no {name}"


def test_every_error_can_be_raised_with_a_message() -> None:
    """Some have the layout of OSError, which has arguments of its own."""
    found = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.NemoRunError)]
    for error in found:
        if not issubclass(error, (errors.JobFailedError, errors.ArtifactsLeftOutError)):  # which make their own
            assert str(error("what is wrong")) == "what is wrong"
