"""Values that JSON has no word for, each as a call that builds it.

The table below is all there is: a stored value of one of these types is ``{"_target_": target, "_args_": [...]}``,
which Hydra's ``instantiate`` turns into the same value. These few functions are the only ones ever called while a
configuration is loaded, and each takes only arguments of the types that it was written for.
"""

from __future__ import annotations

import base64
import collections
import datetime
import json
import pathlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nemo_run.config.document.symbols import resolve


@dataclass(frozen=True)
class ValueType:
    """How values of one type are stored.

    Attributes:
        target: Dotted name of what Hydra calls.
        arguments: From a value to the positional arguments of that call.
        build: From the arguments back to the value.
        accepts: Type of each argument; the last one stands for all that follow.
    """

    target: str
    arguments: Callable[[Any], Iterable[Any]]
    build: Callable[..., Any]
    accepts: tuple[type | tuple[type, ...], ...]

    def load(self, arguments: list[Any]) -> Any:
        """Build the value; ``TypeError`` or ``ValueError`` if these arguments are not those of such a value."""
        for index, argument in enumerate(arguments):
            if not isinstance(argument, self.accepts[min(index, len(self.accepts) - 1)]):
                raise TypeError(f"{self.target} does not take {argument!r} here")
        return self.build(*arguments)


def _path(kind: type[pathlib.PurePath], name: str) -> ValueType:
    return ValueType(f"pathlib.{name}", lambda path: [str(path)], kind, (str,))


def _iso(kind: Any, name: str) -> ValueType:
    return ValueType(f"{name}.fromisoformat", lambda value: [value.isoformat()], kind.fromisoformat, (str,))


def in_order(items: Iterable[Any]) -> list[Any]:
    """Return the elements of a set, in an order that does not depend on hashes."""
    found = list(items)
    if len({type(item) for item in found}) == 1 and isinstance(found[0], (int, float, str, bytes)):
        return sorted(found)
    return sorted(found, key=lambda item: (type(item).__qualname__, repr(item)))


def _pairs(mapping: dict[Any, Any]) -> list[list[Any]]:
    return [[key, value] for key, value in mapping.items()]


_INT, _NUMBER = (int,), ((int, float),)
_TEXT, _LIST = (str,), (list,)

BY_TYPE: dict[type, ValueType] = {
    type(pathlib.Path()): _path(pathlib.Path, "Path"),
    pathlib.PurePosixPath: _path(pathlib.PurePosixPath, "PurePosixPath"),
    pathlib.PureWindowsPath: _path(pathlib.PureWindowsPath, "PureWindowsPath"),
    tuple: ValueType("builtins.tuple", lambda value: [list(value)] if value else [], tuple, _LIST),
    set: ValueType("builtins.set", lambda value: [in_order(value)] if value else [], set, _LIST),
    frozenset: ValueType("builtins.frozenset", lambda value: [in_order(value)] if value else [], frozenset, _LIST),
    dict: ValueType("builtins.dict", lambda value: [_pairs(value)], dict, _LIST),  # only where JSON's object won't do
    collections.OrderedDict: ValueType(
        "collections.OrderedDict", lambda value: [_pairs(value)], collections.OrderedDict, _LIST
    ),
    collections.deque: ValueType(
        "collections.deque", lambda value: [list(value), value.maxlen], collections.deque, (list, (int, type(None)))
    ),
    bytes: ValueType(
        "base64.b64decode",
        lambda value: [base64.b64encode(value).decode("ascii")],
        lambda text: base64.b64decode(text, validate=True),
        _TEXT,
    ),
    bytearray: ValueType("builtins.bytearray", lambda value: [bytes(value)], bytearray, (bytes,)),
    complex: ValueType("builtins.complex", lambda value: [value.real, value.imag], complex, _NUMBER),
    range: ValueType("builtins.range", lambda value: [value.start, value.stop, value.step], range, _INT),
    slice: ValueType("builtins.slice", lambda value: [value.start, value.stop, value.step], slice, (object,)),
    datetime.date: _iso(datetime.date, "datetime.date"),
    datetime.datetime: _iso(datetime.datetime, "datetime.datetime"),
    datetime.time: _iso(datetime.time, "datetime.time"),
    datetime.timedelta: ValueType(
        "datetime.timedelta", lambda value: [value.days, value.seconds, value.microseconds], datetime.timedelta, _INT
    ),
    datetime.timezone: ValueType(
        "datetime.timezone",
        lambda value: value.__getinitargs__(),
        datetime.timezone,
        (datetime.timedelta, str),
    ),
    re.Pattern: ValueType(
        "re.compile",
        lambda value: [value.pattern, int(value.flags & ~re.UNICODE)],
        re.compile,
        ((str, bytes), int),
    ),
}

