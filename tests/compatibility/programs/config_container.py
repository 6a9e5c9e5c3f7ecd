"""A container of configurations as training frameworks have it: recipes, overrides, scripts with their arguments."""

import dataclasses
import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional, Type, Union

import fiddle as fdl

import nemo_run as run


@dataclass
class DDP:
    overlap: bool = False
    bucket: Optional[int] = None


@dataclass
class Scheduler:
    warmup: Union[int, float] = 0
    style: Literal["cosine", "linear"] = "cosine"


@dataclass
class Optimizer:
    lr: float = 3e-4
    scheduler: Scheduler = field(default_factory=Scheduler)
    ddp: Optional[DDP] = None


@dataclass
class Provider:
    layers: int = 2
    hidden: int = 64
    init: Optional[Callable] = None
    spec: Union[Type, Callable, None] = None

    def provide(self):
        return f"model of {self.layers} x {self.hidden}"


@dataclass
class Wide(Provider):
    hidden: int = 512
    heads: int = 8


@dataclass
class Dataset:
    paths: List[str] = field(default_factory=list)
    blend: Optional[Dict[str, float]] = None


@dataclass(kw_only=True)
class Container:
    model: Provider
    optimizer: Optimizer = field(default_factory=Optimizer)
    dataset: Union[Dataset, Dict[str, Any]] = field(default_factory=Dataset)
    callbacks: List[Callable] = field(default_factory=list)
    name: Optional[str] = None

    def __post_init__(self):
        self.name = self.name or type(self.model).__name__.lower()

    def validate(self):
        assert self.model.hidden % 8 == 0, "hidden"


def scaled(value: float, by: float = 2.0):
    return value * by


def pretrain(config: Container, forward: Callable = scaled, *, steps: int = 1):
    config.validate()
    return [config.name, config.model.provide(), forward(config.optimizer.lr), steps]


@run.autoconvert
def wide() -> Container:
    return Container(
        model=Wide(layers=4, init=partial(scaled, by=3.0)), optimizer=Optimizer(ddp=DDP(overlap=True)), callbacks=[]
    )


def plain(**changes) -> run.Partial:
    config = run.Config(
        Container, model=run.Config(Provider), optimizer=run.Config(Optimizer), dataset={"kind": "mock"}
    )
    for path, value in changes.items():
        run.config.set_value(config, path.replace("__", "."), value)
    return run.Partial(pretrain, config=config, forward=run.Partial(scaled, by=5.0), steps=2)


@dataclass(kw_only=True)
class Overrides(run.Plugin):
    words: List[str]

    def setup(self, task, executor):
        if isinstance(task, run.Script):
            task.args += self.words
            task.env["FROM_PLUGIN"] = "1"
        else:
            task.config.model.layers = 7
            task.config.callbacks.append(run.Partial(scaled, by=9.0))


if __name__ == "__main__":
    recipe = run.Partial(pretrain, config=wide())
    changed = plain(model__layers=9, optimizer__scheduler=run.Config(Scheduler, warmup=0.1, style="linear"))
    script = run.Script(path="train.py", entrypoint="python", args=["--recipe", "wide", "model.hidden=128"])
    seen = {
        "recipe": fdl.build(recipe)(),
        "changed": fdl.build(changed)(),
        "warmup": fdl.build(changed).keywords["config"].optimizer.scheduler.warmup,
        "asdict": {name: str(value) for name, value in dataclasses.asdict(fdl.build(changed.config)).items()},
        "init": fdl.build(wide()).model.init(2.0),
        "clone": recipe.clone().config.model == recipe.config.model,
    }
    recipe.config.model.hidden = 13
    try:
        fdl.build(recipe)()
    except AssertionError as error:
        seen["invalid"] = str(error)
    recipe.config.model = run.Config(Provider, hidden=16)
    recipe.config.dataset = run.Config(Dataset, paths=["a", "b"], blend={"a": 0.5})
    recipe.config.optimizer.ddp.bucket = 10
    tunnel = run.LocalTunnel(job_dir=str(Path.cwd().parent / "cluster"))
    executor = run.SlurmExecutor(account="a", partition="b", tunnel=tunnel, packager=run.Packager(), nodes=2)
    with run.Experiment("container", executor=executor) as exp:
        plugins = [Overrides(words=["--extra", "model.layers=3"])]
        exp.add(recipe, name="recipe", plugins=plugins)
        exp.add(script, name="script", plugins=plugins)
        jobs = exp.jobs
        seen["jobs"] = [
            fdl.build(jobs[0].task)(),
            [one.by for one in jobs[0].task.config.callbacks],
            jobs[1].task.args,
            jobs[1].task.env,
        ]
        exp.dryrun()
    seen["after"] = [recipe.config.model.layers, script.args, script.env]
    Path("result.json").write_text(json.dumps(seen, indent=1))
