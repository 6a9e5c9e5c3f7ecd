"""Configurations of classes, methods, closures, lambdas, partials and built-in functions, and what they build."""

import collections
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiddle as fdl

import nemo_run as run


@dataclass
class Model:
    size: int = 1
    inner: Any = None

    def scaled(self, by=3):
        return (self.size, by)

    @classmethod
    def make(cls, size: int = 4):
        return cls(size)

    @staticmethod
    def count(size: int = 4):
        return size


class Trainer:
    def __init__(self, model: Model, *callbacks, steps: int = 2, **more):
        self.parts = (model, callbacks, steps, more)

    def __repr__(self):
        return f"Trainer{self.parts}"

    def __call__(self, data):
        return data


def function(a, b=2, *c, d=4, **e):
    return (a, b, c, d, e)


def closure(n):
    def inner(m=1):
        return n + m

    return inner


ACTIONS = {
    "method": lambda: run.Partial(Model(3).scaled, by=5),
    "method called": lambda: fdl.build(run.Partial(Model(3).scaled, by=5))(),
    "class method": lambda: fdl.build(run.Config(Model.make, size=6)),
    "static method": lambda: fdl.build(run.Config(Model.count, size=6)),
    "lambda": lambda: fdl.build(run.Config(lambda x: x + 1, 3)),
    "partial lambda": lambda: fdl.build(run.Partial(lambda x, y=2: x + y, 3))(),
    "closure": lambda: fdl.build(run.Partial(closure(3), m=5))(),
    "more arguments": lambda: run.Config(Trainer, run.Config(Model, 2), steps=3, extra=5),
    "built": lambda: fdl.build(run.Config(Trainer, run.Config(Model, 2), 7, 8, steps=3, extra=5)),
    "all kinds": lambda: fdl.build(run.Config(function, 1, 2, 3, 4, d=5, z=6)),
    "partial of a class": lambda: fdl.build(run.Partial(Model, size=3))().size,
    "partial of a partial": lambda: fdl.build(run.Partial(functools.partial(function, 9), b=3))(),
    "object that is called": lambda: fdl.build(run.Partial(Trainer(1), data=3))(),
    "default": lambda: run.Config(function).b,
    "equal": lambda: [run.Config(Model, 1) == run.Config(Model), run.Config(Model) == run.Partial(Model)],
    "names": lambda: [name for name in dir(run.Config(Model)) if name in ("size", "inner", "scaled")],
    "ordered": lambda: fdl.ordered_arguments(run.Config(Model, 1), include_defaults=True),
    "callable": lambda: fdl.get_callable(run.Config(Model)).__name__,
    "list": lambda: fdl.build([run.Config(Model, 3), {"k": run.Config(Model, 4)}]),
    "fiddle's inside": lambda: fdl.build(run.Config(Model, inner=fdl.Config(Model, size=3))),
    "fiddle's partial inside": lambda: fdl.build(run.Config(Model, inner=fdl.Partial(Model, size=3))).inner().size,
    "argument factory": lambda: fdl.build(fdl.Partial(Model, inner=fdl.ArgFactory(Model)))(),
    "dict": lambda: fdl.build(run.Config(dict, a=1, b=run.Config(Model))),
    "sequence": lambda: fdl.build(run.Config(list, [1, 2])),
    "path": lambda: str(fdl.build(run.Config(Path, "a", "b"))),
    "built-in": lambda: fdl.build(run.Config(sorted, [3, 1], reverse=True)),
    "named tuple": lambda: fdl.build(run.Config(collections.namedtuple("N", "a b"), 1, b=2)),
    "positional": lambda: fdl.build(run.Partial(lambda a, /, b=1: (a, b), 5))(),
    "odd names": lambda: fdl.build(run.Config(lambda fn_or_cls=3, bind_args=2: (fn_or_cls, bind_args))),
}


def refused(kind, action):
    try:
        action()
    except kind:
        return True
    return False


if __name__ == "__main__":
    seen = {name: re.sub(r" at 0x\w+|\n", "", repr(action())) for name, action in ACTIONS.items()}
    shared = run.Config(Model, 7)
    built = fdl.build(run.Config(Model, inner=[shared, run.Config(Model, inner=shared)]).clone())
    seen["shared"] = built.inner[0] is built.inner[1].inner
    seen["unknown"] = refused(TypeError, lambda: run.Config(Model, nobody=1))
    seen["set"] = refused(AttributeError, lambda: setattr(run.Config(Model), "nobody", 1))
    seen["unset"] = refused(AttributeError, lambda: run.Config(function).a)
    seen["incomplete"] = refused(TypeError, lambda: fdl.build(run.Config(function)))
    seen["more positional"] = refused(TypeError, lambda: run.Config(Model, 1, 2, 3))
    Path("result.json").write_text(json.dumps(seen, indent=1))
