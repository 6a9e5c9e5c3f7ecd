"""Config and Partial: what they hold, what they build, and that they are fiddle's."""

from __future__ import annotations

import copy
import enum
import functools
import pickle
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypeVar

import attrs
import fiddle as fdl
import pydantic
import pytest
from fiddle import selectors

from nemo_run.config import Config, OptionalDefaultConfig, OptionalDefaultPartial, Partial, build
from nemo_run.errors import ConfigError, UnsetArgumentError

T = TypeVar("T")
MADE: list[str] = []


@dataclass
class Layer:
    size: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass
class Model:
    layer: Optional[Layer] = None
    layers: list[Layer] = field(default_factory=list)
    by_name: dict[str, Layer] = field(default_factory=dict)
    pair: tuple[Any, ...] = ()


class Noted:
    def __init__(self, name: str, inner: Any = None):
        MADE.append(name)
        self.name, self.inner = name, inner


def train(model: Model, steps: int = 1) -> tuple[Model, int]:
    return model, steps


@pytest.fixture(autouse=True)
def _nothing_made():
    MADE.clear()


# ---------------------------------------------------------------- building
def test_nested_configurations_are_built_inside_out():
    cfg = Config(Noted, "outer", inner=[Config(Noted, "a"), {"k": Config(Noted, "b", inner=Config(Noted, "c"))}])
    assert MADE == []
    built = cfg.build()
    assert MADE == ["a", "c", "b", "outer"]
    assert built.inner[1]["k"].inner.name == "c"


def test_build_gives_what_fiddle_gives():
    cfg = Config(Model, layer=Config(Layer), layers=[Config(Layer, 2)], by_name={"a": Config(Layer, tags=["x"])})
    cfg.pair = (Config(Layer, 3), [Config(Layer, 4)])
    assert cfg.build() == fdl.build(cfg) == build(cfg)
    assert cfg.build().layers is not cfg.layers


def test_what_is_shared_is_built_once():
    layer = Config(Layer)
    numbers = [1]
    model = Config(Model, layer=layer, layers=[layer, Config(Layer)], pair=(numbers, numbers, layer)).build()
    assert model.layer is model.layers[0] is model.pair[2]
    assert model.layers[1] is not model.layer
    assert model.pair[0] is model.pair[1] is not numbers


class Point(NamedTuple):
    x: Any
    y: int


def test_containers_of_every_kind_are_built():
    cfg = Config(dict, point=Point(Config(Layer), 1), nested=((Config(Layer),), [{"a": (Config(Layer),)}]))
    assert cfg.build() == fdl.build(cfg) == {"point": Point(Layer(), 1), "nested": ((Layer(),), [{"a": (Layer(),)}])}


def test_a_partial_builds_to_a_callable():
    partial = Partial(Noted, "late")
    function = partial.build()
    assert MADE == []
    assert function().name == "late"
    assert function(name="other").name == "other"
    assert isinstance(function, functools.partial)


def test_a_partial_from_a_partial():
    base = Partial(train, model=Config(Model), steps=5)
    longer = fdl.copy_with(base, steps=9)
    assert (longer.build()()[1], base.build()()[1]) == (9, 5)
    assert longer.model is base.model
    again = base.clone()
    again.model.layer = Config(Layer)
    assert base.model.layer is None


def test_arg_factories_of_fiddle():
    function = Partial(Layer, tags=fdl.ArgFactory(list)).build()
    assert function().tags is not function().tags


def test_an_error_says_where():
    def fail(inner: Any = None):
        raise ValueError("it failed")

    with pytest.raises(ValueError, match=r"it failed") as caught:
        Config(dict, a=[Config(fail)]).build()
    assert caught.value.__notes__ == [f"while building a[0] (Config of {fail.__qualname__})"]


def test_a_cycle_is_an_error():
    cfg = Config(dict)
    cfg.inner = [cfg]
    with pytest.raises(ConfigError, match=r"cycle"):
        cfg.build()