# Of these it matters whether two places have the same object, or equal ones.
MUTABLE = (list, dict, set, bytearray, collections.OrderedDict, collections.deque)

# In a named time zone: its name is kept, where ISO 8601 has only the offset.
_ZONED: dict[type, ValueType] = {
    datetime.datetime: ValueType(
        "datetime.datetime",
        lambda value: [*value.timetuple()[:6], value.microsecond, value.tzinfo],
        datetime.datetime,
        (*[int] * 7, datetime.tzinfo),
    ),
    datetime.time: ValueType(
        "datetime.time",
        lambda value: [value.hour, value.minute, value.second, value.microsecond, value.tzinfo],
        datetime.time,
        (*[int] * 4, datetime.tzinfo),
    ),
}

BY_TARGET: dict[str, ValueType] = {entry.target: entry for entry in (*BY_TYPE.values(), *_ZONED.values())}
# Strings that would be read otherwise, and words that TOML or JSON lack.
BY_TARGET["builtins.str.join"] = ValueType("builtins.str.join", lambda value: ["", [value]], str.join, ((str, list),))
BY_TARGET["json.loads"] = ValueType("json.loads", lambda value: [json.dumps(value)], json.loads, _TEXT)
BY_TARGET["builtins.float"] = ValueType("builtins.float", lambda value: [repr(value)], float, _TEXT)


def _named(name: str, arguments: Callable[[Any], list[Any]], *accepts: type) -> ValueType:
    """Return a type whose module is imported only to build a value of it."""

    def build(*items: Any) -> Any:
        return resolve(name)(*items)

    return ValueType(name, arguments, build, (accepts,))


_NUMPY = ("bool", "bool_", "float16", "float32", "float64", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))

_STANDARD: dict[str, ValueType] = {  # of the standard library, which has them when they are asked for
    "decimal.Decimal": _named("decimal.Decimal", lambda value: [str(value)], str),
    "fractions.Fraction": _named("fractions.Fraction", lambda value: [value.numerator, value.denominator], int),
    "uuid.UUID": _named("uuid.UUID", lambda value: [str(value)], str),
    "zoneinfo.ZoneInfo": _named("zoneinfo.ZoneInfo", lambda value: [value.key], str),
}
BY_TYPE_NAME: dict[str, ValueType] = {  # of packages that may not be there
    "torch.device": _named("torch.device", lambda value: [str(value)], str),
    "torch.Size": _named("torch.Size", lambda value: [list(value)], list),
    **{f"numpy.{name}": _named(f"numpy.{name}", lambda value: [value.item()], bool, int, float) for name in _NUMPY},
}
BY_TARGET.update({entry.target: entry for entry in (*_STANDARD.values(), *BY_TYPE_NAME.values())})


def value_type(value: Any) -> ValueType | None:
    """Return how a value is stored; ``None`` if its type is not in the table."""
    kind = type(value)
    if kind in _ZONED and f"{type(value.tzinfo).__module__}.{type(value.tzinfo).__qualname__}" == "zoneinfo.ZoneInfo":
        return _ZONED[kind]
    if found := BY_TYPE.get(kind):
        return found
    name = f"{kind.__module__}.{kind.__qualname__}"
    return _STANDARD.get(name) or BY_TYPE_NAME.get(name)


def is_torch_dtype(value: Any) -> bool:
    """Check whether the value is a torch data type, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.dtype)
