"""Tells a mistake from an inexact type hint.

A library's hints are often inexact, and its users cannot correct them. A value that does not fit may therefore be
meant all the same: an enum's value where the enum is hinted, ``None`` where the hint lacks ``Optional``, an object of
another class, a tuple in place of a list. It cannot be meant where text stands in place of a number or a container,
where a choice does not exist, or where a container holds elements of another plain type.
"""

from __future__ import annotations

import collections
import collections.abc
import enum
import numbers
import pathlib
from collections.abc import Iterable
from typing import Any, get_args, get_origin

import fiddle as fdl
import typing_extensions

from nemo_run.config.typecheck import LITERALS, UNIONS, Mismatch, bare, compile_check, hint_name

_TEXT = (str, bytes, bytearray)
_PLAIN = (bool, int, float, complex, *_TEXT)
_SERIES = (list, tuple, set, frozenset, collections.deque)
_CONTAINERS = (*_SERIES, collections.abc.Mapping)


def find_mistake(value: Any, hint: Any, *, element: bool = False) -> Mismatch | None:
    """Return the part of a value that cannot be meant for a type hint; None where all of it may be.

    Args:
        value: The value.
        hint: The type hint.
        element: Whether the value is an element of a container, where a plain value of another type is a mistake.

    Example:
        >>> find_mistake(None, int), find_mistake((1, 2), list[int])
        (None, None)
        >>> find_mistake([1, "2"], list[int])
        Mismatch(path='[1]', expected='int', value='2')
    """
    check = compile_check(hint)
    if value is None or check is None or check(value) is None or isinstance(value, fdl.Buildable):
        return None
    return _find_inside(value, bare(hint), element)


def _find_inside(value: Any, hint: Any, element: bool) -> Mismatch | None:
    origin = get_origin(hint)
    kind = origin or hint
    if origin in UNIONS:
        return _in_union(value, hint, element)
    if typing_extensions.is_typeddict(kind) and isinstance(value, dict):
        return _in_typed_dict(value, kind)
    if _is_container(kind) and isinstance(value, _CONTAINERS):
        return _in_container(value, hint, element)
    return None if _may_be_meant(value, hint, kind, element) else Mismatch("", hint_name(hint), value)


def _may_be_meant(value: Any, hint: Any, kind: Any, element: bool) -> bool:
    if kind in LITERALS:
        return not isinstance(value, _PLAIN) or any(value == choice for choice in get_args(hint))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return not isinstance(value, _PLAIN) or _names_member(kind, value)
    if isinstance(value, _TEXT) and (_is_number(kind) or _is_container(kind)):
        return False
    if isinstance(value, str) and isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return True
    return not element or not isinstance(value, (*_PLAIN, *_CONTAINERS))


def _names_member(members: type[enum.Enum], value: Any) -> bool:
    return value in members.__members__ or any(member.value == value for member in members)


def _is_number(kind: Any) -> bool:
    return kind in (bool, int, float, complex) or getattr(kind, "__module__", "") == numbers.__name__


def _is_container(kind: Any) -> bool:
    """Check whether a hint wants a container, which text is not meant as, although it has elements."""
    if typing_extensions.is_typeddict(kind):
        return True
    return isinstance(kind, type) and (issubclass(kind, _CONTAINERS) or kind in _ABSTRACT) and not _is_class(kind)


_ABSTRACT = (
    collections.abc.Iterable, collections.abc.Collection, collections.abc.Sequence, collections.abc.MutableSequence,
    collections.abc.Set, collections.abc.MutableSet, collections.abc.Mapping, collections.abc.MutableMapping,
)  # fmt: skip


def _is_class(kind: type) -> bool:
    """Check whether it is a class of somebody's own, such as a named tuple."""
    return kind.__module__ not in ("builtins", "collections", "collections.abc")


# ---------------------------------------------------------------- what holds something
def _in_union(value: Any, hint: Any, element: bool) -> Mismatch | None:
    """Look into the value by the types that it has as a whole, or else by all of them."""
    hints = [one for one in get_args(hint) if one is not type(None)]
    fitting = [one for one in hints if isinstance(value, _CONTAINERS) and _holds_alike(value, one)]
    mistakes = []
    for one in fitting or hints:
        mistake = find_mistake(value, one, element=element)
        if mistake is None:
            return None
        mistakes.append(mistake)
    inner = [mistake for mistake in mistakes if mistake.path]
    return inner[0] if len(inner) == 1 else Mismatch("", hint_name(hint), value)


def _holds_alike(value: Any, hint: Any) -> bool:
    hint = bare(hint)
    kind = get_origin(hint) or hint
    if typing_extensions.is_typeddict(kind):
        return isinstance(value, dict)
    return _is_container(kind) and isinstance(value, kind)


def _in_typed_dict(value: dict[Any, Any], kind: Any) -> Mismatch | None:
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    for key, item in value.items():
        if key not in hints:
            return Mismatch("", f"{hint_name(kind)}, which has no key {key!r}", value)
        if mistake := find_mistake(item, hints[key], element=True):
            return mistake.inside(f"[{key!r}]")
    return None


def _in_container(value: Any, hint: Any, element: bool) -> Mismatch | None:
    kind, args = get_origin(hint) or hint, get_args(hint)
    wants_pairs = issubclass(kind, collections.abc.Mapping)
    if wants_pairs != isinstance(value, collections.abc.Mapping):
        return Mismatch("", hint_name(hint), value) if element else None
    if wants_pairs:
        return _in_pairs(value, args)
    if kind is tuple and args[1:] != (...,):
        return _in_tuple(value, args)
    return _first(((f"[{i}]", item, args[0]) for i, item in enumerate(value))) if args else None


def _in_pairs(value: Any, args: tuple[Any, ...]) -> Mismatch | None:
    key_hint, item_hint = (*args, Any, Any)[:2] if len(args) != 1 else (args[0], int)  # Counter[str] counts
    keys = ((f" key {key!r}", key, key_hint) for key in value)
    return _first(keys) or _first((f"[{key!r}]", item, item_hint) for key, item in value.items())


def _in_tuple(value: Any, args: tuple[Any, ...]) -> Mismatch | None:
    """Check each element by its hint; by any of them where their number differs, as in ``Tuple[float]`` for several."""
    if not args or args == ((),):
        return None
    for position, item in enumerate(value):
        hints = (args[position],) if len(value) == len(args) else args
        mistakes = [find_mistake(item, hint, element=True) for hint in hints]
        if None not in mistakes and mistakes[0]:
            return mistakes[0].inside(f"[{position}]")
    return None


def _first(parts: Iterable[tuple[str, Any, Any]]) -> Mismatch | None:
    for path, item, hint in parts:
        if mistake := find_mistake(item, hint, element=True):
            return mistake.inside(path)
    return None
