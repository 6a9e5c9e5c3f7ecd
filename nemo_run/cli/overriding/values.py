"""From items to values of the types that are wanted. Nothing is evaluated: each type reads text in its own way.

A type hint is compiled once into a function that converts any item. Where it accepts objects of a class, that is left
to :mod:`nemo_run.cli.overriding.making`.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import typing_extensions

from nemo_run.cli.overriding.files import is_file, load
from nemo_run.cli.overriding.items import (
    Call,
    Given,
    Item,
    Loaded,
    Made,
    Pairs,
    Quoted,
    Reference,
    Several,
    Shared,
    Target,
    Text,
    Word,
)
from nemo_run.cli.overriding.parse import parse_value
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.typecheck import LITERALS, UNIONS, bare, compile_check, hint_name


class Unresolved:
    """Stands for a type hint that only a type checker can resolve."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a value is wanted.

    Attributes:
        path: The place, for messages.
        hint: The type that is wanted.
        owner: The class or function whose argument it is, or is a part of.
        name: The name of that argument.
        names: What names without a dot may stand for where any function will do.
        trusted: Functions that a file may name because the code itself does.
    """

    path: str
    hint: Any
    owner: Any = None
    name: str = ""
    names: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    trusted: frozenset[Any] = frozenset()

    def of(self, hint: Any) -> Place:
        """The same place, where another type is wanted."""
        return dataclasses.replace(self, hint=hint)

    def inside(self, step: str, hint: Any) -> Place:
        """A place inside the value."""
        return dataclasses.replace(self, path=self.path + step, hint=hint)

    def unfit(self, item: Item, why: str = "") -> UnfitError:
        """The error that says that an item does not fit here."""
        return UnfitError(self, item, why)


class UnfitError(Exception):
    """An item does not fit where it stands."""

    def __init__(self, place: Place, item: Item, why: str = "") -> None:
        problem = item.problem if isinstance(item, Word) else ""
        self.why = why or problem
        reason = f" ({self.why})" if self.why else ""
        source = item.source if len(item.source) <= 200 else f"{item.source[:200]}…"
        super().__init__(f"{place.path}: expected {hint_name(place.hint)}, got {source!r}{reason}")


Converter = Callable[[Item, Place], Any]


def convert(item: Item, place: Place) -> Any:
    """The value that an item stands for in a place.

    Example:
        >>> convert(parse_value("[1, 2]"), Place("sizes", list[float]))
        [1.0, 2.0]

    Raises:
        UnfitError: It does not fit there.
        OverrideError: Something that it names cannot be made.
    """
    if isinstance(item, Shared):
        return item.value(lambda inner: convert(inner, place))
    _check(item, place)
    return _converter(place.hint)(item, place)


def _converter(hint: Any) -> Converter:
    try:
        return _cached(hint)
    except TypeError:  # no hash
        return _compile(hint)


@functools.lru_cache(maxsize=4096)
def _cached(hint: Any) -> Converter:
    return _compile(hint)


def _compile(hint: Any) -> Converter:
    hint = bare(hint)
    origin = get_origin(hint)
    kind = origin or hint
    if hint is Any or hint is object:
        return natural
    if origin in UNIONS:
        return functools.partial(_union, hints=get_args(hint))
    if origin in LITERALS:
        return functools.partial(_literal, choices=get_args(hint))
    if typing_extensions.is_typeddict(kind):
        return functools.partial(_typed_dict, hints=typing_extensions.get_type_hints(kind))
    if kind is Unresolved or not isinstance(kind, type):
        return _unresolved
    return _compile_class(hint, kind)


def _compile_class(hint: Any, kind: type) -> Converter:
    if kind in (type, collections.abc.Callable):
        return _reference
    if kind is types.NoneType:
        return _none
    if kind in _READERS:
        return functools.partial(_read, kind=kind)
    if issubclass(kind, enum.Enum):
        return functools.partial(_enum, members=kind)
    if kind is tuple:
        return functools.partial(_tuple, hints=get_args(hint) or (Any, ...))
    for wanted, make in _COLLECTIONS.items():
        if kind is wanted:
            return functools.partial(_collection, make=make, hint=(get_args(hint) or (Any,))[0])
    for wanted, make in _MAPPINGS.items():
        if kind is wanted:
            return functools.partial(_mapping, make=make, hints=(get_args(hint) or (Any, Any)))
    return _configured


# ---------------------------------------------------------------- text
def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if re.fullmatch(r"[+-]?\d+(\.\d+)?[eE]\+?\d{1,2}", text) and (number := decimal.Decimal(text)) % 1 == 0:
            return int(number)
        return int(text, 0)


def _boolean(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in known:
        raise ValueError("write true or false")
    return known[text.lower()]


def _duration(text: str) -> datetime.timedelta:
    found = re.fullmatch(r"(?:(\d+)d(?:ays?)?\s*)?(?:(\d+):([0-5]?\d):)?(\d+(?:\.\d*)?)?s?", text.strip())
    if not found or not text.strip():
        raise ValueError("write seconds, as 90, or HH:MM:SS, or 2d 12:00:00")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return datetime.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


# What text is for a type: for these there is one way to write a value.
_READERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: _integer,
    float: float,
    bool: _boolean,
    complex: complex,
    bytes: str.encode,
    Path: Path,
    pathlib.PurePath: pathlib.PurePath,
    pathlib.PosixPath: pathlib.PosixPath,
    pathlib.PurePosixPath: pathlib.PurePosixPath,
    pathlib.PureWindowsPath: pathlib.PureWindowsPath,
    decimal.Decimal: decimal.Decimal,
    fractions.Fraction: fractions.Fraction,
    uuid.UUID: uuid.UUID,
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    datetime.timedelta: _duration,
    re.Pattern: re.compile,
}


def is_plain(cls: type) -> bool:
    """Whether objects of a class are written as text, rather than configured."""
    return cls in _READERS or issubclass(cls, enum.Enum)


_UNQUOTED = (int, float, bool, complex)  # a number in quotes is meant as text


def _read(item: Item, place: Place, kind: type) -> Any:
    if isinstance(item, (Given, Quoted)) and type(item.value) is kind:
        return item.value
    if isinstance(item, Given):
        return _given(item, place)
    if kind is str:
        return _text(item)
    text = None if isinstance(item, Quoted) and kind in _UNQUOTED else _plain_text(item)
    if text is None:
        raise place.unfit(item)
    try:
        return _READERS[kind](text)
    except (ValueError, ArithmeticError, re.error) as error:
        said = str(error)
        raise place.unfit(item, said if said.startswith("write ") or kind is re.Pattern else "") from None


def _text(item: Item) -> str:
    """The text that is meant where text is wanted: whatever was typed."""
    value = item.value if isinstance(item, (Quoted, Text)) else item.source
    return value if isinstance(value, str) else item.source


def _plain_text(item: Item) -> str | None:
    """The text of an item that is text, or may be."""
    if isinstance(item, (Quoted, Text)):
        return item.value if isinstance(item.value, str) else None
    return item.source if isinstance(item, (Word, Call)) else None


def _given(item: Given, place: Place) -> Any:
    check = compile_check(place.hint)
    if check and (wrong := check(item.value)):
        raise place.inside(wrong.path, place.hint).unfit(item)
    return item.value


def _none(item: Item, place: Place) -> None:
    if isinstance(item, Given) and item.value is None:
        return
    if not isinstance(item, Quoted) and (_plain_text(item) or "").lower() in ("none", "null"):
        return
    raise place.unfit(item)


def _literal(item: Item, place: Place, choices: tuple[Any, ...]) -> Any:
    text = None if isinstance(item, Given) else _plain_text(item)
    wanted = item.value if isinstance(item, Given) else _word(item.source)
    for choice in choices:
        if choice == text and isinstance(choice, str):
            return choice
        if type(choice) is type(wanted) and choice == wanted and not isinstance(item, Quoted):
            return choice
        if isinstance(choice, enum.Enum) and text in (choice.name, str(choice)):
            return choice
    raise place.unfit(item, _near(str(text), map(str, choices)))


def _enum(item: Item, place: Place, members: type[enum.Enum]) -> Any:
    if isinstance(item, Given) and (isinstance(item.value, members) or _is_value_of(members, item.value)):
        return members(item.value)
    text = item.name if isinstance(item, Reference) else _plain_text(item)
    names = [part.strip().rpartition(".")[2] for part in (text or "").split("|")]
    found = [_member(members, name) for name in names]
    if None in found or (len(found) > 1 and not issubclass(members, enum.Flag)):
        raise place.unfit(item, _near(str(text), members.__members__) or f"it has {', '.join(members.__members__)}")
    return functools.reduce(lambda one, other: one | other, found)  # type: ignore[operator]


def _near(name: str, known: Iterable[str]) -> str:
    """The nearest names, without all others."""
    return did_you_mean(name, known).partition(" There are")[0].strip(";. ")


def _is_value_of(members: type[enum.Enum], value: Any) -> bool:
    return any(type(member.value) is type(value) and member.value == value for member in members)


def _member(members: type[enum.Enum], text: str) -> enum.Enum | None:
    """The member with this name, however its letters are, or with this value."""
    known = members.__members__
    if text in known:
        return known[text]
    found = [m for name, m in known.items() if name.lower() == text.lower() or str(m.value) == text]
    return found[0] if len(set(found)) == 1 else None


# ---------------------------------------------------------------- any type
_NUMBER = re.compile(r"[+-]?(0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|0|[1-9](_?\d)*)")
_DECIMAL = re.compile(r"[+-]?(?=[\d.]*[.eE])(\d(_?\d)*\.?(\d(_?\d)*)?|\.\d(_?\d)*)([eE][+-]?\d+)?")
_CONSTANTS = {
    "true": True, "True": True, "false": False, "False": False, "none": None, "None": None, "null": None,
}  # fmt: skip


def natural(item: Item, place: Place) -> Any:
    """What an item is where any type will do: what it looks like."""
    if isinstance(item, (Given, Quoted)):
        return item.value
    if file := _file(item, place):
        return convert(file, place)
    if isinstance(item, Word):
        return _word(item.source)
    if isinstance(item, Text):
        return item.value
    if isinstance(item, Several):
        return _gather(place, item, {"list": list, "tuple": tuple, "set": set}[item.kind], Any)
    if isinstance(item, Pairs):
        return _gather_pairs(place, item, dict, (Any, Any))
    if isinstance(item, Call):
        return _container(item, place)
    return _configured(item, place)


def _word(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _NUMBER.fullmatch(text):
            return int(text, 0)
        return float(text) if _DECIMAL.fullmatch(text) else text
    except ValueError:  # too many digits
        return text


_CONTAINERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def _container(item: Call, place: Place) -> Any:
    """``dict(a=1)`` and ``set()`` are what they are in Python; any other call is text."""
    if item.name == "dict" and not item.args:
        return {name: natural(value, place) for name, value in item.kwargs}
    if item.name not in _CONTAINERS or item.kwargs:
        return item.source
    inner = item.args[0] if len(item.args) == 1 else None
    items = inner.items if isinstance(inner, Several) else item.args
    return _gather(place, Several(item.source, "list", items), _CONTAINERS[item.name], Any)


# ---------------------------------------------------------------- one of several types
def _union(item: Item, place: Place, hints: tuple[Any, ...]) -> Any:
    """What it looks like, if that is one of the types; otherwise the first type that it fits. Any text is a str."""
    looks_like = _looks_like(item, place)
    if looks_like and not any(bare(hint) is Any for hint in hints):
        check = compile_check(place.hint)
        if check and not check(looks_like[0]):
            return looks_like[0]
    reasons = []
    for hint in sorted(hints, key=functools.partial(_order, stored=isinstance(item, Text))):
        try:
            return convert(item, place.of(hint))
        except UnfitError as error:
            if error.why:
                reasons.append(error.why)
    raise place.unfit(item, "; ".join(dict.fromkeys(reasons)))


def _order(hint: Any, stored: bool) -> int:
    """A type is tried before str, which any text is. Text from a file is not a number that looks so."""
    kind = get_origin(bare(hint)) or bare(hint)
    if kind is str:
        return 1
    return 2 if stored and isinstance(kind, type) and is_plain(kind) else 0


def _looks_like(item: Item, place: Place) -> list[Any]:
    """The value that an item has whatever the type, where it is clear: not for words and names."""
    if isinstance(item, Word):
        value = _word(item.source)
        return [] if isinstance(value, str) else [value]
    if isinstance(item, (Several, Pairs)) and not _has_names(item):
        return [natural(item, place)]
    return [item.value] if isinstance(item, (Quoted, Given)) else []


def _has_names(item: Item) -> bool:
    if isinstance(item, Several):
        return any(map(_has_names, item.items))
    if isinstance(item, Pairs):
        return any(_has_names(value) for _, value in item.pairs)
    return not isinstance(item, (Quoted, Given)) and (not isinstance(item, Word) or isinstance(_word(item.source), str))


# ---------------------------------------------------------------- containers
_COLLECTIONS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_MAPPINGS: dict[Any, Callable[[Iterable[tuple[Any, Any]]], Any]] = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.defaultdict: lambda pairs: collections.defaultdict(None, pairs),
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}


def _collection(item: Item, place: Place, make: Callable[[Iterable[Any]], Any], hint: Any) -> Any:
    opened = _opened(item, place)
    if isinstance(opened, Pairs) and not opened.pairs and make in (set, frozenset):
        return make(())
    if isinstance(opened, Several) and (opened.kind != "set" or make in (set, frozenset)):
        return _gather(place, opened, make, hint)
    return _whole(item, opened, place)


def _tuple(item: Item, place: Place, hints: tuple[Any, ...]) -> Any:
    opened = _opened(item, place)
    if not isinstance(opened, Several) or opened.kind == "set":
        return _whole(item, opened, place)
    if hints[1:] == (...,):
        return _gather(place, opened, tuple, hints[0])
    hints = () if hints == ((),) else hints  # how Python 3.10 says tuple[()]
    if len(opened.items) != len(hints):
        raise place.unfit(item, f"it has {len(opened.items)} elements, not {len(hints)}")
    return tuple(
        convert(one, place.inside(f"[{i}]", hint))
        for i, (one, hint) in enumerate(zip(opened.items, hints, strict=True))
    )


def _mapping(item: Item, place: Place, make: Callable[[Iterable[Any]], Any], hints: tuple[Any, ...]) -> Any:
    opened = _opened(item, place)
    if isinstance(opened, Call) and opened.name == "dict" and not opened.args:
        pairs = tuple((Quoted(repr(name), name), value) for name, value in opened.kwargs)
        opened = Pairs(opened.source, pairs)
    if isinstance(opened, Pairs):
        return _gather_pairs(place, opened, make, (*hints, int)[:2])
    return _whole(item, opened, place)


def _typed_dict(item: Item, place: Place, hints: dict[str, Any]) -> Any:
    opened = _opened(item, place)
    if not isinstance(opened, Pairs):
        return _whole(item, opened, place)
    found = {}
    for key, value in opened.pairs:
        name = _text(key)
        if name not in hints:
            raise place.unfit(item, f"it has no key {name!r}{did_you_mean(name, hints)}")
        found[name] = convert(value, place.inside(f"[{name!r}]", hints[name]))
    check = compile_check(place.hint)
    if check and (wrong := check(found)):
        raise place.unfit(item, f"wanted is {wrong.expected}")
    return found


def _opened(item: Item, place: Place) -> Item:
    """An item as it is when a container is wanted: a string of a file may say one, or name a file."""
    if file := _file(item, place):
        return file
    return parse_value(item.value) if isinstance(item, Text) else item


def _whole(item: Item, opened: Item, place: Place) -> Any:
    """A container that something else gives: a factory, a file, Python."""
    if isinstance(opened, Given):
        return _given(opened, place)
    if isinstance(opened, (Word, Call, Made, Target)):
        return _configured(opened, place)
    raise place.unfit(item)


def _gather(place: Place, item: Several, make: Callable[[Iterable[Any]], Any], hint: Any) -> Any:
    try:
        return make([convert(one, place.inside(f"[{i}]", hint)) for i, one in enumerate(item.items)])
    except TypeError as error:  # a set of what has no hash
        raise place.unfit(item, str(error)) from None


def _gather_pairs(
    place: Place, item: Pairs, make: Callable[[Iterable[tuple[Any, Any]]], Any], hints: tuple[Any, ...]
) -> Any:
    keys = [convert(key, place.inside(f" key {key.source!r}", hints[0])) for key, _ in item.pairs]
    values = [
        convert(value, place.inside(f"[{key!r}]", hints[1])) for key, (_, value) in zip(keys, item.pairs, strict=True)
    ]
    try:
        return make(zip(keys, values, strict=True))
    except TypeError as error:  # a key without a hash
        raise place.unfit(item, str(error)) from None


# ---------------------------------------------------------------- what has a name
def _file(item: Item, place: Place) -> Item | None:
    """What is in the file that an item names: ``@path`` or ``@path:section``."""
    text = _plain_text(item) if isinstance(item, (Word, Text)) else None
    if not text or not is_file(text):
        return None
    found = load(text, item.files if isinstance(item, Text) else ())
    _check(found, place)
    return found


def _check(item: Item, place: Place) -> None:
    """Refuse what is there already where building it would call something that may not be called."""
    if isinstance(item, Loaded):
        from nemo_run.cli.overriding.making import check_calls

        check_calls(item, place)


def _configured(item: Item, place: Place) -> Any:
    from nemo_run.cli.overriding.making import make

    return make(_file(item, place) or item, place)


def _reference(item: Item, place: Place) -> Any:
    from nemo_run.cli.overriding.making import refer

    return refer(_file(item, place) or item, place)


def _unresolved(item: Item, place: Place) -> Any:
    """Where the type is not known: what a factory of that name makes, or what it looks like."""
    if isinstance(item, Call) or (isinstance(item, (Word, Text)) and str(_plain_text(item)).isidentifier()):
        try:
            return _configured(item, place)
        except UnfitError:
            pass
    return natural(item, place.of(Any))
