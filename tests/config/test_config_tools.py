"""Paths in configurations, the home folder, conversions, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import fiddle as fdl
import pytest

import nemo_run.config as config_package
from nemo_run.config import (
    Config,
    ConfigurableMixin,
    Partial,
    Script,
    autoconvert,
    from_dict,
    get_nemorun_home,
    get_type_namespace,
    get_underlying_types,
    get_value,
    set_nemorun_home,
    set_value,
)
from nemo_run.errors import ConfigError, ConfigPathError, ConfigTypeError, MissingArgumentError, UnknownFieldError


@dataclass
class Layer:
    size: int = 1


class Pair(NamedTuple):
    left: Any
    right: Any


class Thing:
    size = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.size == self.size

    __hash__ = None


@dataclass
class Model(ConfigurableMixin):
    layer: Layer = field(default_factory=Layer)
    layers: list[Layer] = field(default_factory=list)
    by_name: dict[Any, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (1, 2)
    pair: Optional[Pair] = None
    maybe: Optional[Layer] = None


def cfg() -> Config:
    return Config(
        dict,
        model=Config(
            Model,
            layers=[Config(Layer), Config(Layer, 2)],
            by_name={"a": Config(Layer, 3), "b c": [1, {"d": 2}], 4: "four", "o": Thing()},
            pair=Pair(Config(Layer), 1),
        ),
    )


# ---------------------------------------------------------------- paths
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("new", 1),
        (".model.layers", []),
        ("model.layers[1].size", 9),
        ("model.layers[-1].size", 9),
        ("model.layers[0]", Config(Layer, 8)),
        ("model.by_name['a'].size", 9),
        ('model.by_name["a"].size', 9),
        ("model.by_name.a.size", 9),
        ("model.by_name['b c'][0]", 9),
        ("model.by_name['b c'][1]['d']", 9),
        ("model.by_name['n\\'ew']", 9),
        ("model.by_name[4]", "x"),
        ("model.by_name.new", 9),
        ("model.shape[1]", 9),
        ("model.by_name['o'].size", 9),
        ("model.pair.right", 9),
        ("model.pair.left.size", 9),
        ("model.pair[0].size", 9),
        ("model.layer.size", 9),
    ],
)
def test_setting_a_value_at_a_path(path, value):
    changed = cfg()
    set_value(changed, path, value)
    assert get_value(changed, path) == value
    assert changed.build() == fdl.build(changed)


def test_setting_a_value_leaves_the_rest_alone():
    changed, default = cfg(), Model.__dataclass_fields__["shape"].default
    set_value(changed, "model.shape[0]", 5)
    set_value(changed, "model.layer.size", 6)
    assert changed.model.shape == (5, 2)
    assert changed.model.layer == Config(Layer, 6)
    assert default == (1, 2)
    changed.model.shape = (1, 2)
    del changed.model.layer
    assert changed == cfg()


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ConfigPathError, "the path is empty"),
        ("a..b", ConfigPathError, r"cannot read the path 'a..b' from '..b' on"),
        ("a[", ConfigPathError, r"cannot read the path 'a\[' from '\[' on"),
        ("a[b]", ConfigPathError, "cannot read the path"),
        ("model.layers[x].size", ConfigPathError, "cannot read the path"),
        ("model['__class__'].x", ConfigPathError, r"there is no \['__class__'\] in Config\[Model\]"),
        ("model.layres[0]", UnknownFieldError, "did you mean 'layers'"),
        ("model.layers[7].size", ConfigPathError, r"there is no \[7\] in"),
        ("model.layers[7]", ConfigPathError, r"nothing can be put at \[7\]"),
        ("model.layers['a']", ConfigPathError, r"nothing can be put at \['a'\]"),
        ("model.by_name['z'].size", ConfigPathError, r"there is no \['z'\]"),
        ("model.maybe.size", ConfigPathError, r"nothing can be put at .size of None"),
        ("model.shape[5]", ConfigPathError, r"nothing can be put at \[5\]"),
        ("model.pair.middle", ConfigPathError, "nothing can be put at .middle"),
        ("model.__class__.x", ConfigPathError, "there is no .__class__"),
        ("model.by_name['o'].__class__.x", ConfigPathError, "there is no .__class__ in"),
        ("model.by_name['o'].__doc__", ConfigPathError, "nothing can be put at .__doc__"),
        ("model.by_name['o'].nothing", ConfigPathError, "nothing can be put at .nothing"),
        ("model.build.x", UnknownFieldError, "Model has no argument 'build'"),
        ("model.layer.size", ConfigTypeError, "Layer.size: expected int"),
        ("model.layers[0].size", ConfigTypeError, r"^model.layers\[0\].size: Layer.size: expected int"),
        ("model.layers[0]", ConfigTypeError, r"^model.layers\[0\]: Model.layers\[0\]: expected Layer"),
        ("model.shape[1]", ConfigTypeError, r"^model.shape\[1\]: Model.shape\[1\]: expected int"),
    ],
)
def test_paths_that_lead_nowhere_and_values_that_do_not_fit(path, error, message):
    changed = cfg()
    with pytest.raises(error, match=message):
        set_value(changed, path, "x")
    assert changed == cfg()


# ---------------------------------------------------------------- home
def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NEMORUN_HOME", raising=False)
    assert get_nemorun_home() == str(tmp_path / ".nemo_run")
    monkeypatch.setenv("NEMORUN_HOME", "~/elsewhere")
    assert get_nemorun_home() == str(tmp_path / "elsewhere")
    set_nemorun_home("~/chosen")
    assert get_nemorun_home() == str(tmp_path / "chosen")
    monkeypatch.chdir(tmp_path)
    set_nemorun_home("relative")
    monkeypatch.chdir("/")
    assert get_nemorun_home() == str(tmp_path / "relative")
    code = "from nemo_run.config import get_nemorun_home; print(get_nemorun_home())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == f"{tmp_path / 'relative'}\n"


# ---------------------------------------------------------------- plain data
def test_from_dict():
    data = {"layer": {"size": 3}, "layers": [{"size": 4}], "maybe": {"size": 5}, "shape": [1]}
    model = from_dict(data, Model)
    assert model == Model(Layer(3), [Layer(4)], shape=[1], maybe=Layer(5))
    assert from_dict({"size": 1}, Optional[Layer]) == Layer(1)
    assert from_dict([{"size": 1}], list[Layer]) == [Layer(1)]
    assert from_dict(5, int) == 5


@dataclass
class Needs:
    size: int


@pytest.mark.parametrize(
    ("data", "hint", "error", "message"),
    [
        ({"sise": 1}, Layer, UnknownFieldError, "Layer has no field 'sise'; did you mean 'size'"),
        ({}, Needs, MissingArgumentError, "Needs needs a value for 'size'"),
        ({"size": 1}, Union[Layer, Needs], ConfigError, "which type"),
    ],
)
def test_from_dict_refuses(data, hint, error, message):
    with pytest.raises(error, match=message):
        from_dict(data, hint)


# ---------------------------------------------------------------- names of types
def test_names_of_types():
    assert get_type_namespace(Layer) == f"{__name__}.Layer"
    assert get_type_namespace(int) == "builtins.int"
    assert get_type_namespace(Layer.__init__) == f"{__name__}.Layer.__init__"
    assert get_type_namespace(Config(Layer)) == f"{__name__}.Layer"
    assert get_underlying_types(Optional[Union[int, str]]) == {int, str, type(None)}
    assert get_underlying_types(int | None) == {int, type(None)}


def test_a_type_of_the_script_that_runs(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text("from nemo_run.config import get_type_namespace\nclass A: pass\nprint(get_type_namespace(A))\n")
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert shown.stdout == "my_script.A\n"


# ---------------------------------------------------------------- the mixin
def test_the_mixin_makes_a_configuration():
    model = Model(Layer(2), [Layer(3)], {"a": Layer(4)}, maybe=Layer(5))
    made = model.to_config()
    assert made == Config(
        Model,
        layer=Config(Layer, 2), layers=[Config(Layer, 3)], by_name={"a": Config(Layer, 4)}, maybe=Config(Layer, 5),
    )  # fmt: skip
    assert made.build() == model


class NoDataclass(ConfigurableMixin):
    pass


class Own(ConfigurableMixin):
    def to_config(self):
        return Config(Layer, 7)


@dataclass
class OwnDataclass(ConfigurableMixin):
    size: int = 1

    def to_config(self):
        return Config(OwnDataclass, size=self.size + 1)


@dataclass(init=False)
class OwnInit(ConfigurableMixin):
    size: int

    def __init__(self, half: int):
        self.size = 2 * half


def test_a_class_that_says_itself_how_it_is_configured():
    assert Own().to_config() == Config(Layer, 7)
    assert Config(dict, a=OwnDataclass(1)).a == Config(OwnDataclass, size=2)
    with pytest.raises(NotImplementedError, match=r"NoDataclass is not a dataclass.*override to_config"):
        NoDataclass().to_config()
    with pytest.raises(NotImplementedError, match=r"OwnInit cannot be made again from its fields.*override to_config"):
        OwnInit(1).to_config()


# ---------------------------------------------------------------- autoconvert
@autoconvert
def make_model(size: int = 2) -> Model:
    return Model(layer=Layer(size=size), layers=[Layer(), Layer(size=3)])


@autoconvert(partial=True)
def make_partial(size: int = 2) -> Layer:
    return Layer(size=size)


@autoconvert
def make_two() -> list[Layer]:
    return [Layer(size=1), make_partial(size=5)]


@autoconvert
def make_mixed() -> Model:
    return Model(layer=Config(Layer, size=6))


def test_autoconvert():
    made = make_model(size=4)
    assert made == Config(Model, layer=Config(Layer, 4), layers=[Config(Layer), Config(Layer, 3)])
    assert type(made) is type(made.layer) is type(made.layers[0]) is Config
    assert make_model().layer.size == 2
    assert make_model.wrapped(1) == Model(Layer(1), [Layer(), Layer(3)])
    assert make_model.__name__ == "make_model"


def test_autoconvert_to_partials_and_lists():
    assert make_partial(size=3) == Partial(Layer, size=3)
    assert make_two() == [Config(Layer, 1), Config(Layer, 5)]
    assert make_mixed() == Config(Model, layer=Config(Layer, size=6))
    with pytest.raises(ConfigTypeError, match=r"Layer.size: expected int"):
        make_partial(size="x")


def test_autoconvert_with_another_conversion():
    def to_dict(fn, cls, *args, **kwargs):
        return fn.__name__, cls, args, kwargs

    assert autoconvert(len, partial=True, to_buildable_fn=to_dict)(1, a=2) == ("len", Partial, (1,), {"a": 2})


# ---------------------------------------------------------------- the package
def test_every_public_name_is_there():
    for name in config_package.__dir__():
        assert getattr(config_package, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'"):
        _ = config_package.nothing


@pytest.mark.parametrize("kind", [Config, Partial, Script, ConfigurableMixin])
def test_classes_say_where_they_are_imported_from(kind):
    assert kind.__module__ == "nemo_run.config"
    assert getattr(config_package, kind.__qualname__) is kind


def test_importing_the_light_parts_does_not_import_fiddle():
    code = (
        "from nemo_run.config import ConfigurableMixin, Script, get_nemorun_home, get_type_namespace\n"
        "Script(inline='true').argv('x')\n"
        "import sys\n"
        "print([name for name in ('fiddle', 'libcst._nodes', 'rich', 'yaml', 'graphviz') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
