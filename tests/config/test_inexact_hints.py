"""Hints of libraries are inexact, and their users cannot correct them: what may be meant is accepted, everywhere."""

from __future__ import annotations

import collections
import enum
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Protocol, Tuple, Union

import fiddle as fdl
import pytest
from typing_extensions import TypedDict

import nemo_run as run
from nemo_run.config.leeway import find_mistake
from nemo_run.core.serialization.yaml import YamlSerializer
from nemo_run.core.serialization.zlib_json import ZlibJSONSerializer


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


@dataclass
class Square:
    side: int = 1


@dataclass
class Circle:
    radius: float = 1.0


class Movie(TypedDict):
    title: str


class Closable(Protocol):
    def close(self) -> None: ...


@dataclass
class Loose:
    """A class with defaults that its own hints do not allow."""

    splits: int = 4
    fp8: bool = (False,)  # type: ignore[assignment]
    betas: Tuple[float] = (0.9, 0.95)  # type: ignore[assignment]
    shape: Square = None  # type: ignore[assignment]
    names: list[int] = field(default_factory=lambda: ["a"])  # type: ignore[list-item]
    form: Square = field(default_factory=Circle)  # type: ignore[assignment]


@dataclass
class Settled:
    """A class whose __post_init__ puts something else into a field than its hint says."""

    sizes: str = "1,2"

    def __post_init__(self) -> None:
        self.sizes = [int(size) for size in self.sizes.split(",")] if isinstance(self.sizes, str) else self.sizes


@dataclass
class Plan:
    loose: Loose = field(default_factory=Loose)


def train(
    color: Color = Color.RED,
    steps: int = 10,
    shape: Square = Square(),  # noqa: B008
    sizes: list[int] = [],  # noqa: B006
    plan: Optional[Plan] = None,
): ...


MEANT = [
    (Color, "red"), (Color, "RED"), (Size, 1), (Optional[Color], "blue"), (list[Color], ["red", Color.BLUE]),
    (dict[str, Color], {"a": "red"}), (int, None), (str, None), (list[int], None), (Square, None),
    (list[Square], [None]),
    (Square, Circle()), (Square, run.Config(Circle)), (Square, run.Partial(Square)), (list[Square], [Circle()]),
    (Square, Square), (type[Square], Circle), (Square, {"side": 1}), (int, run.Config(Circle)), (Closable, Circle()),
    (Callable, "gelu"), (Path, "/data"), (list[Path], ["/data"]), (str, Path("/data")), (int, 1e6),
    (int, 0.5), (int, True),
    (bool, 1), (str, 16), (tuple[float, float], [0.9, 0.95]), (Tuple[float], (0.9, 0.95)), (list[int], (1, 2)),
    (set[str], ["a"]), (list[int], 2), (bool, (False,)), (Movie, {}),
    (Literal["a"], enum.Enum("Word", {"A": "a"}, type=str).A),
    (Union[int, Square], "x"), (Sequence[int], {1}), (Optional[tuple[int, int]], [1, 2]), (Mapping[str, int], None),
    (collections.OrderedDict[str, int], {"a": 1}), (list[tuple[int, int]], [[1, 2]]),
]  # fmt: skip
MISTAKES = [
    (int, "many"), (float, "0.1"), (bool, "true"), (Optional[int], "many"), (Union[int, float], "1"), (int, b"1"),
    (list[int], "12"), (list, "abc"), (Sequence[int], "ab"), (dict[str, int], "a"), (tuple[int, int], "ab"),
    (set[str], "a"),
    (list[int], ["1"]), (list[int], [1, 2.5]), (list[str], [1]), (dict[str, int], {"a": "b"}), (dict[str, int], {1: 1}),
    (tuple[int, str], (1, 2)), (Optional[list[int]], ["a"]), (list[int], ("a",)), (list[list[int]], [[1], ["a"]]),
    (list[Square], [1]), (list[Square], ["x"]), (Union[int, list[int]], ["a"]), (Color, "purple"), (Color, 7),
    (list[Color], ["purple"]),
    (Literal["adam", "sgd"], "adma"), (Movie, {"title": "a", "yaer": 1}), (Movie, {"title": 1}), (list[int], [True]),
    (list[list[int]], [1]), (list[Color], ["red", "purple"]),
]  # fmt: skip


