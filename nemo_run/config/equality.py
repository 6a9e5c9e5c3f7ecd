"""Equality of configurations as fiddle defines it, in time proportional to their size.

Two configurations are equal if they have the same types, targets and values, a default counting as a value; and if
they share alike: when each is walked through in its order, the places where an object is met for the first time are
the same.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import fiddle as fdl
from fiddle import daglish

from nemo_run.config.target import MISSING, target_of
from nemo_run.config.tree import is_node

# Python may or may not keep one object for all uses of a value of these types, so that sharing it means nothing.
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})

# (left, right, whether they are elements of a container: there an object equals itself, even a NaN)
_Pair = tuple[Any, Any, bool]


class _DifferentError(Exception):
    """A difference was found."""


class _UnusualError(Exception):
    """Something of which it is not known here how fiddle compares it."""


def equal(left: fdl.Buildable[Any], right: Any) -> bool | None:
    """Check whether two configurations are equal; None where fiddle has to be asked, at more cost.

    Example:
        >>> import nemo_run as run
        >>> equal(run.Config(dict, a=1), run.Config(dict, a=2))
        False
    """
    if type(left) is not type(right):
        return False
    try:
        _Equality().run(left, right)
    except _DifferentError:
        return False
    except _UnusualError:
        return None
    return True


class _Equality:
    """One walk through two configurations at the same time."""

    def __init__(self) -> None:
        self.right_of: dict[int, int] = {}  # id on the left -> id of what is at the same place on the right
        self.left_of: dict[int, int] = {}
        self.sharing = False
        self.reordered = False  # the walk follows the order of the left; the right has another one

    def run(self, left: Any, right: Any) -> None:
        todo: list[_Pair] = [(left, right, False)]
        while todo:
            one, other, in_container = todo.pop()
            if not is_node(one) and _is_plain(one):
                _compare_plain(one, other, in_container)
            elif not self._met_before(one, other):
                todo += [*self._pairs_inside(one, other, in_container)][::-1]
        if self.sharing and self.reordered:
            raise _UnusualError

    def _met_before(self, one: Any, other: Any) -> bool:
        known, other_known = id(one) in self.right_of, id(other) in self.left_of
        if known and other_known:
            if self.right_of[id(one)] != id(other):
                raise _UnusualError
            self.sharing = True
            return True
        if known or other_known:  # here one side shows again what it has shown before, and the other side does not
            raise _UnusualError if self.reordered else _DifferentError
        self.right_of[id(one)], self.left_of[id(other)] = id(other), id(one)
        return False

    def _pairs_inside(self, one: Any, other: Any, in_container: bool) -> list[_Pair]:
        kind = type(one)
        if is_node(one):
            if type(other) is not kind or one.__fn_or_cls__ != other.__fn_or_cls__:
                raise _DifferentError
            return _walkable(self._argument_pairs(one, other), one is other)
        if kind is list or kind is tuple or daglish.is_namedtuple_subclass(kind):
            return _item_pairs(one, other)
        if kind is dict or kind is collections.defaultdict:
            return self._value_pairs(one, other)
        if daglish.is_traversable_type(kind):
            raise _UnusualError
        _compare(one, other, in_container)
        return []

    def _value_pairs(self, one: dict[Any, Any], other: dict[Any, Any]) -> list[_Pair]:
        _check_kind(one, other)
        if one.keys() != other.keys():
            raise _DifferentError
        self.reordered |= [*one] != [*other]
        return _walkable(((item, other[key]) for key, item in one.items()), True)

    def _argument_pairs(self, one: fdl.Buildable[Any], other: fdl.Buildable[Any]) -> Iterator[tuple[Any, Any]]:
        target = target_of(one.__fn_or_cls__)
        if not target.keywords_only:
            yield from self._all_argument_pairs(one, other)
            return
        left, right = one.__arguments__, other.__arguments__
        for name, default in target.default_values.items():
            value, other_value = left.get(name, default), right.get(name, default)
            if value is not MISSING or other_value is not MISSING:
                yield value, other_value
        if target.takes_any_keyword:
            yield from self._more_argument_pairs(left, right, target.keywords)

    def _all_argument_pairs(self, one: fdl.Buildable[Any], other: fdl.Buildable[Any]) -> Iterator[tuple[Any, Any]]:
        left, right = (fdl.ordered_arguments(node, include_defaults=True) for node in (one, other))
        if left.keys() != right.keys():
            raise _DifferentError
        self.reordered |= [*left] != [*right]
        yield from ((value, right[key]) for key, value in left.items())

    def _more_argument_pairs(
        self, left: dict[Any, Any], right: dict[Any, Any], keywords: Collection[str]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the arguments that the target takes without naming them."""
        more, other_more = ([key for key in values if key not in keywords] for values in (left, right))
        if {*more} != {*other_more}:
            raise _DifferentError
        self.reordered |= more != other_more
        yield from ((left[key], right[key]) for key in more)


def _item_pairs(one: Any, other: Any) -> list[_Pair]:
    _check_kind(one, other)
    if len(one) != len(other):
        raise _DifferentError
    return _walkable(zip(one, other, strict=True), True)


def _walkable(pairs: Iterable[tuple[Any, Any]], in_container: bool) -> list[_Pair]:
    """Return the pairs that are to be walked into; plain values are compared here and now."""
    more = []
    for one, other in pairs:
        if type(one) in _PLAIN and type(other) in _PLAIN:
            _compare(one, other, in_container)
        else:
            more.append((one, other, in_container))
    return more


def _compare_plain(one: Any, other: Any, in_container: bool) -> None:
    if not _is_plain(other):
        raise _DifferentError if one != other else _UnusualError
    _compare(one, other, in_container)


def _compare(one: Any, other: Any, in_container: bool) -> None:
    if one != other and not (in_container and one is other):
        raise _DifferentError


def _check_kind(one: Any, other: Any) -> None:
    if type(one) is not type(other):
        raise _DifferentError if one != other else _UnusualError


def _is_plain(value: Any) -> bool:
    """Check whether it means nothing to fiddle that a value is shared."""
    return type(value) in _PLAIN or daglish.is_internable(value)
