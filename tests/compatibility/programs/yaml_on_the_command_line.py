"""A command whose arguments are in YAML files: with `--yaml`, and one at a time."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

import nemo_run as run


@dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass
class Model:
    hidden: int = 8
    name: str = "model"
    optimizer: Optimizer = field(default_factory=Optimizer)
    tags: list[str] = field(default_factory=list)


@run.cli.factory
@run.autoconvert
def wide() -> Model:
    return Model(hidden=512, optimizer=Optimizer(lr=0.5))


CALLS = []


@run.cli.entrypoint
def train(
    model: Model,
    steps: int = 10,
    lr: Optional[float] = None,
    mode: Literal["a", "b"] = "a",
    flag: bool = False,
    sizes: Optional[list[int]] = None,
    path: Optional[Path] = None,
):
    """Trains."""
    CALLS.append([repr(model), steps, lr, mode, flag, sizes, str(path)])


def call(*arguments: str) -> None:
    sys.argv = ["train", *arguments, "--yes"]
    try:
        run.cli.main(train)
    except SystemExit:
        pass  # refused


FILES = {
    "arguments.yaml": """
steps: 77
sizes: [4, 5]
mode: b
model:
  _factory_: wide
  hidden*=: 2
  optimizer:
    _target_: __main__.Optimizer
    lr: 0.9
""",
    "operators.yaml": """
steps+=: 7
lr: 1e-3
flag: true
model: wide
path: /a/b
""",
    "run.yaml": """
steps: 5
model:
  _factory_: wide
run:
  name: from-yaml
""",
    "model.yaml": """
_target_: __main__.Model
hidden: 44
tags: [x, y]
""",
}

if __name__ == "__main__":
    for name, text in FILES.items():
        Path(name).write_text(text)
    call("--yaml", "arguments.yaml")
    call("--yaml", "operators.yaml")
    call("--yaml", "run.yaml")
    call("--yaml", "nothing.yaml")
    call("model=@model.yaml")
    call("model=@model.yaml", "model.hidden=3", "steps=1")
    Path("result.json").write_text(json.dumps({"calls": CALLS}, indent=1))
