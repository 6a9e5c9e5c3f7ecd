"""Configurations as text and back; values that are set, bound, cloned and taken away; scripts as commands."""

import enum
import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import fiddle as fdl

import nemo_run as run
from nemo_run.config import ConfigurableMixin, from_dict, get_type_namespace, get_underlying_types, set_value
from nemo_run.core.serialization.yaml import YamlSerializer
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Optimizer:
    lr: float = 0.1
    betas: Tuple[float, float] = (0.9, 0.95)
    schedule: Optional[Callable] = None


@dataclass
class Model:
    hidden: int = 8
    color: Color = Color.RED
    optimizer: Optimizer = field(default_factory=Optimizer)
    extra: Dict[str, Any] = field(default_factory=dict)
    path: Optional[Path] = None


@dataclass
class Container:
    model: Model
    optimizer: Optimizer = field(default_factory=Optimizer)
    name: str = "c"
    layers: List[Model] = field(default_factory=list)


@dataclass
class Own(ConfigurableMixin):
    a: int = 1
    optimizer: Optional[Optimizer] = None


def train(container: Container, n: int = 1):
    return n


def make():
    model = run.Config(Model, hidden=3, optimizer=run.Config(Optimizer, lr=1.0))
    return run.Config(Container, model=model, layers=[run.Config(Model, 1), run.Config(Model, 2)])


def there_and_back(config):
    serializer = ZlibJSONSerializer()
    return serializer.deserialize(serializer.serialize(config))


def changed():
    config = make()
    set_value(config, "model.optimizer.lr", 7.0)
    set_value(config, "layers[0].hidden", 6)
    config.layers.append(run.Config(Model))
    config.layers.pop()
    config.optimizer = Optimizer(lr=5.0)
    config.name = "other"
    del config.name
    return config


ACTIONS = {
    "json": lambda: there_and_back(make()) == make(),
    "partial": lambda: there_and_back(run.Partial(train, make())).container.layers[1].hidden,
    "enum": lambda: there_and_back(run.Config(Model, color=Color.BLUE)).color,
    "class": lambda: there_and_back(run.Config(Optimizer, schedule=functools.partial)).schedule,
    "function": lambda: there_and_back(run.Config(Optimizer, schedule=json.dumps)).schedule.__name__,
    "containers": lambda: there_and_back(run.Config(Model, extra={"a": (1, 2), "b": {3: 4}})).extra,
    "yaml": lambda: YamlSerializer().serialize(run.Config(Optimizer, lr=1.5)),
    "from yaml": lambda: YamlSerializer().deserialize("_target_: __main__.Optimizer\nlr: 2.5\n"),
    "partial from yaml": lambda: YamlSerializer().deserialize("_target_: __main__.train\n_partial_: true\nn: 2\n"),
    "from a dictionary": lambda: from_dict({"a": [1, {"b": 2}]}, dict),
    "namespaces": lambda: [get_type_namespace(one) for one in (Model, train)],
    "types": lambda: sorted(map(str, get_underlying_types(Optional[Union[int, Dict[str, Model]]]))),
    "built": lambda: fdl.build(changed()),
    "positional": lambda: run.Config(Model, 1, Color.BLUE),
    "an object": lambda: fdl.build(run.Config(Model, optimizer=Optimizer(lr=5))).optimizer.lr,
    "none": lambda: run.Config(Model, path=None),
    "attributes": lambda: [hasattr(make(), name) for name in ("model", "nobody", "name")],
    "instead": lambda: getattr(make(), "nobody", 3),
    "what is configured": lambda: [make().__fn_or_cls__.__name__, run.Partial(train).__fn_or_cls__.__name__],
    "kinds": lambda: [isinstance(make(), fdl.Config), isinstance(run.Partial(train), fdl.Partial)],
    "arguments": lambda: sorted(fdl.ordered_arguments(make())),
    "own": lambda: Own(2, Optimizer(3.0)).to_config(),
    "script": lambda: run.Script("x.sh", args=["a"]).to_command(with_entrypoint=True),
    "clone": lambda: run.Partial(train, make()).clone() == run.Partial(train, make()),
    "texts": lambda: [str(run.Config(Optimizer, lr=1.0)), repr(run.Partial(train, n=2))],
    "not hashable": lambda: isinstance(run.Config(Optimizer).__hash__, type(None)),
}


def refused(kind, action):
    try:
        action()
    except kind:
        return True
    return False


if __name__ == "__main__":
    seen = {name: re.sub(r" at 0x\w+|\n", "", repr(action())) for name, action in ACTIONS.items()}
    seen["nowhere"] = refused(ValueError, lambda: set_value(make(), "nobody.x", 7))
    seen["no script"] = refused(AssertionError, run.Script)
    Path("result.json").write_text(json.dumps(seen, indent=1))
