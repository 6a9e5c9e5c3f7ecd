"""Hydra's `instantiate` builds from an export what we build."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import fiddle as fdl
import pytest
import yaml
from hydra.utils import instantiate
from hypothesis import given

import nemo_run as run
from nemo_run.config.export import load_config, to_json, to_toml, to_yaml
from tests.config.stored import (
    QUICK,
    SIMPLE_NAMES,
    VALUES,
    Handmade,
    Important,
    Node,
    all_configs,
    equal,
    function,
    plain,
    same,
)
from tests.support import value_id

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

READ = {to_yaml: yaml.safe_load, to_json: json.loads, to_toml: tomllib.loads}

# An object that its fields do not make is one that Hydra cannot make, either; its partials are of a class of its own.
HYDRAS_VALUES = [value for value in VALUES if not isinstance(value, (Handmade, functools.partial))]


@pytest.mark.parametrize("value", HYDRAS_VALUES, ids=lambda value: f"{type(value).__name__}-{value_id(value)[:20]}")
def test_each_type_of_value(value: Any) -> None:
    config = run.Config(plain, a=value, b=[{"x": value}])
    for write, read in READ.items():
        assert equal(instantiate(read(write(config))), config.build())


@QUICK
@given(all_configs(kinds=[run.Config], sharing=False))
def test_any_configuration(config: Any) -> None:
    assert equal(instantiate(yaml.safe_load(config.to_yaml())), config.build())


@QUICK
@given(all_configs(kinds=[run.Config], names=SIMPLE_NAMES))
def test_any_configuration_that_shares_nodes(config: Any) -> None:
    assert equal(instantiate(yaml.safe_load(config.to_yaml())), config.build())


def test_partials() -> None:
    config = run.Partial(
        Node, a=run.Config(list), b=run.Partial(function, 1, 2, 3, c=[{}]), c=functools.partial(plain, b=1)
    )
    built, ours = instantiate(yaml.safe_load(config.to_yaml())), config.build()
    assert isinstance(built, functools.partial)
    value = instantiate(yaml.safe_load(run.Config(plain, a=functools.partial(pow, 2, mod=3)).to_yaml()))[1]
    assert (value.func, value.args, value.keywords) == (pow, (2,), {"mod": 3})
    assert equal(built.keywords["a"], ours.keywords["a"])
    for name in "bc":
        assert built.keywords[name]() == ours.keywords[name]()


def test_tags() -> None:
    config = run.Config(plain, a=[Important.new(3)])
    fdl.add_tag(config, "b", Important)
    config.b = 4
    assert instantiate(yaml.safe_load(config.to_yaml())) == fdl.build(config) == ("plain", [3], 4)


def test_a_configuration_written_for_hydra_loads() -> None:
    text = """
        _target_: tests.config.stored.Node
        _convert_: partial
        _recursive_: true
        a: ${b.a}
        b: {_target_: tests.config.stored.Node.Inner, a: 1}
        c: {_target_: tests.config.stored.plain, _partial_: true, a: '${b}'}
    """
    inner = run.Config(Node.Inner, a=1)
    assert same(load_config(text), run.Config(Node, a=1, b=inner, c=run.Partial(plain, a=inner)))
