"""Classes and functions that the tests of storing configure, and configurations of them by hypothesis."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import enum
import fractions
import functools
import json
import operator
import pathlib
import re
import uuid
import zoneinfo
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Optional

import fiddle as fdl
from hypothesis import settings, strategies as st

import nemo_run as run

settings.register_profile("stored", max_examples=60, deadline=None, derandomize=True, database=None)
QUICK = settings.get_profile("stored")


class Colour(enum.Enum):
    RED = "red"
    NO = "no"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Node:
    """Not a dataclass on purpose: equal by what it was given."""

    def __init__(self, a: Any = None, b: Any = None, *, c: Any = None, **more: Any) -> None:
        self.given = (a, b, c, more)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.given == other.given

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, a: Any = None) -> Node:
        return cls(a)

    def __repr__(self) -> str:
        return f"Node{self.given}"

    class Inner:
        def __init__(self, a: Any = None) -> None:
            self.a = a

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Node.Inner) and self.a == other.a

        __hash__ = None  # type: ignore[assignment]


@dataclass
class Model:
    size: int = 1
    layers: list[int] = field(default_factory=list)
    name: str = "m"


@dataclass
class Handmade:
    """A dataclass that its fields do not make: it stays an object in a configuration."""

    total: int
    parts: Any = None

    def __init__(self, *parts: int) -> None:
        self.total, self.parts = sum(parts), list(parts)


def function(a: Any = None, /, b: Any = None, *rest: Any, c: Any = None, **more: Any) -> Any:
    return ("function", a, b, rest, c, more)


def plain(a: Any = None, b: Any = None) -> Any:
    return ("plain", a, b)


def configured(model: Annotated[Optional[Model], run.Config[Model]] = None, b: Any = None) -> Any:
    return ("configured", model, b)


class Important(fdl.Tag):
    """Something to be set from outside."""


# One of each supported type at least; all of them differ from their neighbours.
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**70, 0.1, -0.0, 1e300, float("inf"), float("-inf"),
    # text that one reader or another takes for something else
    "", "text", "no", "on", "~", "null", "1e-3", "1.5e3", "0o17", "0x1f", "1_000", "017", "2024-01-02", "12:30:45", "=",
    "<<", "!x", "- a", "a: b", "# c", " padded ", "two\nlines\n", "tab\t", "'\"\\", "{", "[", "%", "@", "`", ".nan", ".inf",
    "\x00\x1b\x7f\x85\u2028\ufeff", "é😀", "not unicode \udcff",
    "???", "${a}", "${a.b[0]}", "a ${b} c", "\\${x}", "\\\\${x}", "$ {x}",
    b"", b"\x00\xff", bytearray(b"ab"), 1 + 2j, complex(0.0, -0.0),
    (), (1,), (1, ("a", None)), [], [1, [2, []]],
    set(), {1, 2}, {"b", "a", "c"}, frozenset(), frozenset({(1, "a")}),
    {}, {"a": 1, "b.c": {"d e": None}}, {1: "a", None: 2, (1, 2): [3]}, {"\udcff": 1},
    {"_target_": "os.system", "_args_": ["false"]}, {"_partial_": True},
    collections.OrderedDict([("b", 1), ("a", 2)]), collections.deque([1, 2], maxlen=3), collections.deque(),
    pathlib.Path("/data/x y"), pathlib.Path(), pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c:/x"),
    Colour.RED, Colour.NO, Size.LARGE, Access.READ, Access.READ | Access.RUN, Access(0),
    datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.datetime(2024, 7, 2, 12, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.time(1, 2, 3), datetime.timedelta(-1, 2, 3),
    datetime.timezone(datetime.timedelta(hours=2), "X"), zoneinfo.ZoneInfo("UTC"),
    decimal.Decimal("1.10"), fractions.Fraction(1, 3), uuid.UUID(int=7),
    re.compile("a+", re.IGNORECASE), re.compile(b"x"), range(1, 9, 2), slice(1, None, 2),
    int, dict, pathlib.Path, Node, Node.Inner, Colour,
    json.dumps, len, dict.fromkeys, Node.of, operator.add, function,
    functools.partial(json.dumps, indent=2), functools.partial(pow, 2, mod=3), Point(1, "two"), Handmade(1, 2),
]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, of the same types, and share the same nodes, at every depth."""
    return _same(a, b, {}, {})


def equal(a: Any, b: Any) -> bool:
    """Whether two values are equal, of the same types, at every depth."""
    return _same(a, b, None, None)


def _same(a: Any, b: Any, forth: dict[int, Any] | None, back: dict[int, Any] | None) -> bool:
    if type(a) is not type(b):
        return False
    if forth is not None and back is not None and isinstance(a, (fdl.Buildable, list, dict)):
        first = forth.setdefault(id(a), b) is b and back.setdefault(id(b), a) is a
        if not first:
            return False
    if isinstance(a, functools.partial):
        return _same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), forth, back)
    if isinstance(a, fdl.Buildable):
        pairs = [(a.__arguments__[name], b.__arguments__.get(name)) for name in a.__arguments__]
        alike = a.__fn_or_cls__ == b.__fn_or_cls__ and a.__argument_tags__ == b.__argument_tags__
        return alike and len(pairs) == len(b.__arguments__) and all(_same(x, y, forth, back) for x, y in pairs)
    if isinstance(a, dict):
        return len(a) == len(b) and all(key in b and _same(a[key], b[key], forth, back) for key in a)
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(_same(x, y, forth, back) for x, y in zip(a, b, strict=True))
    if isinstance(a, (Node, Node.Inner)):
        return _same(vars(a), vars(b), forth, back)
    if isinstance(a, float):
        return repr(a) == repr(b)
    return bool(a == b)


# ---------------------------------------------------------------- hypothesis
SIMPLE_NAMES = st.sampled_from(["a", "b", "c", "more_1"])
NAMES = SIMPLE_NAMES | st.sampled_from(["with space", "dotted.name", "lambda", "_target"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from([value for value in VALUES if not isinstance(value, (slice, Handmade, functools.partial))]),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=6),
)


def all_configs(
    *, kinds: Any = (run.Config, run.Partial), names: st.SearchStrategy[str] = NAMES, sharing: bool = True
) -> st.SearchStrategy[Any]:
    """Configurations of all sorts."""

    def call(kind: Any, positional: list[Any], values: dict[str, Any]) -> Any:
        return kind(function, *positional, **{name: value for name, value in values.items() if name not in "ab"})

    def configs(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        kind, arguments = st.sampled_from(kinds), st.dictionaries(names, children, max_size=4)
        nodes = st.builds(lambda kind, values: kind(Node, **values), kind, arguments)
        return nodes | st.builds(call, kind, st.lists(children, max_size=4), arguments)

    def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        keys = names if names is SIMPLE_NAMES else st.text(max_size=5) | st.integers() | names
        found = [
            st.lists(children, max_size=3),
            st.dictionaries(keys, children, max_size=3),
            st.lists(children, max_size=3).map(tuple),
            configs(children),
        ]
        if sharing:
            found.append(configs(children).map(lambda node: run.Config(Node, a=node, b=[node, {"again": node}])))
        return st.one_of(found)

    leaves = LEAVES if sharing else LEAVES.map(copy.deepcopy)
    return configs(st.recursive(leaves, containers, max_leaves=12))
