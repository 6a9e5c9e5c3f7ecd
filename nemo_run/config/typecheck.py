"""Does a value fit a type hint? Each hint is compiled once into a function that looks at every element of a value.

A configuration fits where what it builds fits: a ``Config`` of a class where an object of that class does, a
``Partial`` where a callable does.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

import fiddle as fdl
import typing_extensions

from nemo_run.config.hints import bound_of, returned_by


class Mismatch(NamedTuple):
    """A value, or a part of one, that does not fit."""

    path: str
    expected: str
    value: Any

    def inside(self, path: str) -> Mismatch:
        """Return the same, seen from what holds the value."""
        return Mismatch(path + self.path, self.expected, self.value)


Check = Callable[[Any], "Mismatch | None"]

UNIONS = (typing.Union, types.UnionType)
LITERALS = (typing.Literal, typing_extensions.Literal)
_NEVER = (typing.NoReturn, typing_extensions.Never)
_WRAPPERS = (
    typing.Annotated, typing.Final, typing.ClassVar,
    typing_extensions.Required, typing_extensions.NotRequired, typing_extensions.ReadOnly,
)  # fmt: skip
# An int will do for a float (PEP 484). A bool is an int to Python, but never meant as one.
_NUMBERS: dict[Any, tuple[type, ...]] = {int: (int,), float: (float, int), complex: (complex, float, int)}
# Containers with one type of element; their values are looked into if they are of a type that reading does not use up.
_COLLECTIONS = (list, set, frozenset, collections.deque)
_MAPPINGS = (dict, collections.defaultdict, collections.OrderedDict, collections.Counter)
_READABLE = (list, tuple, set, frozenset, collections.deque, dict)


def compile_check(hint: Any) -> Check | None:
    """Return the check of a hint; None where every value fits, or where that cannot be told.

    Example:
        >>> check = compile_check(list[int])
        >>> check([1, 2]) is None
        True
        >>> check([1, "2"])
        Mismatch(path='[1]', expected='int', value='2')
    """
    try:
        return _compile_cached(hint)
    except TypeError:  # Annotated with something that has no hash
        return _compile(hint)


@functools.lru_cache(maxsize=4096)
def _compile_cached(hint: Any) -> Check | None:
    return _compile(hint)


def _compile(hint: Any) -> Check | None:
    hint = bare(hint)
    origin = get_origin(hint)
    kind = origin or hint
    if hint is Any or hint is object:
        return None
    if hint in _NEVER:
        return lambda value: Mismatch("", "no value", value)
    if origin in UNIONS:
        return _union(hint)
    if origin in LITERALS:
        return _or_configured(hint, _literal(hint))
    if typing_extensions.is_typeddict(kind):
        return _or_configured(hint, _typed_dict(kind))
    if kind is type:
        return _or_configured(hint, _class_of(hint))
    if not isinstance(kind, type) or issubclass(kind, fdl.Buildable):
        return None
    if typing_extensions.is_protocol(kind):
        return _or_configured(hint, _protocol(kind))
    return _or_configured(hint, _instance(hint, kind))


def bare(hint: Any) -> Any:
    """Return the hint without what does not matter for a value."""
    while True:
        origin = get_origin(hint)
        if origin in _WRAPPERS:
            hint = get_args(hint)[0]
        elif isinstance(hint, dataclasses.InitVar):
            hint = hint.type
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        elif isinstance(origin or hint, typing_extensions.TypeAliasType):
            hint = (origin or hint).__value__
        elif isinstance(hint, TypeVar):
            hint = bound_of(hint)
        elif hint is None:
            return type(None)
        elif hint is typing_extensions.LiteralString:
            return str
        elif hint is typing_extensions.Any or isinstance(hint, (str, typing.ForwardRef)):
            return Any
        else:
            return hint


def unpacked_keywords(hint: Any) -> dict[str, Any]:
    """Return the keyword arguments that ``**kwargs: Unpack[SomeTypedDict]`` takes, with their hints."""
    (inner, *_) = get_args(hint) or (None,)
    return typing.get_type_hints(inner) if typing_extensions.is_typeddict(inner) else {}


# ---------------------------------------------------------------- checks of values
def _instance(hint: Any, kind: type) -> Check | None:
    name = hint_name(hint)
    try:
        isinstance(None, kind)
    except Exception:  # noqa: BLE001  # a class of a kind that cannot be asked
        return None
    if kind in _NUMBERS:
        return _number(kind)
    inner = _inner_check(hint, kind)

    def check(value: Any) -> Mismatch | None:
        if not isinstance(value, kind):
            return Mismatch("", name, value)
        return inner(value) if inner else None

    return check


def _number(kind: type) -> Check:
    accepted = _NUMBERS[kind]

    def check(value: Any) -> Mismatch | None:
        if type(value) is kind or (isinstance(value, accepted) and not isinstance(value, bool)):
            return None
        return Mismatch("", kind.__name__, value)

    return check


def _inner_check(hint: Any, kind: type) -> Check | None:
    """Return the check of what a container of the right type holds."""
    args = get_args(hint)
    from_abc = kind.__module__ == "collections.abc"
    if kind is tuple and (args or hint == tuple[()]):
        return _tuple(hint, args)
    if kind is collections.Counter:
        args = (*args, int)[:2]
    if len(args) == 2 and (kind in _MAPPINGS or (from_abc and issubclass(kind, collections.abc.Mapping))):
        return _pairs(compile_check(args[0]), compile_check(args[1]))
    if len(args) == 1 and (kind in _COLLECTIONS or (from_abc and issubclass(kind, collections.abc.Iterable))):
        return _items(hint, compile_check(args[0]))
    return None


def _items(hint: Any, item_check: Check | None) -> Check | None:
    if item_check is None:
        return None
    name = hint_name(hint)

    def check(values: Any) -> Mismatch | None:
        if isinstance(values, str) and item_check(values):
            return Mismatch("", name, values)
        if isinstance(values, _READABLE):
            for position, item in enumerate(values):
                if wrong := item_check(item):
                    ordered = isinstance(values, (list, tuple, collections.deque))
                    return wrong.inside(f"[{position}]" if ordered else f" element {item!r}")
        return None

    return check


def _pairs(key_check: Check | None, value_check: Check | None) -> Check | None:
    if key_check is None and value_check is None:
        return None

    def check(pairs: Any) -> Mismatch | None:
        for key, item in pairs.items():
            if key_check and (wrong := key_check(key)):
                return wrong.inside(f" key {key!r}")
            if value_check and (wrong := value_check(item)):
                return wrong.inside(f"[{key!r}]")
        return None

    return check


def _tuple(hint: Any, args: tuple[Any, ...]) -> Check | None:
    if len(args) == 2 and args[1] is ...:
        return _items(hint, compile_check(args[0]))
    if any(get_origin(arg) is typing_extensions.Unpack for arg in args):
        return None
    checks = [] if args == ((),) else [compile_check(arg) for arg in args]  # ((),) is how Python 3.10 says tuple[()]
    return _items_by_position(hint_name(hint), checks)


def _items_by_position(name: str, checks: list[Check | None]) -> Check:
    def check(values: Any) -> Mismatch | None:
        if len(values) != len(checks):
            return Mismatch("", name, values)
        for position, (item_check, item) in enumerate(zip(checks, values, strict=True)):
            if item_check and (wrong := item_check(item)):
                return wrong.inside(f"[{position}]")
        return None

    return check


def _union(hint: Any) -> Check | None:
    checks = [compile_check(arg) for arg in get_args(hint)]
    if None in checks:
        return None
    name = hint_name(hint)

    def check(value: Any) -> Mismatch | None:
        wrongs = []
        for one in checks:
            wrong = one(value)  # type: ignore[misc]  # none of them is None
            if wrong is None:
                return None
            wrongs.append(wrong)
        # Say what is wrong inside where only one of the types is right outside.
        inner = [wrong for wrong in wrongs if wrong.path]
        return inner[0] if len(inner) == 1 else Mismatch("", name, value)

    return check


def _literal(hint: Any) -> Check:
    choices = get_args(hint)
    name = hint_name(hint)

    def check(value: Any) -> Mismatch | None:
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return None
        return Mismatch("", name, value)

    return check


def _class_of(hint: Any) -> Check:
    (wanted, *_) = get_args(hint) or (Any,)
    classes = tuple(get_origin(arg) or arg for arg in _alternatives(wanted))
    anything = Any in classes or not all(isinstance(cls, type) for cls in classes)
    name = hint_name(hint)

    def check(value: Any) -> Mismatch | None:
        if isinstance(value, type) and (anything or issubclass(value, classes)):
            return None
        return Mismatch("", name, value)

    return check


def _typed_dict(kind: Any) -> Check:
    hints = typing_extensions.get_type_hints(kind, include_extras=True)
    checks = {key: compile_check(hint) for key, hint in hints.items()}
    # Where annotations are strings, Python has not seen NotRequired and Required in them.
    required = [key for key, hint in hints.items() if _is_required(hint, key in kind.__required_keys__)]
    name = hint_name(kind)

    def check(value: Any) -> Mismatch | None:
        if not isinstance(value, dict):
            return Mismatch("", name, value)
        for key in required:
            if key not in value:
                return Mismatch("", f"{name} with the key {key!r}", value)
        for key, item in value.items():
            if key not in checks:
                return Mismatch("", f"{name}, which has no key {key!r}", value)
            if (one := checks[key]) and (wrong := one(item)):
                return wrong.inside(f"[{key!r}]")
        return None

    return check


def _is_required(hint: Any, otherwise: bool) -> bool:
    origin = get_origin(hint)
    return origin is typing_extensions.Required or (otherwise and origin is not typing_extensions.NotRequired)


def _protocol(kind: type) -> Check:
    members = typing_extensions.get_protocol_members(kind)
    name = hint_name(kind)

    def check(value: Any) -> Mismatch | None:
        # A configuration has attributes of its own; what counts is what it builds.
        if not isinstance(value, fdl.Buildable) and all(hasattr(value, member) for member in members):
            return None
        return Mismatch("", name, value)

    return check


# ---------------------------------------------------------------- configurations
def _or_configured(hint: Any, check: Check | None) -> Check | None:
    """Accept also a configuration of what fits."""
    if check is None:
        return None

    def check_or_configured(value: Any) -> Mismatch | None:
        wrong = check(value)
        if wrong and isinstance(value, fdl.Buildable) and _builds(value, hint):
            return None
        return wrong

    return check_or_configured


def _builds(node: fdl.Buildable[Any], hint: Any) -> bool:
    """Check whether what a configuration builds may fit; it does where that cannot be told."""
    kind = get_origin(hint) or hint
    if isinstance(node, fdl.Partial):
        return _class_fits(functools.partial, kind)
    return any(_hint_fits(given, kind) for given in _alternatives(returned_by(node.__fn_or_cls__)))


def _alternatives(hint: Any) -> list[Any]:
    """Return the types of a union, or the one type that it is."""
    hint = bare(hint)
    if get_origin(hint) not in UNIONS:
        return [hint]
    return [alternative for arg in get_args(hint) for alternative in _alternatives(arg)]


def _hint_fits(given: Any, kind: Any) -> bool:
    given = get_origin(given) or given
    if given is Any or given is object or not isinstance(given, type):
        return kind is not type or not isinstance(given, type)
    return _class_fits(given, kind)


def _class_fits(given: type, kind: Any) -> bool:
    if given is bool and kind in _NUMBERS:
        return False
    if kind in _NUMBERS:
        return issubclass(given, _NUMBERS[kind])
    if kind in LITERALS:
        return True
    if typing_extensions.is_typeddict(kind):
        return issubclass(given, dict)
    if not isinstance(kind, type):
        return True
    if typing_extensions.is_protocol(kind):
        # A member that is no method may be set in __init__, so it does not have to be there.
        methods = [name for name in typing_extensions.get_protocol_members(kind) if callable(getattr(kind, name, None))]
        return all(hasattr(given, name) for name in methods)
    try:
        return issubclass(given, kind)
    except TypeError:
        return True


# ---------------------------------------------------------------- words for messages
def hint_name(hint: Any) -> str:
    """Return a type hint as one would write it.

    Example:
        >>> hint_name(typing.Optional[list[typing.Union[int, str]]])
        'list[int | str] | None'
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is ...:
        return "..."
    if hint is None or hint is type(None):
        return "None"
    if origin in UNIONS:
        return " | ".join(hint_name(arg) for arg in args)
    if origin in _WRAPPERS:
        return hint_name(args[0])
    if origin in LITERALS:
        return f"Literal[{', '.join(map(repr, args))}]"
    if isinstance(hint, list):  # the arguments of a Callable
        return f"[{', '.join(map(hint_name, hint))}]"
    name = getattr(origin or hint, "__name__", None) or str(hint)
    if origin is tuple and args in {(), ((),)}:
        return "tuple[()]"
    return f"{name}[{', '.join(map(hint_name, args))}]" if args else name


def show(value: Any, limit: int = 80) -> str:
    """Return a value and its type, short enough for a message.

    Example:
        >>> show("abc")
        "'abc' (str)"
    """
    if isinstance(value, fdl.Buildable):
        return _show_node(value)
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not hide the message
        return f"a {type(value).__name__}"
    return f"{text if len(text) <= limit else text[:limit] + '…'} ({type(value).__name__})"


def _show_node(node: fdl.Buildable[Any]) -> str:
    target = node.__fn_or_cls__
    shown = f"{type(node).__name__}[{hint_name(target)}]"
    gives = returned_by(target)
    return shown if gives is target or gives is Any else f"{shown}, which gives {hint_name(gives)}"