# ---------------------------------------------------------------- dataclass instances as arguments
def test_a_dataclass_instance_becomes_a_configuration():
    partial = Partial(train, model=Model(layer=Layer(2)))
    assert partial.model == Config(Model, layer=Config(Layer, 2, tags=[]), layers=[], by_name={}, pair=())
    partial.model.layer.size = 3
    assert partial.build()()[0].layer == Layer(3)


@pytest.mark.parametrize(
    ("value", "configured"),
    [
        ([Layer()], [Config(Layer, tags=[])]),
        ({"a": (Layer(2),)}, {"a": (Config(Layer, 2, tags=[]),)}),
        (Model(layers=[Layer()]), Config(Model, layers=[Config(Layer, tags=[])], by_name={})),
        ([1, "a", None], [1, "a", None]),
        (Layer, Layer),
    ],
)
def test_instances_in_containers_and_when_assigned(value, configured):
    cfg = Config(dict, first=value)
    cfg.second = value
    assert cfg.first == configured
    assert cfg.second == configured


def test_the_same_instance_becomes_the_same_configuration():
    layer = Layer()
    cfg = Config(dict, pair=[layer, layer])
    assert cfg.pair[0] is cfg.pair[1]


def test_containers_without_instances_are_kept():
    values = [1, [2]]
    assert Config(dict, values=values).values is values


@dataclass
class WithInitVar:
    size: int
    scale: InitVar[int] = 1

    def __post_init__(self, scale):
        self.scaled = self.size * scale


@dataclass(init=False)
class OwnInit:
    size: int

    def __init__(self, half: int):
        self.size = 2 * half


@pytest.mark.parametrize("instance", [WithInitVar(2, 3), OwnInit(1)])
def test_an_instance_that_cannot_be_made_again_stays(instance):
    assert Config(dict, a=instance, b=[instance]).build() == {"a": instance, "b": [instance]}
    assert Config(dict, a=instance).a is instance


class Level(Layer, enum.Enum):
    LOW = 1


def test_an_enum_member_stays():
    assert Config(dict, level=Level.LOW).level is Level.LOW


def test_an_instance_that_holds_itself():
    model = Model()
    model.pair = (model,)
    assert Config(dict, model=model).model is model


# ---------------------------------------------------------------- defaults that are configurations
def with_defaults(
    one: Annotated[Optional[Layer], Config[Layer]] = None,
    two: OptionalDefaultConfig[Layer] = None,
    three: OptionalDefaultPartial[Layer] = None,
    four: Annotated[Layer | None, "a note", Config[Layer]] = None,
    five: Optional[Layer] = None,
): ...


def needs_more(needed: int, one: OptionalDefaultConfig[Layer] = None): ...


def test_annotations_give_default_configurations():
    cfg = Config(with_defaults)
    assert cfg == Config(
        with_defaults, one=Config(Layer), two=Config(Layer), three=Partial(Layer), four=Config(Layer), bind_args=False
    )
    assert cfg.five is None
    assert Partial(needs_more).one == Config(Layer)


def test_default_configurations_can_be_left_out():
    assert Config(with_defaults, one=None).one is None
    assert Config(with_defaults, one=Config(Layer, 3)).one.size == 3
    assert Config(with_defaults, bind_args=False).one is None


# ---------------------------------------------------------------- targets of every kind
class Plain:
    def __init__(self, a: int, *, b: str = "b"):
        self.values = (a, b)

    @classmethod
    def make(cls, a: int) -> Plain:
        return cls(a, b="made")

    @staticmethod
    def double(a: int) -> int:
        return 2 * a

    def method(self, c: int) -> tuple[Any, ...]:
        return (*self.values, c)

    def __call__(self, d: int) -> int:
        return d


class Box(Generic[T]):
    def __init__(self, content: T):
        self.content = content


@attrs.define
class Attrs:
    a: int
    b: list[int] = attrs.field(factory=list)


class Pydantic(pydantic.BaseModel):
    a: int
    b: list[int] = pydantic.Field(default_factory=list)
    inner: Optional[Pydantic] = None


