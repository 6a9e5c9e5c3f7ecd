"""A command with an executor, plugins and a factory of its own; each call is a run that writes down what it got."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Union

import nemo_run as run

RESULT = os.environ.setdefault("RESULT", str(Path.cwd() / "result.txt"))


def note(*words):
    with Path(RESULT).open("a") as file:
        print(*words, file=file)


@dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple = (0.9, 0.95)


@dataclass
class Model:
    hidden: int = 8
    optimizer: Optional[Optimizer] = None


@dataclass
class Data:
    path: str = "p"
    splits: Optional[List[int]] = None


@run.cli.factory
@run.autoconvert
def adam(lr: float = 1e-3) -> Optimizer:
    return Optimizer(lr=lr)


@run.cli.factory
@run.autoconvert
def small(hidden: int = 4) -> Model:
    return Model(hidden=hidden, optimizer=adam(lr=0.25))


@run.cli.factory(target=Model, target_arg="optimizer")
def momentum(lr: float = 7.0) -> run.Config[Optimizer]:
    return run.Config(Optimizer, lr=lr)


@run.cli.factory
@run.autoconvert
def local() -> run.LocalExecutor:
    return run.LocalExecutor(env_vars={"A": "1"})


@dataclass(kw_only=True)
class Steps(run.Plugin):
    steps: int = 5

    def setup(self, task, executor):
        task.steps = self.steps
        executor.env_vars["B"] = "2"


@run.cli.factory
@run.autoconvert
def many_steps(steps: int = 11) -> Steps:
    return Steps(steps=steps)


def pad(text: str, width: int = 0):
    return text.rjust(width, ".")


@run.cli.factory
def padding(width: int = 5) -> run.Partial[pad]:
    return run.Partial(pad, width=width)


def defaults() -> run.Partial:
    return run.Partial(train, model=run.Config(Model, hidden=31), data=run.Config(Data))


@run.cli.entrypoint(
    namespace="framework",
    default_factory=defaults,
    default_executor=run.Config(run.LocalExecutor),
    default_plugins=[run.Config(Steps, steps=42)],
)
def train(
    model: Model,
    data: Data,
    steps: int = 1,
    show: Optional[Callable] = None,
    either: Union[int, str] = 3,
):
    """Trains."""
    shown = show("x") if show else None
    note("train", model, data, steps, shown, repr(either), os.environ.get("A"), os.environ.get("B"))


CALLS = [
    [],
    ["model=small(hidden=3)", "model.optimizer.lr=5"],
    ["model.optimizer=momentum(lr=3)"],
    ["data.path=q", "data.splits=[3]", "steps=4"],
    ["run.executor=local", "model=small", "model.hidden+=3"],
    ["run.plugins=many_steps"],
    ["show=padding(width=3)", "either=5"],
    ["model=nobody"],
]

if __name__ == "__main__":
    for call in CALLS:
        note(">", json.dumps(call))
        sys.argv = ["train", *call, "--yes"]
        try:
            run.cli.main(train)
        except SystemExit:
            pass  # refused
