"""Values are checked against type hints, whichever way they are set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Annotated, Any, Optional, Protocol

import fiddle as fdl
import pytest
from fiddle import selectors
from typing_extensions import TypedDict, Unpack

import nemo_run as run
import tests.config.annotation_table as table
from nemo_run.config import Config, Partial, set_value
from nemo_run.errors import ConfigTypeError, MissingArgumentError, UnknownFieldError
from tests.config import type_checking_only
from tests.support import value_id


def function_with(hint: object) -> Any:
    """A function of the table's module whose argument has this hint."""

    def template(arg): ...

    function = FunctionType(template.__code__, vars(table), "function")
    function.__qualname__ = "function"
    function.__annotations__ = {"arg": hint}
    return function


def name_of(hint: object, value: object) -> str:
    return f"{hint}-{value_id(value)}"[:80]


@pytest.fixture
def strict() -> Iterator[None]:
    """Refuse whatever does not fit, also what may be meant."""
    with run.config.validation("strict"):
        yield


FITS = [pytest.param(row.hint, value, id=name_of(row.hint, value)) for row in table.TABLE for value in row.fits]
REFUSED = [
    pytest.param(row.hint, value, message, id=name_of(row.hint, value))
    for row in table.TABLE
    for value, message in row.refused
]


@pytest.mark.parametrize(("hint", "value"), FITS)
def test_a_value_that_fits(hint, value):
    Config(function_with(hint), arg=value)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(("hint", "value", "message"), REFUSED)
def test_a_value_that_does_not_fit(hint, value, message):
    with pytest.raises(ConfigTypeError) as caught:
        Config(function_with(hint), arg=value)
    text = str(caught.value)
    assert text.startswith("function.arg")
    # Of equal unions, Python may give the one that was written first in this process, whatever its order.
    assert message in text or message.replace("int | str", "str | int") in text
    assert "validate=False" in text


@dataclass
class Layer:
    size: int = 1


@dataclass
class WideLayer(Layer):
    pass


@dataclass
class Model:
    first: Layer
    layers: list[Layer] = field(default_factory=list)
    by_name: dict[str, Optional[Layer]] = field(default_factory=dict)
    make: Optional[Callable[[], Layer]] = None
    size: float = 1.0


class Sized(Protocol):
    size: int


def make_layer() -> Layer:
    return WideLayer()


def make_int() -> int:
    return 1


def make_bool() -> bool:
    return True


def make_anything():
    return WideLayer()


def make_maybe() -> Optional[Layer]:
    return None


def takes_sized(sized: Sized, flag: bool = False): ...


# ---------------------------------------------------------------- nested configurations
@pytest.mark.parametrize(
    "arguments",
    [
        {"first": Config(Layer)},
        {"first": Config(WideLayer)},
        {"first": fdl.Config(Layer)},
        {"first": Config(make_layer)},
        {"first": Config(make_anything)},
        {"first": Config(make_maybe)},
        {"first": Layer()},
        {"first": Config(Layer), "layers": [Config(Layer), WideLayer()]},
        {"first": Config(Layer), "layers": Config(list)},
        {"first": Config(Layer), "by_name": {"a": Config(Layer), "b": None}},
        {"first": Config(Layer), "make": Partial(Layer)},
        {"first": Config(Layer), "make": Partial(make_layer)},
        {"first": Config(Layer), "make": make_layer},
        {"first": Config(Layer), "size": Config(make_int)},
    ],
)
def test_a_configuration_fits_where_what_it_builds_fits(arguments):
    cfg = Config(Model, **arguments)
    assert isinstance(cfg.build(), Model)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": Config(Model)}, "Model.first: expected Layer, got Config[Model]"),
        ({"first": Config(make_int)}, "Model.first: expected Layer, got Config[make_int], which gives int"),
        ({"first": Partial(Layer)}, "Model.first: expected Layer, got Partial[Layer]"),
        ({"layers": [Config(Layer), Config(Model)]}, "Model.layers[1]: expected Layer, got Config[Model]"),
        ({"by_name": {"a": Config(Model)}}, "Model.by_name['a']: expected Layer | None, got Config[Model]"),
        ({"make": Config(Layer)}, "Model.make: expected Callable[[], Layer] | None, got Config[Layer]"),
        ({"size": Config(make_bool)}, "Model.size: expected float, got Config[make_bool], which gives bool"),
    ],
)
def test_a_configuration_of_something_else(arguments, message):
    with pytest.raises(ConfigTypeError) as caught:
        Config(Model, **arguments)
    assert message in str(caught.value)


