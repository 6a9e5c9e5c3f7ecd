"""From items to values of the types that are wanted. Nothing is evaluated: each type reads text in its own way.

A type hint is compiled once into a function that converts any item. Where it accepts objects of a class, that is left
to the maker of the place.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Iterable
from typing import Any, get_args, get_origin

import fiddle as fdl
import typing_extensions

from nemo_run.cli.overriding.files import is_file, load
from nemo_run.cli.overriding.items import (
    Accepted,
    Call,
    Configured,
    Given,
    Item,
    Made,
    Pairs,
    Quoted,
    Several,
    Shared,
    Switch,
    Text,
    Word,
)
from nemo_run.cli.overriding.parse import parse_value
from nemo_run.cli.overriding.place import NoArgumentError, Place, UnfitError, Unresolved
from nemo_run.cli.overriding.plain import (
    READERS,
    given,
    is_plain,
    literal,
    member,
    none,
    plain_text,
    read,
    text_of,
    widened,
    word,
)
from nemo_run.config.strictness import AsGiven
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import target_of
from nemo_run.config.typecheck import LITERALS, UNIONS, bare, compile_check
from nemo_run.errors import OverrideError

Converter = Callable[[Item, Place], Any]
READERS_OF_USERS: dict[Any, Callable[[str, Any], Any]] = {}


def use_reader(kind: Any, reader: Callable[[str, Any], Any]) -> None:
    """Make a function the reader of a type. It takes the text and the type."""
    READERS_OF_USERS[kind] = reader
    _cached.cache_clear()


def convert(item: Item, place: Place) -> Any:
    """Return the value that an item stands for in a place.

    Example:
        >>> convert(parse_value("[1, 2]"), Place("sizes", list[float]))
        [1.0, 2.0]

    Raises:
        UnfitError: It does not fit there.
        OverrideError: Something that it names cannot be made.
    """
    if isinstance(item, Shared):
        return item.value(lambda inner: convert(inner, place))
    if isinstance(item, Switch):
        try:
            return convert(Given(item.source, item.value), place)
        except UnfitError:
            return convert(item.word, place)
    place.maker.check_calls(item, place)
    if isinstance(item, Accepted):
        return AsGiven(item.value) if place.accepts else item.value
    return _fitted(item, place)


def _fitted(item: Item, place: Place) -> Any:
    """Return the value by the type of a place; what the item looks like, where only that is accepted there."""
    try:
        return _converter(place.hint)(item, place)
    except UnfitError:
        looks_like = _looks_like(item, place) if place.accepts else []
        if looks_like and place.accepts and place.accepts(looks_like[0]):
            return looks_like[0]
        raise


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
    if isinstance(hint, type) and hint in READERS_OF_USERS:
        return functools.partial(_of_user, reader=READERS_OF_USERS[hint])
    if hint is Any or hint is object:
        return natural
    if origin in UNIONS:
        return functools.partial(_union, hints=get_args(hint))
    if origin in LITERALS:
        return functools.partial(literal, choices=get_args(hint))
    if typing_extensions.is_typeddict(kind):
        return functools.partial(_typed_dict, hints=typing_extensions.get_type_hints(kind))
    if kind is Unresolved or not isinstance(kind, type):
        return _unresolved
    return _compile_class(hint, kind)


def _compile_class(hint: Any, kind: type) -> Converter:
    if kind in (type, collections.abc.Callable):
        return _reference
    if kind is types.NoneType:
        return none
    if kind in READERS:
        return functools.partial(read, kind=kind)
    if issubclass(kind, enum.Enum):
        return functools.partial(member, members=kind)
    if kind is tuple:
        return functools.partial(_tuple, hints=get_args(hint) or (Any, ...))
    return _compile_container(hint, kind)


def _compile_container(hint: Any, kind: type) -> Converter:
    if kind in _COLLECTIONS:
        return functools.partial(_collection, make=_COLLECTIONS[kind], hint=(get_args(hint) or (Any,))[0])
    if kind in _MAPPINGS:
        return functools.partial(_mapping, make=_MAPPINGS[kind], hints=(get_args(hint) or (Any, Any)))
    return _configured


def _of_user(item: Item, place: Place, reader: Callable[[str, Any], Any]) -> Any:
    """Return what a user's own reader makes of a text; objects are made as for any other type."""
    if not isinstance(item, (Word, Quoted, Text, Call)):
        return _configured(item, place)
    try:
        return reader(item.source, place.hint)
    except ValueError as error:
        raise place.unfit(item, str(error)) from None


