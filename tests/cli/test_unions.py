"""Arguments that take one of several types, or whose hints are inexact: what is typed is still checked hard."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import NemoRunError
from tests.cli import samples


@dataclass
class Square:
    side: int


@dataclass
class Circle:
    radius: float
    label: str = ""


@dataclass
class Ring:
    radius: float
    width: float


@dataclass
class Data:
    batch: int = 1
    rate: float | None = None
    paths: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


def draw(
    shape: Square | Circle | None = None,
    shapes: list[Square | Circle] = [],  # noqa: B006
    rings: Circle | Ring | None = None,
    named: dict[str, Square | Circle] = {},  # noqa: B006
    maybe: Data | None = None,
    either: Data | int = 1,
    loose: bool = (False,),  # type: ignore[assignment]
    steps: int = None,  # type: ignore[assignment]  # noqa: RUF013
    pair: tuple[float, float] | None = None,
    by_name: dict[str, float] | None = None,
    text: float | str = 0.0,
    both: int | float = 0,
    rate: float = 0.5,
): ...


def built(*typed: str) -> dict[str, Any]:
    return run.cli.parse_partial(draw, *typed).build().keywords


def from_file(text: str) -> dict[str, Any]:
    Path("task.yaml").write_text(text)
    return run.cli.RunContext(name="x", yaml="task.yaml").parse_fn(draw, []).build().keywords


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("shape: {side: 1}", Square(1)),
        ("shape: {radius: 2}", Circle(2.0)),
        ("shape: {radius: 2, label: a}", Circle(2.0, "a")),
        ("shapes: [{side: 1}, {radius: 2}]", [Square(1), Circle(2.0)]),
        ("named: {a: {radius: 1}, b: {side: 2}}", {"a": Circle(1.0), "b": Square(2)}),
        ("rings: {radius: 1}", Circle(1.0)),
        ("rings: {radius: 1, width: 2}", Ring(1.0, 2.0)),
        ("either: {batch: 3}", Data(3)),
        ("pair: [1, 2]", (1.0, 2.0)),
        ("by_name: {a: 1}", {"a": 1.0}),
        ("text: 1", 1.0),
        ("both: 1", 1),
        ("rate: 1", 1.0),
        ("maybe: {rate: 1}", Data(rate=1.0)),
    ],
)
@pytest.mark.parametrize("way", ["typed", "file"])
def test_the_type_that_fits_is_made(text, wanted, way):
    name, _, value = text.partition(": ")
    found = (built(f"{name}={value}") if way == "typed" else from_file(text))[name]
    assert repr(found) == repr(wanted)


def test_a_file_changes_the_class_that_is_there_if_it_fits_and_makes_another_if_not():
    for text, wanted in (("{label: b}", Circle(1.0, "b")), ("{side: 2}", Square(2))):
        task = run.Partial(draw, shape=run.Config(Circle, radius=1.0, label="a"))
        Path("task.yaml").write_text(f"shape: {text}")
        found = run.cli.RunContext(name="x", yaml="task.yaml", factory=lambda task=task: task).parse_fn(draw, [])
        assert found.shape.build() == wanted


def test_a_target_says_which_class_of_a_union():
    found = from_file(f"shape: {{_target_: {__name__}.Circle, radius: 2}}")["shape"]
    assert found == Circle(2.0)
    with pytest.raises(NemoRunError, match=r"shape\S*: expected Square \| Circle \| None"):
        from_file(f"shape: {{_target_: {__name__}.Data, batch: 2}}")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("maybe=Data(batch=big)", r"^maybe=Data\.batch: expected int, got 'big'"),
        ("maybe={batch: big}", r"^maybe\.batch: expected int, got 'big'"),
        ("maybe={paths: [1, {a: 2}], batch: big}", r"^maybe\.batch: expected int, got 'big'"),
        ("maybe={rate: fast}", r"^maybe\.rate: expected float \| None, got 'fast'"),
        ("maybe={bach: 1}", r"^maybe: Data has no argument 'bach'; did you mean 'batch'"),
        ("either={batch: big}", r"^either\.batch: expected int, got 'big'"),
        ("shape={radius: big}", r"^shape\.radius: expected float, got 'big'"),
        ("shapes=[{side: 1}, {radius: big}]", r"^shapes\[1\]\.radius: expected float, got 'big'"),
        ("shape={size: 1}", r"^shape: expected .*Square has no argument 'size'.*Circle has no argument 'size'"),
        ("rings={radius: big}", r"^rings: expected .*rings\.radius: expected float, got 'big'"),
        ("pair=[1, x]", r"^pair\[1\]: expected float, got 'x'"),
        ("by_name={a: x}", r"^by_name\['a'\]: expected float, got 'x'"),
    ],
)
def test_the_message_says_path_type_and_value(typed, said):
    with pytest.raises(NemoRunError, match=said):
        built(typed)


def test_what_is_equal_to_the_default_can_be_typed_and_written():
    assert built("steps=none")["steps"] is None
    assert built("loose=(False,)")["loose"] == (False,)
    assert from_file("steps: null")["steps"] is None
    for typed in ("steps=(False,)", "loose=none", "loose=(True,)", "rate=none"):
        with pytest.raises(NemoRunError, match="expected"):
            built(typed)


def test_what_was_accepted_and_exported_is_read_from_a_file():
    task = run.Partial(draw, steps="many", both=None, validate=False)
    assert from_file(task.to_yaml()) == {"steps": "many", "both": None}
    with pytest.raises(NemoRunError, match="expected int"):
        from_file("steps: many")


@pytest.mark.parametrize(
    "inner",
    [
        "{_target_: tests.cli.samples.unregistered}",
        "[{_target_: tests.cli.samples.unregistered}]",
        "{_target_: collections.Counter}",
        "{_target_: hydra.utils.get_method, path: os.system}",
    ],
)
def test_a_file_cannot_name_more_by_saying_that_it_was_accepted(inner):
    assert collections.Counter  # it is imported, and still not made
    with pytest.raises(NemoRunError, match="the code does not name it either"):
        from_file(f"steps: {{_target_: nemo_run.config.document.as_given, _args_: [{inner}]}}")
    assert samples.CALLED == []
