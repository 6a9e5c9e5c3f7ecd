"""A command with YAML files in the manner of OmegaConf: values refer to others, and to variables."""

import json
import os
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


REFERENCES = """
steps: 7
mode: b
lr: ${model.optimizer.lr}
sizes: [1, "${steps}"]
path: ${oc.env:PROGRAM_DATA}/runs
model:
  _target_: __main__.Model
  hidden: ${steps}
  name: ${oc.env:PROGRAM_USER,nobody}-h${steps}-${mode}
  tags: ["${mode}x", plain]
  optimizer:
    _target_: __main__.Optimizer
    lr: 0.25
"""

LOOP = """
steps: 1
model:
  _target_: __main__.Model
  name: a${model.name}
"""

if __name__ == "__main__":
    os.environ["PROGRAM_DATA"] = "/data"
    Path("references.yaml").write_text(REFERENCES)
    Path("loop.yaml").write_text(LOOP)
    Path("unset.yaml").write_text("steps: 1\nmodel: wide\npath: ${oc.env:PROGRAM_NOTHING}\n")
    call("--yaml", "references.yaml")
    call("--yaml", "loop.yaml")
    call("--yaml", "unset.yaml")
    Path("result.json").write_text(json.dumps({"calls": CALLS}, indent=1))
