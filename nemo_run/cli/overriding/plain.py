"""Values that are written as text: numbers, dates, paths, members of enums. Each type reads text in its own way."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import re
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from nemo_run.cli.overriding.items import Call, Given, Item, Quoted, Reference, Text, Word
from nemo_run.cli.overriding.place import Place
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.typecheck import UNIONS, bare, compile_check, show

# ---------------------------------------------------------------- what a word looks like
_NUMBER = re.compile(r"[+-]?(0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|0|[1-9](_?\d)*)")
_DECIMAL = re.compile(r"[+-]?(?=[\d.]*[.eE])(\d(_?\d)*\.?(\d(_?\d)*)?|\.\d(_?\d)*)([eE][+-]?\d+)?")
_CONSTANTS = {
    "true": True, "True": True, "false": False, "False": False, "none": None, "None": None, "null": None,
}  # fmt: skip


def word(text: str) -> Any:
    """Return what a word is where any type will do: a number, a constant, or itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _NUMBER.fullmatch(text):
            return int(text, 0)
        return float(text) if _DECIMAL.fullmatch(text) else text
    except ValueError:  # too many digits
        return text


# ---------------------------------------------------------------- readers
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
READERS: dict[type, Callable[[str], Any]] = {
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
    """Check whether objects of a class are written as text, rather than configured."""
    return cls in READERS or issubclass(cls, enum.Enum)


_UNQUOTED = (int, float, bool, complex)  # a number in quotes is meant as text


def read(item: Item, place: Place, kind: type) -> Any:
    """Return the value that an item is for one of the types that are written as text."""
    if isinstance(item, (Given, Quoted)) and type(item.value) is kind:
        return item.value
    if isinstance(item, Given):
        return given(item, place)
    return text_of(item) if kind is str else _parsed(item, place, kind)


def _parsed(item: Item, place: Place, kind: type) -> Any:
    text = None if isinstance(item, Quoted) and kind in _UNQUOTED else plain_text(item)
    if text is None:
        raise place.unfit(item)
    try:
        return READERS[kind](text)
    except (ValueError, ArithmeticError, re.error) as error:
        said = str(error)
        raise place.unfit(item, said if said.startswith("write ") or kind is re.Pattern else "") from None


def text_of(item: Item) -> str:
    """Return the text that is meant where text is wanted: whatever was typed."""
    value = item.value if isinstance(item, (Quoted, Text)) else item.source
    return value if isinstance(value, str) else item.source


def plain_text(item: Item) -> str | None:
    """Return the text of an item that is text, or may be."""
    if isinstance(item, (Quoted, Text)):
        return item.value if isinstance(item.value, str) else None
    return item.source if isinstance(item, (Word, Call)) else None


def given(item: Given, place: Place) -> Any:
    """Return a value that has its type already, if that is the wanted one."""
    check = compile_check(place.hint)
    if check and (wrong := check(item.value)):
        inner = Given(show(wrong.value), wrong.value) if wrong.path else item
        raise place.inside(wrong.path, place.hint).unfit(inner, expected=wrong.expected)
    return widened(item.value, place.hint)


_SERIES = (list, tuple, set, frozenset)


def widened(value: Any, hint: Any) -> Any:
    """Return a value that fits a type hint with its whole numbers as floats, where those are wanted.

    Example:
        >>> widened(1, float | None), widened([1, 2], list[float] | str), widened(1, int | float)
        (1.0, [1.0, 2.0], 1)
    """
    hint = bare(hint)
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind in UNIONS:
        return widened(value, _nearest(value, args))
    if type(value) is int and kind in (float, complex):
        return _float(value, kind)
    if type(value) in _SERIES and args:
        return _widened_series(value, kind, args)
    if type(value) is dict and len(args) == 2:
        return {widened(key, args[0]): widened(item, args[1]) for key, item in value.items()}
    return value


def _nearest(value: Any, hints: tuple[Any, ...]) -> Any:
    """Return the first of several types that a value fits, rather one for which its numbers stay as they are."""
    fitting = [one for one in hints if (check := compile_check(one)) is None or check(value) is None]
    exact = [one for one in fitting if bare(one) not in (float, complex)]
    return (exact or fitting or [Any])[0]


def _widened_series(value: Any, kind: Any, args: tuple[Any, ...]) -> Any:
    hints = args if kind is tuple and args[1:] != (...,) else args[:1] * len(value)
    found = [widened(item, one) for item, one in zip(value, hints, strict=False)]
    return type(value)(found) if len(found) == len(value) else value


def _float(value: int, kind: type[float] | type[complex]) -> Any:
    try:
        return kind(value)
    except OverflowError:
        return value


def none(item: Item, place: Place) -> None:
    """Check that an item says None."""
    if isinstance(item, Given) and item.value is None:
        return
    if not isinstance(item, Quoted) and (plain_text(item) or "").lower() in ("none", "null"):
        return
    raise place.unfit(item)


def literal(item: Item, place: Place, choices: tuple[Any, ...]) -> Any:
    """Return the choice that an item names."""
    text = None if isinstance(item, Given) else plain_text(item)
    wanted = item.value if isinstance(item, Given) else word(item.source)
    for choice in choices:
        if _is_named(choice, text) or (not isinstance(item, Quoted) and _is_equal(choice, wanted)):
            return choice
    raise place.unfit(item, _near(str(text), map(str, choices)))


def _is_named(choice: Any, text: str | None) -> bool:
    if isinstance(choice, enum.Enum):
        return text in (choice.name, str(choice))
    return isinstance(choice, str) and choice == text


def _is_equal(choice: Any, value: Any) -> bool:
    return type(choice) is type(value) and bool(choice == value)


def member(item: Item, place: Place, members: type[enum.Enum]) -> Any:
    """Return the member of an enum that an item names; of a flag, several joined by ``|``."""
    if isinstance(item, Given) and _is_value_of(members, item.value):
        return members(item.value)
    text = item.name if isinstance(item, Reference) else plain_text(item)
    found = _members(members, text or "")
    if not found:
        raise place.unfit(item, _near(str(text), members.__members__) or f"it has {', '.join(members.__members__)}")
    return functools.reduce(lambda one, other: one | other, found)


def _members(members: type[enum.Enum], text: str) -> list[Any]:
    """Return the members that a text names; none where a part of it is no name, or several cannot be joined."""
    found = [_member(members, part.strip().rpartition(".")[2]) for part in text.split("|")]
    can_be_joined = len(found) == 1 or issubclass(members, enum.Flag)
    return found if can_be_joined and None not in found else []


def _near(name: str, known: Iterable[str]) -> str:
    """Return the nearest names, without all others."""
    return did_you_mean(name, known).partition(" There are")[0].strip(";. ")


def _is_value_of(members: type[enum.Enum], value: Any) -> bool:
    return isinstance(value, members) or any(_is_equal(member.value, value) for member in members)


def _member(members: type[enum.Enum], text: str) -> enum.Enum | None:
    """Return the member with this name, however its letters are, or with this value."""
    known = members.__members__
    if text in known:
        return known[text]
    found = [m for name, m in known.items() if name.lower() == text.lower() or str(m.value) == text]
    return found[0] if len(set(found)) == 1 else None
