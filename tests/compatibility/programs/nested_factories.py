"""Factories that call each other, converted and plain, with lists and partials; found by type and namespace."""

import functools
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional

import fiddle as fdl

import nemo_run as run


@dataclass
class Layer:
    size: int = 1
    inner: Any = None


@dataclass
class Model:
    hidden: int = 8
    layers: Optional[List[Layer]] = None
    merge: Optional[Callable] = None


def merge(a, b=2, *c):
    return (a, b, c)


@run.autoconvert
def layer(size: int = 3) -> Layer:
    return Layer(size=size, inner=Layer(size=size))


@run.autoconvert
def layers(n: int = 2) -> list:
    return [Layer(size=n), Layer(size=2)]


@run.autoconvert(partial=True)
def late(size: int = 3) -> Layer:
    return Layer(size=size)


@run.autoconvert
def chosen(size: int = 3) -> Layer:
    return Layer(inner=layer(size))


@run.cli.factory
@run.autoconvert
def model(hidden: int = 16) -> Model:
    return Model(hidden=hidden, layers=[layer(), chosen(7)], merge=functools.partial(merge, 1, b=hidden))


@run.cli.factory(name="other-name", target=Model)
def named() -> run.Config[Model]:
    return run.Config(Model, 99)


@run.cli.factory(target=Model, target_arg="hidden")
def wide() -> int:
    return run.Config(int, 512)


@run.cli.factory(namespace="my.space")
@run.autoconvert
def spaced() -> Model:
    return Model(1)


@run.cli.entrypoint(namespace="alpha", help="Trains.", skip_confirmation=True)
def train(model: Model = Model(), n: int = 1):  # noqa: B008
    """Trains.

    Args:
        model: What is trained.
    """
    return model, n


@run.cli.entrypoint(name="other", namespace="alpha.beta")
def train_other(n: int = 1): ...


CALLS = []


class Context(run.cli.RunContext):
    def cli_execute(self, fn, args, entrypoint_type="task"):
        CALLS.append(["context", self.name, list(args)])
        return super().cli_execute(fn, args, entrypoint_type)


@run.cli.entrypoint(run_ctx_cls=Context)
def third(n: int = 1):
    CALLS.append(["third", n])


ACTIONS = {
    "layer": layer,
    "changed": lambda: layer(size=9),
    "list": layers,
    "partial": late,
    "factory in a factory": lambda: [chosen(), chosen(7)],
    "nested": model,
    "built": lambda: fdl.build(model(hidden=4)).merge(),
    "entrypoints": lambda: [sorted(run.cli.list_entrypoints()), sorted(run.cli.list_entrypoints("alpha"))],
    "factories": lambda: sorted(one.__name__ for one in run.cli.list_factories(Model)),
    "of a namespace": lambda: [one.__name__ for one in run.cli.list_factories("my.space")],
    "resolved": lambda: run.cli.resolve_factory(Model, "model")(hidden=3),
    "resolved name": lambda: run.cli.resolve_factory(Model, "other-name")(),
    "resolved namespace": lambda: run.cli.resolve_factory("my.space", "spaced")(),
    "config": lambda: run.cli.parse_config(Model, "hidden=3", "layers=[]"),
    "partial of a command": lambda: run.cli.parse_partial(train, "model=model", "n=4", "model.hidden*=3"),
    "context": lambda: run.cli.RunContext(name="x").parse_fn(train, ["n=3", "model=model"]),
    "of a command": lambda: [train.__name__, train.cli_entrypoint.path, train.cli_entrypoint.namespace],
    "called": lambda: train(Model(3), 4),
    "factory": lambda: [model.__name__, model.wrapped is not None, model().hidden],
}


def refused(kind, action):
    try:
        action()
    except kind:
        return True
    return False


def untyped():
    return run.Config(Model)


if __name__ == "__main__":
    seen = {name: re.sub(r" at 0x\w+|\n", "", repr(action())) for name, action in ACTIONS.items()}
    seen["no factory"] = refused(ValueError, lambda: run.cli.resolve_factory(Model, "nobody"))
    seen["no type"] = refused(TypeError, lambda: run.cli.factory(untyped))
    seen["target"] = run.cli.factory(untyped, target=Model)().hidden
    seen["argument only"] = refused(ValueError, lambda: run.cli.factory(untyped, target_arg="x"))
    sys.argv = ["third", "n=3", "--yes"]
    run.cli.main(third)
    Path("result.json").write_text(json.dumps([seen, CALLS], indent=1))