@pytest.mark.usefixtures("strict")
def test_a_configuration_is_no_object_of_its_own_methods():
    class Buildable2(Protocol):
        def build(self) -> None: ...

    def build(arg: Buildable2): ...

    build.__annotations__["arg"] = Buildable2
    with pytest.raises(ConfigTypeError, match=r"expected Buildable2"):
        Config(build, arg=Config(Layer))
    Config(takes_sized, sized=Config(Layer))  # a data member may be set in __init__


# ---------------------------------------------------------------- every way to set a value
def _construct(cfg):
    Config(Layer, size="x")


def _construct_by_position(cfg):
    Config(Layer, "x")


def _assign(cfg):
    cfg.first.size = "x"


def _assign_by_position(cfg):
    cfg.first[0] = "x"


def _setattr(cfg):
    cfg.first.size = "x"


def _set_value(cfg):
    set_value(cfg, "first.size", "x")


def _set_value_in_list(cfg):
    set_value(cfg, "layers[0].size", "x")


def _broadcast(cfg):
    cfg.broadcast(size="x")


def _walk(cfg):
    cfg.walk(size=lambda node: "x")


def _fiddle_assign(cfg):
    fdl.assign(cfg.first, size="x")


def _fiddle_copy_with(cfg):
    fdl.copy_with(cfg.first, size="x")


def _fiddle_selector(cfg):
    selectors.select(cfg, Layer).set(size="x")


def _in_a_clone(cfg):
    cfg.clone().first.size = "x"


def _in_a_shallow_copy(cfg):
    fdl.cast(Partial, cfg.first).size = "x"


@pytest.mark.parametrize(
    "change",
    [
        _construct, _construct_by_position, _assign, _assign_by_position, _setattr, _set_value, _set_value_in_list,
        _broadcast, _walk, _fiddle_assign, _fiddle_copy_with, _fiddle_selector, _in_a_clone, _in_a_shallow_copy,
    ],
)  # fmt: skip
def test_every_way_to_set_a_value_is_checked(change):
    cfg = Config(Model, first=Config(Layer), layers=[Config(Layer)], size=2.0)
    with pytest.raises(ConfigTypeError, match=r"expected (int|float), got 'x' \(str\)"):
        change(cfg)
    assert cfg == Config(Model, first=Config(Layer), layers=[Config(Layer)], size=2.0)


def test_a_path_is_named_from_the_root():
    cfg = Config(Model, first=Config(Layer), layers=[Config(Layer)], validate=False)
    with pytest.raises(ConfigTypeError, match=r"^layers\[0\].size: Layer.size: expected int"):
        set_value(cfg, "layers[0].size", "x")
    cfg.layers[0].broadcast(size=3)
    del cfg.first
    with pytest.raises(ConfigTypeError, match=r"^layers\[0\]: Layer.size: expected int"):
        cfg.broadcast(size="x")


def test_a_changed_list_is_looked_into_again_before_building():
    cfg = Config(Model, first=Config(Layer), layers=[])
    cfg.layers.append("x")
    with pytest.raises(ConfigTypeError, match=r"^Model.layers\[0\]: expected Layer, got 'x' \(str\)"):
        cfg.build()
    outer = Config(dict, inner={"a": [cfg]})
    with pytest.raises(ConfigTypeError, match=r"^inner\['a'\]\[0\]: Model.layers\[0\]: expected Layer"):
        outer.build()


# ---------------------------------------------------------------- what is accepted
def test_validate_false_accepts_everything():
    cfg = Config(Model, first="x", layers=1, validate=False)
    cfg.size = "also wrong"
    for copied in (cfg.clone(), fdl.copy_with(cfg), fdl.cast(Partial, cfg)):
        copied.size = None
    assert cfg.build() == Model("x", 1, size="also wrong")


def test_validate_belongs_to_a_target_that_takes_it():
    def takes_it(validate: bool = True, size: int = 1): ...

    def takes_anything(size: int, **kwargs): ...

    assert Config(takes_it, validate=False).validate is False
    assert Config(dict, validate=False).build() == {"validate": False}
    assert not hasattr(Config(takes_anything, size="x", validate=False), "validate")


def test_the_default_is_accepted_whatever_its_hint():
    def train(steps: int = None): ...  # noqa: RUF013

    assert Config(train, steps=None).steps is None
    with pytest.raises(ConfigTypeError):
        Config(train, steps="x")


def test_no_hint_accepts_everything():
    def train(anything, *more, **others): ...

    Config(train, object(), [], 1, a=2).other = "x"


class Options(TypedDict, total=False):
    rate: float


def with_everything(a: int, b: str = "b", /, *args: int, key: float = 1.0, **kwargs: str):
    return a, b, args, key, kwargs


