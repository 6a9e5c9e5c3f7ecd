"""Operations on whole configurations: clone, equality, broadcast, walk."""

from __future__ import annotations

import copy
import random
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

import fiddle as fdl
import pytest
from fiddle import history
from hypothesis import given, settings, strategies as st

from nemo_run.config import Config, Partial
from nemo_run.errors import ConfigError, UnsetArgumentError


@dataclass
class Layer:
    size: int = 1
    rate: float = 0.5
    parts: list[Any] = field(default_factory=list)


def model(layers: Any = None, rate: float = 0.1, size: Optional[int] = None, needed: Any = ..., **more: Any): ...


def needs(size: int, other: int = 1): ...


def tree() -> Config:
    return Config(
        model,
        layers=[Config(Layer), (Config(Layer, 2), {"k": [Config(Layer, 3, parts=[Partial(Layer, 4)])]})],
        rate=0.25,
        extra=fdl.Config(Layer, 5),
    )


def sizes(cfg: Any) -> list[int]:
    return [node.size for node, _ in fdl_iterate(cfg) if node.__fn_or_cls__ is Layer]


def fdl_iterate(cfg: Any) -> Any:
    from fiddle import daglish

    return ((value, path) for value, path in daglish.iterate(cfg) if isinstance(value, fdl.Buildable))


# ---------------------------------------------------------------- broadcast
def test_broadcast_reaches_every_depth_and_container():
    cfg = tree()
    assert cfg.broadcast(size=7) is cfg
    assert cfg.size == 7
    assert sizes(cfg) == [7, 7, 7, 7, 7]


def test_broadcast_of_several_names():
    cfg = tree().broadcast(size=7, rate=0.9, no_such_name=1)
    assert {(node.size, node.rate) for node, _ in fdl_iterate(cfg)} == {(7, 0.9)}
    assert not hasattr(cfg.layers[0], "no_such_name")


def test_broadcast_sets_what_has_no_value_yet():
    cfg = Config(dict, a=Config(needs), b=Config(Layer))
    cfg.broadcast(size=4, parts=[1])
    assert (cfg.a.size, cfg.b.size, cfg.b.parts) == (4, 4, [1])


def test_broadcast_into_keyword_arguments_that_are_there():
    cfg = Config(dict, a=Config(dict, lr=1), b=Config(dict))
    cfg.broadcast(lr=2)
    assert cfg.build() == {"a": {"lr": 2}, "b": {}}


def test_broadcast_of_a_configuration_shares_it_and_leaves_it_alone():
    shared = Config(Layer, 3)
    cfg = Config(dict, a=Config(model), b=Config(model)).broadcast(layers=shared, size=8)
    assert cfg.a.layers is cfg.b.layers is shared
    assert shared.size == 3
    nested = Config(model, layers=Config(model))
    inner = nested.layers
    nested.broadcast(layers=inner)
    assert nested.layers is inner
    assert inner.layers is None


def test_broadcast_of_a_dataclass_instance_is_one_object_for_all():
    cfg = Config(dict, a=Config(model), b=Config(model)).broadcast(layers=Layer(2))
    assert cfg.a.layers is cfg.b.layers
    assert cfg.a.layers == Config(Layer, 2, parts=[])


# ---------------------------------------------------------------- walk
def test_walk_gives_the_node_and_sets_the_result():
    cfg = tree()
    assert cfg.walk(size=lambda node: (node.size or 0) * 10) is cfg
    assert (cfg.size, sizes(cfg)) == (0, [10, 20, 30, 40, 50])


def test_walk_applies_once_to_what_is_shared():
    layer = Config(Layer, 3)
    cfg = Config(dict, a=layer, b=[layer, {"c": layer}]).walk(
        size=lambda node: node.size * 2, rate=lambda node: node.size
    )
    assert (layer.size, layer.rate) == (6, 6)
    assert cfg.a is cfg.b[0]


def test_walk_goes_on_into_what_was_set():
    cfg = Config(model, layers=None)
    cfg.walk(layers=lambda node: [Config(Layer, 1)], size=lambda node: (node.size or 0) + 5)
    assert (cfg.size, cfg.layers[0].size) == (5, 6)


def test_walk_passes_over_what_has_no_value():
    cfg = Config(dict, a=Config(needs), b=Config(needs, size=1)).walk(size=lambda node: node.size + 1)
    assert (hasattr(cfg.a, "size"), cfg.b.size) == (False, 2)
    with pytest.raises(UnsetArgumentError, match=r"Layer.parts has no value yet"):
        Config(Layer).walk(parts=lambda node: [*node.parts, 1])
    assert Config(Layer).walk(parts=lambda node: [1]).parts == [1]


