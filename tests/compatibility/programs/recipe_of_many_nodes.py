"""A recipe of more than a hundred nodes, whose libraries have inexact hints."""

import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import List, Optional, Tuple

import fiddle as fdl

import nemo_run as run


class Precision(Enum):
    BF16 = "bf16"
    FP8 = "fp8"


@dataclass
class Optimizer:
    betas: Tuple[float] = (0.9, 0.95)
    lr: float = 1e-4
    fused: bool = (False,)
    warmup: int = None


@dataclass
class Layer:
    width: int = 8
    hidden: int = 4
    precision: Precision = "bf16"
    optimizer: Optional[Optimizer] = None
    names: List[str] = field(default_factory=list)


@dataclass
class Model:
    layers: list[Layer]
    head: Layer = None
    body: Layer = None


def train(model: Model, precision: Precision = Precision.BF16, limit: float = None):
    return sum(layer.width for layer in model.layers)


def recipe(depth: int) -> run.Partial:
    layers = [
        run.Config(Layer, width=8 * (i + 1), optimizer=run.Config(Optimizer, lr=i / 10), names=[f"layer{i}"])
        for i in range(depth)
    ]
    return run.Partial(train, model=run.Config(Model, layers=layers, body=run.Config(Layer, width=5)), precision="fp8")


if __name__ == "__main__":
    task = recipe(60)
    task.model.layers[3].precision = "fp8"
    task.model.layers[4].optimizer.warmup = 7
    task.model.head = None
    other = task.clone()
    task.broadcast(hidden=2)
    other.walk(hidden=lambda config: config.hidden * 3)
    seen = {
        "sum": fdl.build(task)(limit=None),
        "body": [task.model.body.hidden, other.model.body.hidden],
        "widths": sorted({layer.width for layer in task.model.layers})[:3],
        "other": [other.model.layers[5].width, round(other.model.layers[5].optimizer.lr, 3)],
        "untouched": round(task.model.layers[5].optimizer.lr, 3),
        "precision": [task.precision, task.model.layers[3].precision],
        "default": [str(task.model.layers[0].precision), str(task.model.layers[0].optimizer.fused)],
        "equal": [task == task.clone(), task == other],
    }
    with run.Experiment("many-nodes") as exp:
        seen["added"] = exp.add(task, name="train")
        exp.dryrun(log=False)
    Path("result.json").write_text(json.dumps(seen, indent=1, sort_keys=True))
