"""Recipes written as plain functions, turned into configurations by `autoconvert`."""

import json
from dataclasses import dataclass
from pathlib import Path

import fiddle as fdl

import nemo_run as run


@dataclass
class Data:
    path: str
    batch: int = 4


@dataclass
class Model:
    hidden: int
    data: Data
    name: str = "base"


@run.autoconvert
def data(path: str = "/data") -> Data:
    return Data(path=path, batch=8)


@run.autoconvert
def model(hidden: int = 16) -> Model:
    return Model(hidden=hidden, data=data())


@run.autoconvert(partial=True)
def train(hidden: int = 32) -> Model:
    return Model(hidden=hidden, data=Data("/other"))


@run.cli.factory
@run.autoconvert
def wide() -> Model:
    return Model(hidden=1024, data=Data("/wide"), name="wide")


config = model(64)
config.data.batch += 1
partial = train()
partial.hidden = 7
seen = {
    "kinds": [type(config).__name__, type(partial).__name__, type(config.data).__name__, type(wide()).__name__],
    "ours": [isinstance(config, run.Config), isinstance(partial, run.Partial)],
    "values": [config.hidden, config.data.batch, config.data.path, config.name, partial.data.batch, wide().hidden],
    "built": str(fdl.build(config)),
    "called": str(fdl.build(partial)()),
    "with more": str(fdl.build(partial)(name="other")),
}
Path("result.json").write_text(json.dumps(seen, indent=1))