def test_deep_configurations_need_no_stack():
    cfg = bottom = Config(dict, depth=0)
    for depth in range(1, 3 * sys.getrecursionlimit()):
        cfg = Config(dict, inner=[cfg], depth=depth)
    cfg.broadcast(depth=-1)
    cfg.walk(depth=lambda node: node.depth - 1)
    assert bottom.depth == -2


def test_every_node_is_visited_once_however_often_it_is_reached():
    calls = 0

    def count(node: Any) -> int:
        nonlocal calls
        calls += 1
        return 1

    cfg = Config(dict, x=0)
    for _ in range(60):  # 2**60 paths to the innermost
        cfg = Config(dict, x=0, left=cfg, right=[cfg])
    cfg.walk(x=count)
    cfg.broadcast(x=5)
    assert calls == 61
    again = cfg.clone()
    assert again == cfg
    assert again.left is again.right[0]
    assert again.build()["left"] is not None


# ---------------------------------------------------------------- clone
def test_a_clone_is_equal_and_apart():
    cfg = tree()
    again = cfg.clone()
    assert type(again) is Config
    assert again == cfg
    again.broadcast(size=9)
    again.layers[1][1]["k"].append(1)
    assert sizes(cfg) == [1, 2, 3, 4, 5]
    assert len(cfg.layers[1][1]["k"]) == 1


def test_a_clone_shares_what_the_original_shares():
    layer, numbers = Config(Layer), [1]
    cfg = Config(dict, a=layer, b=(layer, numbers), c={"k": numbers})
    again = cfg.clone()
    assert again.a is again.b[0] is not layer
    assert again.b[1] is again.c["k"] is not numbers


class Holder:
    def __init__(self) -> None:
        self.values = [1]


def test_a_clone_copies_objects_and_keeps_functions():
    holder = Holder()
    cfg = Config(dict, holder=holder, function=len, kind=Holder, inner=Config(holder.__init__))
    again = cfg.clone()
    assert again.holder is not holder
    assert again.holder.values is not holder.values
    assert (again.function, again.kind) == (len, Holder)
    assert again.inner.__fn_or_cls__ == holder.__init__


def test_a_clone_keeps_history_and_tags_apart():
    class Tagged(fdl.Tag):
        __doc__ = "A tag."
        __qualname__ = "Tagged"

    cfg = Config(Layer, size=1)
    fdl.add_tag(cfg, "size", Tagged)
    again = cfg.clone()
    again.size = 2
    fdl.clear_tags(again, "size")
    del again.size
    plain = copy.copy(cfg)
    plain.size = 5
    assert [entry.new_value for entry in cfg.__argument_history__["size"]] == [1, {Tagged}]
    assert [entry.new_value for entry in again.__argument_history__["size"]] == [1, {Tagged}, 2, set(), history.DELETED]
    assert [entry.new_value for entry in plain.__argument_history__["size"]] == [1, {Tagged}, 5]
    assert fdl.get_tags(cfg, "size") == {Tagged}


def test_a_clone_of_what_holds_itself():
    cfg = Config(dict, items=[])
    cfg.items.append(cfg)
    again = cfg.clone()
    assert again.items[0] is again is not cfg


def test_deepcopy_of_a_structure_around_configurations():
    layer = Config(Layer)
    first, second = copy.deepcopy([layer, {"k": layer}])
    assert first is second["k"] is not layer


# ---------------------------------------------------------------- equality
class Both(NamedTuple):
    left: Any
    right: Any


def _one(a=1, b=None, c=(1, 2), d=len): ...


def _other(x, y=2, **kw): ...


def _by_position(x, /, y=3, *args, k=None): ...


LEAVES = [1, 1.0, True, 2, "s", None, (1, 2), (1, len), (), len, print, float("nan"), Layer, object()]


def make_plan(r: random.Random, depth: int, made: list[Any]) -> Any:
    """A plan of a value in which the same sub-plan may come several times: that will be shared."""
    if made and r.random() < 0.25:
        return r.choice(made)
    if depth == 0 or r.random() < 0.3:
        return ("leaf", r.choice(LEAVES))
    children = [make_plan(r, depth - 1, made) for _ in range(r.randint(0, 3))]
    kind = r.choice(["one", "one", "other", "position", "partial", "list", "list", "tuple", "dict", "both"])
    plan = (kind, children, r.random() < 0.3)
    made.append(plan)
    return plan