@pydantic.dataclasses.dataclass
class PydanticDataclass:
    a: int


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (Config(Plain, 1, b="x"), (1, "x")),
        (Config(Plain.make, a=2), (2, "made")),
        (Config(functools.partial(Plain, b="p"), a=3), (3, "p")),
        (Config(functools.partial(Plain, 4), b="q"), (4, "q")),
    ],
)
def test_classes_and_what_makes_them(cfg, expected):
    assert cfg.build().values == fdl.build(cfg).values == cfg.clone().build().values == expected
    assert cfg.clone() == cfg


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (Config(Plain.double, a=2), 4),
        (Config(Plain(1).method, c=3), (1, "b", 3)),
        (Config(Plain(1), d=5), 5),
        (Config(train, model=None, steps=2, validate=False), (None, 2)),
        (Config(Attrs, a=1, b=[2]), Attrs(1, [2])),
        (Config(Pydantic, a=1, inner=Config(Pydantic, a=2)), Pydantic(a=1, inner=Pydantic(a=2))),
        (Config(PydanticDataclass, a=1), PydanticDataclass(1)),
        (Config(dict, a=1), {"a": 1}),
        (Config(dict[str, int], a=1), {"a": 1}),
        (Config({}, a=1), {"a": 1}),
        (Config(Point, x=1, y=2), Point(1, 2)),
    ],
)
def test_other_targets(cfg, expected):
    assert cfg.build() == fdl.build(cfg) == expected
    assert cfg.clone() == cfg


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(Plain, a="x"), "Plain.a: expected int"),
        (lambda: Config(Plain.make, a="x"), "Plain.make.a: expected int"),
        (lambda: Config(Plain(1).method, c="x"), "Plain.method.c: expected int"),
        (lambda: Config(Plain(1), d="x"), "Plain.d: expected int"),
        (lambda: Config(functools.partial(Plain, b="p"), a="x"), r"partial\(Plain\).a: expected int"),
        (lambda: Config(Attrs, a=1, b=["x"]), r"Attrs.b\[0\]: expected int"),
        (lambda: Config(Pydantic, a="x"), "Pydantic.a: expected int"),
        (lambda: Config(PydanticDataclass, a="x"), "PydanticDataclass.a: expected int"),
        (lambda: Config(Point, x=1, y="x"), "Point.y: expected int"),
    ],
)
def test_other_targets_are_checked(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_generic_aliases():
    assert Config(Box[int], content=1).build().content == 1
    assert Config[Layer](Layer, size=2) == Config(Layer, size=2)
    assert Config[dict](dict, a=1).build() == {"a": 1}


# ---------------------------------------------------------------- reading
def test_reading_arguments_and_defaults():
    cfg = Config(Model, layers=[Config(Layer, 2)], by_name={"a": Config(Layer, 3)})
    assert (cfg.layer, cfg.layers[0].size, cfg.by_name["a"].size) == (None, 2, 3)
    cfg.layers[0].size = 4
    assert cfg.build().layers == [Layer(4)]


@pytest.mark.parametrize("cfg", [Config(Layer), Config(Attrs), Config(Pydantic)])
def test_reading_what_has_no_value_yet(cfg):
    name = "tags" if cfg.__fn_or_cls__ is Layer else "b"
    with pytest.raises(UnsetArgumentError, match=r"made anew for each object"):
        getattr(cfg, name)
    assert not hasattr(cfg, name)


def test_reading_what_is_required():
    with pytest.raises(UnsetArgumentError, match=r"Plain.a has no value yet, and no default"):
        _ = Config(Plain).a
    with pytest.raises(ValueError, match=r"has no value yet"):
        _ = Config(Plain).a


def test_deleting_an_argument():
    cfg = Config(Layer, size=2)
    del cfg.size
    assert cfg.size == 1


def names_of_methods(build: bool = True, to_yaml: str = "x", walk: int = 1, clone: int = 2): ...


def test_arguments_with_the_names_of_newer_methods_are_arguments():
    cfg = Config(names_of_methods)
    assert (cfg.build, cfg.to_yaml) == (True, "x")
    cfg.build = False
    assert cfg.build is False
    assert build(cfg) is None
    assert callable(cfg.walk)
    assert Config(dict, build=1).build == 1
    assert Config(dict).build() == {}


# ---------------------------------------------------------------- fiddle
def test_they_are_fiddle_classes():
    assert isinstance(Config(Layer), fdl.Config)
    assert isinstance(Partial(Layer), fdl.Partial)
    assert isinstance(Partial(Layer), fdl.Buildable)
    assert type(fdl.cast(Config, fdl.Config(Layer, 2))) is Config
    assert fdl.cast(Partial, Config(Layer, 2)) == Partial(Layer, 2)
    assert fdl.cast(fdl.Partial, Config(Layer, 2)) == fdl.Partial(Layer, 2)
    assert fdl.get_callable(Config(Layer)) is Layer


def test_casts_are_silent(caplog):
    fdl.cast(Partial, fdl.cast(Config, fdl.cast(fdl.Config, Partial(Layer))))
    assert caplog.records == []


def test_ordered_arguments():
    cfg = Config(Model, pair=(1,), layer=None)
    assert [*fdl.ordered_arguments(cfg)] == ["layer", "pair"]
    assert fdl.ordered_arguments(Config(Plain), include_unset=True) == {"a": fdl.NO_VALUE}
    assert fdl.ordered_arguments(Config(Plain, 1), include_defaults=True) == {"a": 1, "b": "b"}


def test_a_configuration_cannot_be_made_from_another():
    with pytest.raises(ValueError, match=r"copy_with"):
        Config(Config(Layer))


class Rate(fdl.Tag):
    """A learning rate."""


def tagged(rate: Annotated[float, Rate], other: float = 0.5): ...


def test_tags():
    cfg = Config(dict, inner=[Config(tagged, rate=1.0), Config(tagged, other=Rate.new(2.0))])
    assert fdl.get_tags(cfg.inner[0], "rate") == {Rate}
    assert cfg.inner[1].other == 2.0
    fdl.set_tagged(cfg, tag=Rate, value=3.0)
    assert (cfg.inner[0].rate, cfg.inner[1].rate, cfg.inner[1].other) == (3.0, 3.0, 3.0)
    with pytest.raises(ConfigError, match=r"tagged.rate: expected float"):
        fdl.set_tagged(cfg, tag=Rate, value="x")
    with pytest.raises(ConfigError, match=r"tagged.other: expected float"):
        cfg.inner[0].other = Rate.new("x")
    assert fdl.get_tags(cfg.clone().inner[1], "other") == {Rate}


def test_selectors():
    cfg = Config(dict, layers=[Config(Layer), Config(Layer)])
    selectors.select(cfg, Layer).set(size=5)
    assert cfg.build() == {"layers": [Layer(5), Layer(5)]}


def test_update_callable():
    cfg = Config(Layer, size=2)
    fdl.update_callable(cfg, Plain, drop_invalid_args=True)
    cfg.a = 1
    assert cfg.build().values == (1, "b")
    with pytest.raises(ConfigError, match=r"Plain.a"):
        cfg.a = "x"


def test_history_names_the_lines_of_the_user():
    cfg = Config(Layer, size=1)
    cfg.size = 2
    cfg.broadcast(size=3)
    cfg.walk(size=lambda node: node.size + 1)
    entries = cfg.__argument_history__["size"]
    assert [entry.new_value for entry in entries] == [1, 2, 3, 4]
    assert {entry.location.filename for entry in entries} == {__file__}
    assert sorted(entry.sequence_id for entry in entries) == [entry.sequence_id for entry in entries]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda cfg: pickle.loads(pickle.dumps(cfg))])
def test_copies(copied):
    cfg = Config(Model, layers=[Config(Layer, 2)])
    again = copied(cfg)
    assert again == cfg
    again.layer = Config(Layer)
    assert cfg.layer is None
    with pytest.raises(ConfigError):
        again.layers = "x"