def takes(hint: Any) -> Any:
    def function(value): ...

    function.__annotations__["value"] = hint
    return function


@pytest.fixture
def caught() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


@pytest.mark.parametrize(("hint", "value"), MEANT, ids=str)
def test_what_may_be_meant_is_accepted_with_one_warning(hint, value, caught):
    task = run.Partial(takes(hint), value=value)
    task.value = value
    task.clone().build()
    assert [warning.category for warning in caught] == [run.ConfigTypeWarning]
    assert "function.value" in str(caught[0].message)
    assert caught[0].filename == __file__
    with run.config.validation("strict"), pytest.raises(run.ConfigError):
        run.Partial(takes(hint), value=value)


@pytest.mark.parametrize(("hint", "value"), MISTAKES, ids=str)
def test_what_cannot_be_meant_is_refused(hint, value, caught):
    with pytest.raises(run.ConfigError, match=r"function\.value.*: expected .*, got "):
        run.Partial(takes(hint), value=value)
    with run.config.validation("off"):
        run.Partial(takes(hint), value=value).build()
    run.Partial(takes(hint), value=value, validate=False).build()
    assert not caught


def test_the_message_names_the_element_that_is_wrong_rather_than_one_that_may_be_meant():
    assert find_mistake(["red", None, "purple"], list[Color]) == ("[2]", "Color", "purple")


def test_each_path_is_warned_about_once(caught):
    for _ in range(3):
        task = run.Partial(train, color="red", shape=Circle())
        task.color = "blue"
        run.load_config(task.to_yaml()).build()
    assert sorted(str(warning.message).split(":")[0] for warning in caught) == ["train.color", "train.shape"]


def test_a_warning_that_is_an_error_is_one_each_time():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(run.ConfigTypeWarning):
                run.Partial(train, color="red")


# ---------------------------------------------------------------- defaults
def test_what_is_equal_to_the_default_is_accepted_in_every_mode(caught):
    with run.config.validation("strict"):
        task = run.Partial(train, plan=Plan(loose=Loose(splits=8)))
        assert task.plan.loose.splits == 8
        again = run.Config(Loose, fp8=(False,), betas=(0.9, 0.95), shape=None, names=["a"], form=Circle())
        assert run.load_config(again.to_yaml()) == again
        assert run.load_config(task.to_yaml()) == task
        task.build()
        for name, wrong in (("fp8", (True,)), ("names", ["b"]), ("form", Circle(2.0))):
            with pytest.raises(run.ConfigError):
                setattr(again, name, wrong)
    assert not caught


def test_a_default_that_cannot_be_compared_is_no_error():
    class Vague:
        def __eq__(self, other):
            raise RuntimeError("neither yes nor no")

        __hash__ = None

    def vague(size: int = Vague()): ...

    vague.__annotations__["size"] = int
    with pytest.warns(run.ConfigTypeWarning):
        run.Partial(vague, size=Vague())


def test_what_an_object_has_made_of_its_own_fields_is_accepted(caught):
    config = run.Config(dict, settled=Settled("3,4"))
    assert config.settled.sizes == [3, 4]
    assert run.load_config(config.to_yaml()).build() == {"settled": Settled("3,4")}
    assert not caught


# ---------------------------------------------------------------- accepted once, accepted everywhere
def _wrong() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warned = run.Partial(train, color="red", shape=run.Config(Circle), sizes=(1, 2))
    with run.config.validation("off"):
        off = run.Partial(train, steps="many", sizes=["a"])
    return [warned, off, run.Partial(train, steps="many", sizes=["a"], validate=False)]