def change_plan(r: random.Random, plan: Any, changed: dict[int, Any]) -> Any:
    """The plan with a few changes: of values, of order, of what is shared."""
    if plan[0] == "leaf":
        return ("leaf", r.choice(LEAVES)) if r.random() < 0.02 else plan
    if id(plan) in changed and r.random() > 0.15:
        return changed[id(plan)]
    kind, children, backwards = plan
    children = [change_plan(r, child, changed) for child in children]
    if r.random() < 0.05:
        backwards = not backwards
    if r.random() < 0.02:
        children = children[:-1]
    changed[id(plan)] = (kind, children, backwards)
    return changed[id(plan)]


def follow_plan(plan: Any, config: Any, partial: Any, made: dict[int, Any]) -> Any:
    if plan[0] == "leaf":
        return plan[1]
    if id(plan) in made:
        return made[id(plan)]
    kind, children, backwards = plan
    values = [follow_plan(child, config, partial, made) for child in children]

    def named(names: str) -> dict[str, Any]:
        pairs = [*zip(names, values, strict=False)]
        return dict(pairs[::-1] if backwards else pairs)

    makers = {
        "one": lambda: config(_one, **named("abd")),
        "other": lambda: config(_other, **named("xzw")),
        "position": lambda: config(_by_position, *values),
        "partial": lambda: partial(_one, **named("abd")),
        "list": lambda: values,
        "tuple": lambda: tuple(values),
        "both": lambda: Both(*[*values, None, None][:2]),
        "dict": lambda: named("pqr"),
    }
    made[id(plan)] = makers[kind]()
    return made[id(plan)]


@given(st.integers(0, 2**32))
@settings(max_examples=1500, deadline=None)
def test_equality_is_fiddles(seed):
    r = random.Random(seed)
    made: list[Any] = []
    plan = ("other", [make_plan(r, 3, made) for _ in range(3)], False)
    changed = change_plan(r, plan, {}) if r.random() < 0.9 else plan
    answers = []
    for kinds in [(Config, Partial), (fdl.Config, fdl.Partial)]:
        first: dict[int, Any] = {}
        # Sometimes the two have parts in common. (The fiddle for Python 3.10 does not see that these equal themselves.)
        second = first if seed % 5 == 0 and sys.version_info >= (3, 11) else {}
        answers.append(follow_plan(plan, *kinds, first) == follow_plan(changed, *kinds, second))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (Config(Layer), Config(Layer, size=1), True),
        (Config(Layer), Config(Layer, size=2), False),
        (Config(Layer), Config(Layer, parts=[]), False),
        (Config(Layer), Partial(Layer), False),
        (Config(Layer), fdl.Config(Layer), False),
        (Config(Layer), Config(needs), False),
        (Config(Layer), 1, False),
        (Config(dict, a=1, b=2), Config(dict, b=2, a=1), True),
        (Config(dict, a=1), Config(dict, a=1, b=2), False),
        (Config(dict, a=[Config(Layer)]), Config(dict, a=[Config(Layer, 1)]), True),
        (Config(dict, a=[1]), Config(dict, a=(1,)), False),
        (Config(dict, a={"x": 1, "y": 2}), Config(dict, a={"y": 2, "x": 1}), True),
    ],
)
def test_equality(left, right, same):
    assert (left == right) is same
    assert (left != right) is not same


def test_equality_sees_what_is_shared():
    layer = Config(Layer)
    shared, apart = Config(dict, a=layer, b=layer), Config(dict, a=Config(Layer), b=Config(Layer))
    assert shared != apart
    assert shared == shared.clone()
    assert apart == apart.clone()


@pytest.mark.parametrize("kind", [Config, fdl.Config])
def test_what_fiddle_does_not_see(kind):
    first, second, third, fourth = (kind(Layer) for _ in range(4))
    assert kind(dict, a=first, b=second, c=first) == kind(dict, a=third, b=fourth, c=fourth)
    # ... unless a configuration inside is compared for itself.
    assert kind(dict, a=first, b=second, c=kind(dict, x=first, y=first)) != kind(
        dict, a=third, b=fourth, c=kind(dict, x=third, y=fourth)
    )


def test_configurations_have_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Config(Layer))


def test_errors_of_a_broadcast_name_the_path():
    with pytest.raises(ConfigError, match=r"^layers\[0\]: Layer.size: expected int, got 'x'"):
        Config(model, layers=[Config(Layer)], validate=False).broadcast(size="x")
