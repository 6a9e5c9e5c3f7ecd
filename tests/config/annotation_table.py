"""Annotations with values that fit and values that do not, and what is to be said about the latter.

The comparison of type checkers in docs/decisions/type-checker.md was made over this table.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime
import decimal
import enum
import io
import os
import re
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, NamedTuple, NewType, Optional, TypeVar, Union

from typing_extensions import (
    Annotated,
    Literal,
    LiteralString,
    Never,
    NotRequired,
    ParamSpec,
    Protocol,
    Required,
    TypeAliasType,
    TypedDict,
    runtime_checkable,
)

P = ParamSpec("P")
T = TypeVar("T")
Number = TypeVar("Number", int, str)
Shape = TypeVar("Shape", bound="Point")
UserId = NewType("UserId", int)
Names = TypeAliasType("Names", list[str])


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int = 0
    y: int = 0


class Corner(Point):
    pass


class Box(Generic[T]):
    def __init__(self, content: Any = None) -> None:
        self.content = content


class Pair(NamedTuple):
    left: int
    right: str


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Sparse(TypedDict, total=False):
    name: Required[str]
    tags: list[str]


class Sized2(Protocol):
    size: int

    def area(self) -> float: ...


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


class OnStep(Protocol):
    def __call__(self, step: int) -> None: ...


class Square:
    size = 2

    def area(self) -> float:
        return 4.0

    def close(self) -> None:
        pass


class Row(NamedTuple):
    """An annotation, values that fit, and (value, the end of the message) for some that do not."""

    hint: Any
    fits: list[Any]
    refused: Sequence[tuple[Any, str]] = ()


def step_function(step: int) -> None:
    pass


TABLE = [
    # numbers and text
    Row(int, [0, -3, 10**30, Level.LOW], [("1", "expected int, got '1' (str)"), (True, "expected int, got True (bool)"), (1.0, "expected int, got 1.0 (float)"), (None, "expected int, got None (NoneType)")]),
    Row(float, [0.5, 1, float("nan")], [(True, "expected float, got True (bool)"), ("0.5", "expected float, got '0.5' (str)"), (1j, "expected float, got 1j (complex)")]),
    Row(complex, [1j, 0.5, 1], [(False, "expected complex, got False (bool)")]),
    Row(bool, [True, False], [(1, "expected bool, got 1 (int)"), ("true", "expected bool, got 'true' (str)")]),
    Row(str, ["", "abc"], [(1, "expected str, got 1 (int)"), (b"abc", "expected str, got b'abc' (bytes)"), (Path("a"), "(PosixPath)")]),
    Row(bytes, [b""], [("", "expected bytes, got '' (str)"), (bytearray(), "expected bytes, got bytearray(b'') (bytearray)")]),
    Row(None, [None], [(0, "expected None, got 0 (int)")]),
    Row(LiteralString, ["a"], [(1, "expected str, got 1 (int)")]),
    # what accepts everything
    Row(Any, [1, "a", None, [object()]]),
    Row(object, [1, "a", None, Point]),
    Row(T, [1, "a", None]),
    Row("NoSuchName", [1, "a", None]),
    Row("list[NoSuchName]", [1, "a", None]),
    Row(P.args, [1, "a"]),
    # containers
    Row(list, [[], [1, "a"]], [((), "expected list, got () (tuple)"), ("abc", "expected list, got 'abc' (str)")]),
    Row(list[int], [[], [1, 2]], [([1, "2"], "[1]: expected int, got '2' (str)"), ((1, 2), "expected list[int], got (1, 2) (tuple)"), ([True], "[0]: expected int, got True (bool)"), ([0] * 2000 + ["x"], "[2000]: expected int, got 'x' (str)")]),
    Row(list[str], [["a"]], [("abc", "expected list[str], got 'abc' (str)"), ({"a"}, "expected list[str], got {'a'} (set)")]),
    Row(typing.List[float], [[1, 0.5]], [([False], "[0]: expected float, got False (bool)")]),
    Row(list[list[int]], [[[1], []]], [([[1], ["a"]], "[1][0]: expected int, got 'a' (str)"), ([1], "[0]: expected list[int], got 1 (int)")]),
    Row(set[int], [set(), {1}], [({"a"}, "element 'a': expected int, got 'a' (str)"), ([1], "expected set[int], got [1] (list)")]),
    Row(frozenset[str], [frozenset("ab")], [({"a"}, "expected frozenset[str], got {'a'} (set)")]),
    Row(collections.deque[int], [collections.deque([1])], [(collections.deque(["a"]), "[0]: expected int, got 'a' (str)"), ([1], "expected deque[int], got [1] (list)")]),
    Row(tuple, [(), (1, "a")], [([1], "expected tuple, got [1] (list)")]),
    Row(tuple[int, str], [(1, "a")], [((1,), "expected tuple[int, str], got (1,) (tuple)"), ((1, 2), "[1]: expected str, got 2 (int)"), ([1, "a"], "expected tuple[int, str], got [1, 'a'] (list)")]),
    Row(tuple[int, ...], [(), (1, 2, 3)], [((1, "a"), "[1]: expected int, got 'a' (str)")]),
    Row(tuple[()], [()], [((1,), "expected tuple[()], got (1,) (tuple)")]),
    Row(dict, [{}, {1: 2}], [([], "expected dict, got [] (list)")]),
    Row(dict[str, int], [{}, {"a": 1}], [({"a": "b"}, "['a']: expected int, got 'b' (str)"), ({1: 1}, "key 1: expected str, got 1 (int)"), ([("a", 1)], "expected dict[str, int], got [('a', 1)] (list)")]),
    Row(typing.Dict[str, typing.List[int]], [{"a": [1]}], [({"a": [1, None]}, "['a'][1]: expected int, got None (NoneType)")]),
    Row(collections.defaultdict[str, list[int]], [collections.defaultdict(list, a=[1])], [({"a": [1]}, "expected defaultdict[str, list[int]], got {'a': [1]} (dict)")]),
    Row(collections.OrderedDict[str, int], [collections.OrderedDict(a=1)], [(collections.OrderedDict(a="b"), "['a']: expected int, got 'b' (str)")]),
    Row(collections.Counter[str], [collections.Counter("aab")], [(collections.Counter([1]), "key 1: expected str, got 1 (int)")]),
    Row(Mapping[str, float], [{"a": 1}, collections.OrderedDict(a=0.5)], [({"a": "x"}, "['a']: expected float, got 'x' (str)"), ([1], "expected Mapping[str, float], got [1] (list)")]),
    Row(Sequence[int], [[1], (1,), range(3)], [({1}, "expected Sequence[int], got {1} (set)"), ([1, "a"], "[1]: expected int, got 'a' (str)"), ("ab", "expected Sequence[int], got 'ab' (str)")]),
    Row(Sequence[str], [["a"], ("a",)], [([1], "[0]: expected str, got 1 (int)")]),
    Row(Iterable[int], [[1], {1}, (i for i in "ab"), {1: "a"}], [(5, "expected Iterable[int], got 5 (int)"), (["a"], "[0]: expected int, got 'a' (str)")]),
    Row(Iterator[int], [iter([1])], [([1], "expected Iterator[int], got [1] (list)")]),
    Row(Hashable, [1, "a", ()], [([], "expected Hashable, got [] (list)")]),
    # choices
    Row(Optional[int], [1, None], [("a", "expected int | None, got 'a' (str)"), (True, "expected int | None, got True (bool)")]),
    Row(int | None, [1, None], [("a", "expected int | None, got 'a' (str)")]),
    Row(Union[int, str], [1, "a"], [(1.5, "expected int | str, got 1.5 (float)"), (None, "expected int | str, got None (NoneType)")]),
    Row(Optional[list[int]], [None, [1]], [(["a"], "[0]: expected int, got 'a' (str)"), (1, "expected list[int] | None, got 1 (int)")]),
    Row(Union[list[int], dict[str, int]], [[1], {"a": 1}], [({"a": "b"}, "['a']: expected int, got 'b' (str)"), ("a", "expected list[int] | dict[str, int], got 'a' (str)")]),
    Row(list[int | str], [[1, "a"]], [([1, None], "[1]: expected int | str, got None (NoneType)")]),
    Row(Literal["adam", "sgd"], ["adam"], [("adma", "expected Literal['adam', 'sgd'], got 'adma' (str)"), (None, "expected Literal['adam', 'sgd'], got None (NoneType)")]),
    Row(Literal[1, None], [1, None], [(True, "expected Literal[1, None], got True (bool)"), (1.0, "expected Literal[1, None], got 1.0 (float)")]),
    Row(Optional[Literal["a"]], ["a", None], [("b", "expected Literal['a'] | None, got 'b' (str)")]),
    Row(Color, [Color.RED], [("RED", "expected Color, got 'RED' (str)"), (1, "expected Color, got 1 (int)")]),
    Row(Literal[Color.RED], [Color.RED], [(Color.BLUE, "(Color)")]),
    Row(Never, [], [(1, "expected no value, got 1 (int)")]),
    # classes
    Row(Point, [Point(), Corner()], [(Box(), "expected Point, got <"), ({"x": 1}, "expected Point, got {'x': 1} (dict)"), (Point, "expected Point, got <class")]),
    Row(Optional[Corner], [None, Corner()], [(Point(), "expected Corner | None, got Config[Point]")]),
    Row(list[Point], [[Point(), Corner()]], [([Point(), 1], "[1]: expected Point, got 1 (int)")]),
    Row(dict[str, Point], [{"a": Point()}], [({"a": 1}, "['a']: expected Point, got 1 (int)")]),
    Row(Box[int], [Box(1), Box("not looked into")], [(1, "expected Box[int], got 1 (int)")]),
    Row(Pair, [Pair(1, "a")], [((1, "a"), "expected Pair, got (1, 'a') (tuple)")]),
    Row(type, [int, Point], [(1, "expected type, got 1 (int)")]),
    Row(type[Point], [Point, Corner], [(int, "expected type[Point], got <class 'int'> (type)"), (Point(), "expected type[Point], got Config[Point]")]),
    Row(typing.Type[Any], [int], [(1, "expected type[Any], got 1 (int)")]),
    Row(type[Union[int, str]], [int, bool, str], [(float, "expected type[int | str], got <class 'float'> (type)")]),
    Row(Path, [Path("a")], [("a", "expected Path, got 'a' (str)"), (PurePosixPath("a"), "(PurePosixPath)")]),
    Row(Union[str, os.PathLike[str]], ["a", Path("a")], [(1, "expected str | PathLike[str], got 1 (int)")]),
    Row(re.Pattern[str], [re.compile("a")], [("a", "expected Pattern[str], got 'a' (str)")]),
    Row(datetime.date, [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1)], [("2024-01-01", "expected date, got '2024-01-01' (str)")]),
    Row(decimal.Decimal, [decimal.Decimal(1)], [(1, "expected Decimal, got 1 (int)")]),
    # callables
    Row(Callable, [len, Point, lambda: 1], [(1, "expected Callable, got 1 (int)")]),
    Row(Callable[[int], None], [step_function, print], [("step", "expected Callable[[int], None], got 'step' (str)")]),
    Row(typing.Callable[..., Any], [len], [(None, "expected Callable[..., Any], got None (NoneType)")]),
    Row(Callable[P, T], [len], [([], "expected Callable[P, T], got [] (list)")]),
    Row(OnStep, [step_function, print], [(1, "expected OnStep, got 1 (int)")]),
    # structures
    Row(Movie, [{"title": "a"}, {"title": "a", "year": 1}], [({}, "expected Movie with the key 'title', got {} (dict)"), ({"title": 1}, "['title']: expected str, got 1 (int)"), ({"title": "a", "yaer": 1}, "expected Movie, which has no key 'yaer'"), ([], "expected Movie, got [] (list)")]),
    Row(Sparse, [{"name": "a"}, {"name": "a", "tags": ["b"]}], [({"tags": []}, "expected Sparse with the key 'name'"), ({"name": "a", "tags": [1]}, "['tags'][0]: expected str, got 1 (int)")]),
    Row(list[Movie], [[{"title": "a"}]], [([{"title": 1}], "[0]['title']: expected str, got 1 (int)")]),
    Row(Sized2, [Square()], [(Point(), "expected Sized2, got Config[Point]"), (1, "expected Sized2, got 1 (int)")]),
    Row(Closable, [Square(), io.StringIO()], [(1, "expected Closable, got 1 (int)")]),
    Row(typing.SupportsFloat, [1, 0.5], [("a", "expected SupportsFloat, got 'a' (str)")]),
    # names for types
    Row(UserId, [1], [("a", "expected int, got 'a' (str)")]),
    Row(Annotated[int, "positive"], [1], [("a", "expected int, got 'a' (str)")]),
    Row(Annotated[list[float], {"not": "hashable"}], [[1.0]], [(["a"], "[0]: expected float, got 'a' (str)")]),
    Row(Optional[Annotated[int, "n"]], [1, None], [("a", "expected int | None, got 'a' (str)")]),
    Row(Names, [["a"]], [([1], "[0]: expected str, got 1 (int)")]),
    Row(Number, [1, "a"], [(1.5, "expected int | str, got 1.5 (float)")]),
    Row(Shape, [Point(), Corner()], [(1, "expected Point, got 1 (int)")]),
    Row(list[Shape], [[Point()]], [([1], "[0]: expected Point, got 1 (int)")]),
    Row("int", [1], [("a", "expected int, got 'a' (str)")]),
    Row("list[Point]", [[Point()]], [([1], "[0]: expected Point, got 1 (int)")]),
    Row("Optional[Point]", [None, Point()], [(1, "expected Point | None, got 1 (int)")]),
    Row(typing.List["Point"], [[Point()]], [([1], "[0]: expected Point, got 1 (int)")]),
]  # fmt: skip
