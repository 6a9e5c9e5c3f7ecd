"""Commands run as from a shell: factories by name, files written and read, experiments with a context."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional, Tuple

import nemo_run as run


@dataclass
class Optimizer:
    lr: float = 0.1
    betas: Tuple[float, float] = (0.9, 0.95)


@dataclass
class Model:
    hidden: int = 8
    optimizer: Optimizer = field(default_factory=Optimizer)
    tags: List[str] = field(default_factory=list)


@run.cli.factory
@run.autoconvert
def small(hidden: int = 4) -> Model:
    return Model(hidden=hidden, optimizer=Optimizer(lr=0.5))


def recipe() -> run.Partial:
    return run.Partial(train, model=small(), steps=7)


@run.cli.factory
def tuned(hidden: int = 77) -> run.Partial["train"]:
    return run.Partial(train, model=small(hidden=hidden), steps=9)


def note(*words):
    with Path(os.environ["RESULT"]).open("a") as file:
        print(*words, file=file)


@run.cli.entrypoint(default_factory=recipe)
def train(model: Model, steps: int = 1, name: str = "n", lr: Optional[float] = None):
    note("train", model, steps, name, lr)


@run.cli.entrypoint(type="experiment", namespace="pipelines")
def pipeline(ctx: run.cli.RunContext, model: Model = Model(), n: int = 2, title: str = "pipeline"):  # noqa: B008
    note("pipeline", ctx.name, ctx.dryrun, ctx.direct, ctx.detach, ctx.skip_confirmation, len(ctx.plugins))
    with run.Experiment(title, executor=run.LocalExecutor()) as exp:
        for i in range(n):
            task = run.Partial(train, model=run.Config(Model, hidden=model.hidden + i), steps=i)
            exp.add(task, name=f"task-{i}")
        ctx.launch(exp, sequential=True)


COMMANDS = [
    ["train", "--factory", "tuned(hidden=5)", "steps=4"],
    ["train", "--to-yaml", "model.yaml:model"],
    ["train", "model=@model.yaml", "steps=1"],
    ["train", "--dryrun"],
    ["train", "name=hello world", "--name", "other"],
    ["train", "model.optimizer=Optimizer(lr=3)", "lr=1"],
    ["pipeline"],
    ["pipeline", "--dryrun", "n=1"],
    ["pipeline", "n=0", "title=other"],
]

if __name__ == "__main__":
    if len(sys.argv) > 1:
        which = {"train": train, "pipeline": pipeline}[sys.argv.pop(1)]
        run.cli.main(which, cmd_defaults={"skip_confirmation": True})
    else:
        os.environ["RESULT"] = str(Path("result.txt").resolve())
        for command in COMMANDS:
            note(">", *command)
            done = subprocess.run([sys.executable, __file__, *command], stdin=subprocess.DEVNULL, check=False)
            note("exit code", done.returncode)
