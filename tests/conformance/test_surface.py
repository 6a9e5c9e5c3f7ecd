from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import IntEnum

import pytest

from tests.conformance import signatures, surface


def test_nothing_is_missing_that_was_there() -> None:
    known = surface.known_missing()
    new = [f"{entry}: {why}" for entry, why in surface.problems().items() if entry not in known]
    assert new == []


def test_the_list_of_what_is_missing_only_shrinks() -> None:
    listed = surface.known_missing()
    done = sorted(set(listed) - set(surface.problems()))
    assert done == [], "these are there now: run `python -m tests.conformance --update`"
    assert list(listed) == sorted(listed)


def test_what_is_missing_is_little_and_has_a_reason() -> None:
    assert len(surface.known_missing()) <= 9
    assert [entry for entry, reason in surface.known_missing().items() if len(reason.split()) < 4] == []


# The comparison itself must be able to fail: each row is a surface line, a real thing, and what is wrong with it.


def _good(title: str, executor: object = None, *, wait: bool = False, extra: int = 1) -> None: ...
def _missing(title: str, *, wait: bool = False) -> None: ...
def _other_default(title: str, executor: object = None, *, wait: bool = True) -> None: ...
def _other_order(executor: object = None, title: str = "", *, wait: bool = False) -> None: ...
def _required_extra(title: str, more: int, executor: object = None, *, wait: bool = False) -> None: ...
def _keyword_only(*, title: str, executor: object = None, wait: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (_good, ""),
        (_missing, "parameter executor is missing"),
        (_other_default, "parameter wait defaults to True, not False"),
        (_other_order, "positional parameters are ['executor', 'title']"),
        (_required_extra, "parameter more is additional and required"),
        (_keyword_only, "positional parameters are []"),
    ],
)
def test_signatures(function: object, wrong: str) -> None:
    expected = "(title: Literal['a', 'b'], executor: Optional[dict[str, int]] = None, *, wait: bool = False) -> None"
    found = "; ".join(signatures.mismatches(expected, inspect.signature(function)))  # type: ignore[arg-type]
    assert found.startswith(wrong) if wrong else found == ""


class _State(IntEnum):
    UNSUBMITTED = 0


class Packager: ...


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("'00:10:00'", "00:10:00", "0"),
        ("['nvtx', 'cuda']", ["nvtx", "cuda"], []),
        ("<required>", inspect.Parameter.empty, None),
        ("UNSUBMITTED (0)", _State.UNSUBMITTED, 0),
        ("Packager()", Packager(), None),
        ("<class 'somewhere.Packager'>", Packager, Packager()),
        ("None", None, ""),
    ],
)
def test_defaults(text: str, good: object, bad: object) -> None:
    assert signatures.same_value(text, good)
    assert not signatures.same_value(text, bad)


@dataclass
class _Base: ...


@dataclass
class _Thing(_Base):
    path: str
    retries: int = 1
    env: dict[str, str] = field(default_factory=dict)

    def start(self, command: str) -> None: ...

    @classmethod
    def load(cls, id: str) -> None: ...


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, {}),
        ({"bases": ["_Base", "Executor"]}, {"X.__bases__": "does not derive from Executor"}),
        ({"fields": {"path": {"default": "<required>"}, "gone": {"default": "1"}}}, {"X.gone": "is not a field"}),
        ({"fields": {"retries": {"default": "0"}}}, {"X.retries": "defaults to 1, not 0", "X.__init__": "fields"}),
        ({"methods": {"start": "(cmd: str)"}}, {"X.start": "parameter cmd is missing"}),
        ({"methods": {"start": "classmethod (command: str)"}}, {"X.start": "is not a classmethod"}),
        ({"methods": {"stop": "()"}}, {"X.stop": "is missing"}),
        ({"methods": {"handle": "property"}}, {"X.handle": "is missing"}),
    ],
)
def test_classes(change: dict[str, object], wrong: dict[str, str]) -> None:
    expected: dict[str, object] = {
        "bases": ["_Base"],
        "fields": {"path": {"default": "<required>"}, "retries": {"default": "1"}, "env": {"default": "{}"}},
        "methods": {"start": "(command: str)", "load": "classmethod (id: str)", "retries": "property"},
    }
    found = dict(surface._problems_of_class("X", _Thing, expected | change))
    assert found.keys() == wrong.keys()
    assert all(found[entry].startswith(why) for entry, why in wrong.items())
