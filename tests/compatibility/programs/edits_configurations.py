"""Configurations that are copied, cast, compared, built, and changed in place."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import fiddle as fdl

import nemo_run as run


@dataclass
class Inner:
    a: int = 1
    b: Any = None


@dataclass
class Outer:
    inner: Inner
    activation: Optional[Callable] = None
    table: Optional[dict] = None


def build(outer: Outer, scale: float = 1.0, **rest):
    return [outer.inner.a * scale, sorted(rest)]


shared = run.Config(Inner, a=3)
config = run.Config(Outer, inner=shared, activation=len, table={"x": run.Config(Inner, a=9)})
clone = config.clone()
clone.inner.a = 4
deep = copy.deepcopy(config)
partial = run.Partial(build, outer=config, scale=2.0, extra=1)
partial.another = 5
del partial.extra
dictionary = run.Config(dict, first=1, second=run.Config(Inner))
seen = {
    "a": [config.inner.a, clone.inner.a, shared.a],
    "shared": [config.inner is shared, clone.inner is shared, deep == config, clone == config],
    "built": [str(fdl.build(config.inner)), fdl.build(config).table["x"].a, fdl.build(config).activation("four")],
    "partial": fdl.build(partial)(),
    "more": fdl.build(partial)(scale=3),
    "dictionary": str(fdl.build(dictionary)),
    "cast": [type(fdl.cast(run.Partial, config)).__name__, type(fdl.cast(run.Config, partial)).__name__],
    "dir": [name in dir(config) for name in ("inner", "activation", "table")],
    "arguments": sorted(config.__arguments__),
    "function": [config.__fn_or_cls__.__name__, fdl.get_callable(partial).__name__],
    "plain": str(fdl.build(fdl.Config(Outer, inner=run.Config(Inner, b=(1, 2))))),
}
Path("result.json").write_text(json.dumps(seen, indent=1))