def with_unpacked(**kwargs: Unpack[Options]): ...


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: Config(with_everything, "x"), "with_everything[0]: expected int"),
        (lambda: Config(with_everything, 1, 2), "with_everything[1]: expected str"),
        (lambda: Config(with_everything, 1, "b", 3, "x"), "with_everything[3]: expected int"),
        (lambda: Config(with_everything, 1, key="x"), "with_everything.key: expected float"),
        (lambda: Config(with_everything, 1, other=5), "with_everything.other: expected str"),
        (lambda: Config(with_unpacked, rate="x"), "with_unpacked.rate: expected float"),
    ],
)
def test_every_kind_of_parameter(make, where):
    with pytest.raises(ConfigTypeError) as caught:
        make()
    assert str(caught.value).startswith(where)


def test_positional_and_variadic_arguments_build():
    cfg = Config(with_everything, 1, "b", 3, key=2, other="o")
    cfg[fdl.VARARGS :] = [4, 5]
    assert cfg.build() == fdl.build(cfg) == (1, "b", (4, 5), 2, {"other": "o"})


@pytest.mark.usefixtures("strict")
def test_names_that_only_a_type_checker_sees():
    cfg = Config(type_checking_only.train, path=object(), steps=1)
    with pytest.raises(ConfigTypeError, match=r"steps: expected int"):
        cfg.steps = "x"
    cfg = Config(type_checking_only.Trainer, path=object(), steps=1, inner=None)
    with pytest.raises(ConfigTypeError, match=r"steps: expected int"):
        cfg.steps = "x"
    with pytest.raises(ConfigTypeError, match=r"inner: expected Trainer | None"):
        cfg.inner = "x"


@pytest.mark.usefixtures("strict")
def test_a_class_inside_a_function_that_names_itself():
    @dataclass
    class Local:
        inner: Optional[Local] = None
        size: int = 1

    assert Config(Local, inner=Config(Local)).build() == Local(Local())
    with pytest.raises(ConfigTypeError, match=r"expected Local \| None, got 1"):
        Config(Local, inner=1)


@pytest.mark.usefixtures("strict")
def test_a_default_configuration_may_be_a_partial():
    def train(make: Annotated[Optional[Layer], Partial[Layer]] = None): ...

    train.__annotations__["make"] = Annotated[Optional[Layer], Partial[Layer]]
    assert Config(train).make == Partial(Layer)
    with pytest.raises(ConfigTypeError):
        Config(train, make=1)


# ---------------------------------------------------------------- names
def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownFieldError, match=r"Model has no argument 'layer'; did you mean 'layers'"):
        Config(Model, layer=[])
    cfg = Config(Model)
    with pytest.raises(UnknownFieldError, match=r"did you mean 'size'"):
        cfg.sise = 1
    with pytest.raises(UnknownFieldError, match=r"did you mean 'size'"):
        _ = cfg.sise
    with pytest.raises(UnknownFieldError, match=r"There are: first, layers, by_name, make, size"):
        cfg.something_else = 1
    assert isinstance(UnknownFieldError(""), AttributeError)
    assert not hasattr(cfg, "sise")


@pytest.mark.parametrize("build", [fdl.build, lambda cfg: cfg.build()])
def test_a_missing_argument_is_named_with_its_type_and_path(build):
    with pytest.raises(MissingArgumentError, match=r"Model needs a value for 'first' \(Layer\)"):
        build(Config(Model))
    nested = Config(dict, models=[Config(Model)])
    with pytest.raises(MissingArgumentError) as caught:
        build(nested)
    assert "models[0]" in str(caught.value)
    with pytest.raises(MissingArgumentError, match=r"missing a required argument"):
        build(Config(with_everything))


def test_too_many_arguments():
    with pytest.raises(ConfigTypeError, match=r"Layer cannot take these arguments: too many positional"):
        Config(Layer, 1, 2)
    with pytest.raises(ConfigTypeError, match=r"multiple values for argument 'size'"):
        Config(Layer, 1, size=2)


def test_checks_do_not_depend_on_assertions():
    code = (
        "from nemo_run.config import Config, Script\n"
        "from nemo_run.errors import NemoRunError\n"
        "def f(a: int): ...\n"
        "attempts = [lambda: Config(f, a='x'), lambda: Config(f, b=1), lambda: Config(f).build(),"
        " lambda: Script(), lambda: Script(path='a', m=True),"
        " lambda: Script(inline='a', env={'a b': '1'}), lambda: Script(path='a', args='b')]\n"
        "for attempt in attempts:\n"
        "    try:\n"
        "        attempt()\n"
        "    except NemoRunError:\n"
        "        continue\n"
        "    raise SystemExit(f'{attempts.index(attempt)} was not refused')\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
