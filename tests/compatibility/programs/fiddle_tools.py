"""Fiddle's own functions on configurations: selectors, printing, traversal, differences, tags and copies."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional

import fiddle as fdl
from fiddle import daglish, diffing, printing, selectors, tagging
from fiddle.experimental import auto_config, serialization

import nemo_run as run


@dataclass
class Optimizer:
    lr: float = 0.1
    more: Any = None


@dataclass
class Model:
    hidden: int = 8
    optimizer: Optional[Optimizer] = None
    sub: Optional["Model"] = None
    subs: List["Model"] = field(default_factory=list)


class Size(fdl.Tag):
    """Sizes."""


def make():
    return run.Config(
        Model,
        hidden=1,
        optimizer=run.Config(Optimizer),
        sub=run.Config(Model, 2, optimizer=run.Partial(Optimizer, 3)),
        subs=[run.Config(Model, 5)],
    )


def selected():
    config = make()
    selectors.select(config, Model).set(hidden=9)
    return config


def tagged():
    config = make()
    fdl.add_tag(config, "hidden", Size)
    tagging.set_tagged(config, tag=Size, value=44)
    return [config.hidden, list(fdl.get_tags(config.clone(), "hidden")), list(selectors.select(config, tag=Size))]


def doubled():
    def double(value, state):
        if state.is_traversable(value):
            return state.map_children(value)
        return value * 2 if isinstance(value, int) else value

    return daglish.MemoizedTraversal.run(double, make())


def assigned():
    config = make()
    fdl.assign(config, hidden=3, sub=None)
    return config


def with_defaults():
    config = make()
    fdl.materialize_defaults(config)
    return [config.sub.optimizer.more, fdl.build(config)]


def another_class():
    config = make()
    fdl.update_callable(config, Optimizer, drop_invalid_args=True)
    return config


@auto_config.auto_config
def converted(hidden=3):
    return Model(hidden, optimizer=Optimizer())


def positional():
    config = run.Config(lambda *values: values, 1, 2)
    config[0] = 5
    config[2:] = [7, 8]
    return [config[:], fdl.build(config)]


def keywords():
    config = run.Config(lambda **values: values, z=1, y=2)
    config.w = 3
    del config.z
    return fdl.build(config)


ACTIONS = {
    "select": lambda: [one.hidden for one in selectors.select(make(), Model)],
    "select and set": selected,
    "flat": lambda: printing.as_str_flattened(make()),
    "dict": lambda: printing.as_dict_flattened(make()),
    "nodes": lambda: sorted(
        daglish.path_str(path) for value, path in daglish.iterate(make()) if isinstance(value, fdl.Buildable)
    ),
    "traversal": doubled,
    "difference": lambda: str(diffing.build_diff(make(), selected())),
    "tags": tagged,
    "new tag": lambda: fdl.build(run.Config(Model, hidden=Size.new(3))).hidden,
    "defaults": with_defaults,
    "assign": assigned,
    "callable": another_class,
    "argument factory": lambda: fdl.build(run.Partial(Model, optimizer=fdl.ArgFactory(Optimizer, lr=5)))(),
    "cast": lambda: [fdl.cast(run.Config, fdl.Config(Model, hidden=3)), type(fdl.cast(run.Partial, make())).__name__],
    "copies": lambda: [fdl.copy_with(make(), hidden=99).hidden, fdl.deepcopy_with(make(), hidden=98).sub.hidden],
    "json": lambda: serialization.load_json(serialization.dump_json(make())) == make(),
    "auto_config": lambda: fdl.build(run.Config(Model, sub=converted.as_buildable(4))).sub,
    "walk": lambda: run.Config(Model, 1, sub=run.Config(Model, 2)).walk(hidden=lambda config: config.hidden + 1),
    "broadcast": lambda: run.Config(Model, 1, sub=run.Config(Model, 2)).broadcast(hidden=5),
    "arguments": lambda: list(make().__arguments__),
    "positional": positional,
    "keywords": keywords,
    "no value": lambda: run.Config(Model, hidden=fdl.NO_VALUE),
}

if __name__ == "__main__":
    seen = {name: re.sub(r" at 0x\w+|\n", "", repr(action())) for name, action in ACTIONS.items()}
    Path("result.json").write_text(json.dumps(seen, indent=1))
