"""A command of its own with factories, called in several ways as from a shell."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import nemo_run as run


@dataclass
class Model:
    hidden: int = 8
    layers: int = 2


@dataclass
class Optimizer:
    lr: float = 0.1
    name: str = "adam"


@run.cli.factory
@run.autoconvert
def wide() -> Model:
    return Model(hidden=512)


@run.cli.factory
def narrow(hidden: int = 4) -> run.Config[Model]:
    return run.Config(Model, hidden=hidden)


@run.cli.factory(target=Optimizer)
def sgd(lr: float = 0.5) -> run.Config[Optimizer]:
    return run.Config(Optimizer, lr=lr, name="sgd")


CALLS = []


@run.cli.entrypoint
def train(model: Model, optimizer: Optimizer, steps: int = 10, tags: list[str] = None):
    """Trains.

    Args:
        model: What is trained.
        optimizer: How.
        steps: How long.
        tags: Words.
    """
    CALLS.append([model.hidden, model.layers, optimizer.lr, optimizer.name, steps, tags])


COMMANDS = [
    ["model=wide", "optimizer=sgd"],
    ["model=narrow(hidden=6)", "optimizer=sgd(lr=0.25)", "steps=3"],
    ["model=wide", "optimizer=sgd", "model.layers=7", "optimizer.lr=1e-3", "steps*=2", "tags=['a','b']"],
    ["model=nobody", "optimizer=sgd"],
    ["model=wide", "optimizer=sgd", "steps=many"],
    ["model=wide", "optimizer=sgd", "model.nothing=1"],
]

if __name__ == "__main__":
    for command in COMMANDS:
        sys.argv = ["train", *command, "--yes"]
        try:
            run.cli.main(train)
        except SystemExit:
            pass  # refused
    Path("result.json").write_text(json.dumps({"calls": CALLS}, indent=1))