COPIES = {
    "clone": lambda task: task.clone(),
    "fiddle's copy": fdl.copy_with,
    "cast": lambda task: fdl.cast(run.Partial, task),
    "pickle": lambda task: pickle.loads(pickle.dumps(task)),
    "YAML": lambda task: run.load_config(task.to_yaml()),
    "TOML": lambda task: run.load_config(task.to_toml()),
    "JSON": lambda task: run.load_config(task.to_json()),
    "YAML serializer": lambda task: YamlSerializer().deserialize(YamlSerializer().serialize(task)),
    "zlib serializer": lambda task: ZlibJSONSerializer().deserialize(ZlibJSONSerializer().serialize(task)),
    "Python": lambda task: _executed(task.to_python()),
    "file": lambda task: run.load_config(run.load_config(task.to_yaml()).to_yaml()),
}


def _executed(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["config"]


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", range(3), ids=["warned", "off", "validate=False"])
def test_what_was_accepted_is_accepted_in_every_copy(kind, copy):
    task = _wrong()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if copy is COPIES["Python"] else "error")
        copied = copy(task)
        assert copied == task
        assert copy(copied) == task
        assert copied.build().keywords == task.build().keywords
        if kind < 2 and copy is not COPIES["Python"]:
            with pytest.raises(run.ConfigError):
                copied.steps = "few"  # what is set anew is checked anew


def test_a_file_says_which_values_do_not_fit():
    document = json.loads(run.Partial(train, steps="many", color=Color.BLUE, validate=False).to_json())
    assert document["steps"] == {"_target_": "nemo_run.config.document.as_given", "_args_": ["many"]}
    assert "as_given" not in str(document["color"])
    document["steps"] = "many"
    with pytest.raises(run.ConfigError, match=r"steps: expected int, got 'many'"):
        run.load_config(json.dumps(document))


def test_a_file_that_somebody_wrote_is_checked_hard():
    text = f"_target_: {__name__}.train\n_partial_: true\n"
    for wrong in ("color: red", "steps: 1.5", "shape: null", "sizes: 3"):
        for mode in ("default", "off"):
            with run.config.validation(mode), pytest.raises(run.ConfigError, match="expected"):
                run.load_config(text + wrong)


def test_a_marked_node_may_be_shared():
    shared = run.Config(Circle, radius=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = run.Partial(train, shape=shared, color=shared)
    loaded = run.load_config(task.to_yaml())
    assert loaded == task
    assert loaded.shape is loaded.color


# ---------------------------------------------------------------- the mode
def test_the_mode_holds_from_the_call_on_or_in_a_block():
    try:
        run.config.validation("off")
        run.Partial(train, steps="many")
        with run.config.validation("strict"), pytest.raises(run.ConfigError):
            run.Partial(train, color="red")
        run.Partial(train, steps="many")
    finally:
        run.config.validation("default")
    with pytest.raises(run.ConfigError):
        run.Partial(train, steps="many")
    with pytest.raises(run.ConfigError, match="strict, default, off"):
        run.config.validation("lax")


@pytest.mark.parametrize(
    ("mode", "said"), [("strict", "refused"), ("default", "warned"), ("off", "accepted"), ("", "warned")]
)
def test_a_variable_sets_the_mode_of_a_process(mode, said):
    code = """
import warnings, nemo_run as run
def f(steps: int): ...
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    try:
        run.Partial(f, steps=None)
        print("warned" if found else "accepted")
    except run.ConfigError:
        print("refused")
"""
    env = {**os.environ, "NEMORUN_VALIDATION": mode}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_a_variable_that_says_something_else_is_an_error():
    code = "import nemo_run as run\ndef f(steps: int): ...\nrun.Partial(f, steps=1)"
    env = {**os.environ, "NEMORUN_VALIDATION": "lax"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "$NEMORUN_VALIDATION says 'lax'; it is one of strict, default, off" in done.stderr