# ---------------------------------------------------------------- any type
def natural(item: Item, place: Place) -> Any:
    """Return what an item is where any type will do: what it looks like."""
    if isinstance(item, (Given, Quoted)):
        return item.value
    if file := _file(item, place):
        return convert(file, place)
    if isinstance(item, Word):
        return word(item.source)
    if isinstance(item, Text):
        return item.value
    if isinstance(item, Several):
        return _gather(place, item, {"list": list, "tuple": tuple, "set": set}[item.kind], Any)
    if isinstance(item, Pairs):
        return _gather_pairs(place, item, dict, (Any, Any))
    if isinstance(item, Call):
        return _container(item, place)
    return _configured(item, place)


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
    """Return the type that it looks like, if it is among these; otherwise the first that it fits. Any text is a str."""
    if looks_like := _fitting_look(item, place, hints):
        return widened(looks_like[0], place.hint)
    made, errors = [], []
    for hint in sorted(hints, key=functools.partial(_order, stored=isinstance(item, Text))):
        try:
            made.append(convert(item, dataclasses.replace(place, hint=hint, accepts=None)))
        except (UnfitError, OverrideError) as error:
            errors.append(error)
        if made and (is_complete(made[-1]) or not isinstance(item, Pairs)):
            return made[-1]
    if made:
        return made[0]
    raise _most_telling(errors, item, place)


def _fitting_look(item: Item, place: Place, hints: tuple[Any, ...]) -> list[Any]:
    """Return what it looks like, if one of the types says so; an empty list otherwise."""
    looks_like = _looks_like(item, place)
    if not looks_like or any(bare(hint) is Any for hint in hints):
        return []
    check = compile_check(place.hint)
    return looks_like if check and not check(looks_like[0]) else []


def is_complete(value: Any) -> bool:
    """Check whether nothing is missing in what was made of a mapping, for which several classes may be wanted."""
    return not isinstance(value, fdl.Config) or all(
        name in value.__arguments__ for name in target_of(value.__fn_or_cls__).required
    )


def _most_telling(errors: list[UnfitError | OverrideError], item: Item, place: Place) -> Exception:
    """Return the one error inside of the value, where there is one; otherwise one for the value, with all reasons."""
    inside = _inside(errors, place)
    if len(inside) == 1:
        return inside[0]
    whys = [error.why for error in errors if isinstance(error, UnfitError) and error.why]
    return place.unfit(item, "; ".join(dict.fromkeys(list(map(str, inside)) or whys)))


def _inside(errors: list[UnfitError | OverrideError], place: Place) -> list[UnfitError | OverrideError]:
    """Return the errors inside of the value; those about unknown arguments only where there are no others."""
    inside = [error for error in errors if not isinstance(error, UnfitError) or error.place.path != place.path]
    return [error for error in inside if not isinstance(error, NoArgumentError)] or inside


def _order(hint: Any, stored: bool) -> int:
    """Return a type is tried before str, which any text is. Text from a file is not a number that looks so."""
    kind = get_origin(bare(hint)) or bare(hint)
    if kind is str:
        return 1
    return 2 if stored and isinstance(kind, type) and is_plain(kind) else 0


def _looks_like(item: Item, place: Place) -> list[Any]:
    """Return the value that an item has whatever the type, where it is clear: not for words and names."""
    if isinstance(item, Word):
        value = word(item.source)
        return [] if isinstance(value, str) else [value]
    if isinstance(item, (Several, Pairs)) and not _has_names(item):
        return [natural(item, place)]
    return [item.value] if isinstance(item, (Quoted, Given)) else []


def _has_names(item: Item) -> bool:
    if isinstance(item, Several):
        return any(map(_has_names, item.items))
    if isinstance(item, Pairs):
        return any(_has_names(value) for _, value in item.pairs)
    if isinstance(item, Word):
        return isinstance(word(item.source), str)
    return not isinstance(item, (Quoted, Given, Switch))


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
        name = text_of(key)
        if name not in hints:
            raise place.unfit(item, f"it has no key {name!r}{did_you_mean(name, hints)}")
        found[name] = convert(value, place.inside(f"[{name!r}]", hints[name]))
    check = compile_check(place.hint)
    if check and (wrong := check(found)):
        raise place.unfit(item, f"wanted is {wrong.expected}")
    return found


def _opened(item: Item, place: Place) -> Item:
    """Return an item as it is when a container is wanted: a string of a file may say one, or name a file."""
    if file := _file(item, place):
        return file
    return parse_value(item.value) if isinstance(item, Text) else item


def _whole(item: Item, opened: Item, place: Place) -> Any:
    """Return a container that something else gives: a factory, a file, Python."""
    if isinstance(opened, Given):
        return given(opened, place)
    if isinstance(opened, (Word, Call, Made, Configured)):
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
    """Return what is in the file that an item names: ``@path`` or ``@path:section``."""
    text = plain_text(item) if isinstance(item, (Word, Text)) else None
    if not text or not is_file(text):
        return None
    found = load(text, item.files if isinstance(item, Text) else ())
    place.maker.check_calls(found, place)
    return found


def _configured(item: Item, place: Place) -> Any:
    return place.maker.make(_file(item, place) or item, place)


def _reference(item: Item, place: Place) -> Any:
    return place.maker.refer(_file(item, place) or item, place)


def _unresolved(item: Item, place: Place) -> Any:
    """Return where the type is not known: what a factory of that name makes, or what it looks like."""
    if isinstance(item, Call) or (isinstance(item, (Word, Text)) and str(plain_text(item)).isidentifier()):
        try:
            return _configured(item, place)
        except UnfitError:
            pass
    return natural(item, place.of(Any))
