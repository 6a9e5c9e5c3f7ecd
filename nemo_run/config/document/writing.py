"""From a configuration to a document."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import inspect
import io
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import fiddle as fdl

from nemo_run.config.checking import fits
from nemo_run.config.document.layout import (
    ARGS,
    AS_GIVEN,
    BUILDABLE,
    CALLABLE,
    CLASS,
    CONVERT,
    EXISTING,
    OBJECT,
    PARTIAL,
    REFERENCES,
    RESERVED,
    TARGET,
    VALUES,
    RefusedError,
    is_unicode,
    path_text,
    shown,
    spell_out,
)
from nemo_run.config.document.symbols import name_of, type_name
from nemo_run.config.document.values import BY_TYPE, MUTABLE, ValueType, is_torch_dtype, value_type
from nemo_run.config.kinds import registered
from nemo_run.config.target import Target, target_of
from nemo_run.config.tree import ordered_arguments
from nemo_run.errors import SerializationError

_SCALARS = frozenset({int, float, bool, type(None)})


def to_document(value: Any, *, reference: Callable[[Any], str] = name_of, mark: bool = False) -> Any:
    """Write a configuration, or any value that one may hold, as a plain document.

    Args:
        value: The configuration.
        reference: Gives the name under which a class or function is stored; raises :class:`SerializationError` for one
            that has none.
        mark: Mark the values that do not fit their type hints, so that they are accepted when the document is loaded
            with ``validate=True``.

    Example:
        >>> import nemo_run as run
        >>> to_document(run.Config(complex, 1.5))
        {'_target_': 'builtins.complex', 'real': 1.5}

    Raises:
        SerializationError: If something in it cannot be stored; the message has the path to it and what to do.
    """
    encoder = _Encoder(reference, mark)
    try:
        document = encoder.encode(value)
    except RefusedError as refused:
        raise SerializationError(refused.message()) from refused
    except RecursionError:
        raise SerializationError("cannot store this configuration: it is nested too deeply") from None
    return _link(document, {id(repeat.node): None for repeat in encoder.repeats}, []) if encoder.repeats else document


def check_storable(value: Any, *, reference: Callable[[Any], str] = name_of) -> None:
    """Raise :class:`SerializationError` if :func:`to_document` would; linear in the size of the configuration."""
    to_document(value, reference=reference)


@dataclasses.dataclass(frozen=True)
class _Repeat:
    """Stands in a document for a node that is elsewhere in it, until all paths are known."""

    node: Any


class _Encoder:
    def __init__(self, reference: Callable[[Any], str], mark: bool) -> None:
        self.reference = reference
        self.mark = mark
        self.names: dict[int, str] = {}
        self.nodes: dict[int, Any] = {}
        self.repeats: list[_Repeat] = []
        self.handlers: dict[type, Callable[[Any], Any]] = {
            str: spell_out,
            tuple: self.tuple,
            **dict.fromkeys(MUTABLE, functools.partial(self.once, encode=self.value)),
            list: functools.partial(self.once, encode=self.items),
            dict: functools.partial(self.once, encode=self.mapping),
            collections.OrderedDict: functools.partial(self.once, encode=self.pairs),
        }

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        handler = self.handlers.get(kind)
        if handler is None:
            handler = self.handlers[kind] = self.configured(kind) if issubclass(kind, fdl.Buildable) else self.value
        return handler(value)

    def configured(self, kind: type) -> Callable[[Any], Any]:
        """Return what encodes one class of configurations."""
        encode = functools.partial(
            self.buildable,
            partial=issubclass(kind, fdl.Partial),
            plain=kind in (fdl.Config, fdl.Partial, *registered()),
        )
        return functools.partial(self.once, encode=encode)

    def once(self, value: Any, encode: Callable[[Any], Any]) -> Any:
        """Encodes a node, or points to where that was done."""
        key = id(value)
        if key in self.nodes:
            node = self.nodes[key]
            if node is None:
                raise RefusedError("it contains itself; break the cycle")
            self.repeats.append(_Repeat(node))
            return self.repeats[-1]
        self.nodes[key] = None
        node = self.nodes[key] = encode(value)
        return node

    def items(self, values: Iterable[Any]) -> list[Any]:
        result: list[Any] = []
        try:
            result.extend(map(self.encode, values))
        except RefusedError as refused:
            refused.path.append(len(result))
            raise
        return result

    def fields(self, values: Iterable[tuple[str, Any]], node: dict[str, Any]) -> dict[str, Any]:
        name = ""
        try:
            for name, value in values:
                node[name] = self.encode(value)
        except RefusedError as refused:
            refused.path.append(name)
            raise
        return node

    def mapping(self, value: dict[Any, Any]) -> dict[str, Any]:
        if RESERVED.isdisjoint(value) and all(type(key) is str and is_unicode(key) for key in value):
            return self.fields(value.items(), {})
        return self.pairs(value)

    def pairs(self, value: dict[Any, Any]) -> dict[str, Any]:
        """Return a dict that no JSON object can be: keys are not strings, or are reserved, or their order counts."""
        pairs: list[Any] = []
        key = None
        try:
            for key, item in value.items():
                pairs.append([self.encode(key), self.encode(item)])  # the key is for the path
        except RefusedError as refused:
            refused.path.append(key)
            raise
        return {TARGET: BY_TYPE[type(value)].target, ARGS: [pairs]}

    def tuple(self, value: tuple[Any, ...]) -> Any:
        constant = all(type(item) in _SCALARS or type(item) is str for item in value)
        return self.value(value) if constant else self.once(value, self.value)

    def value(self, value: Any) -> Any:
        entry = value_type(value)
        if entry is not None:
            return self.call(entry, value)
        if isinstance(value, enum.Enum):
            return self.enum_member(value)
        if isinstance(value, type):
            return {TARGET: CLASS, "path": self.name(value)}
        if is_torch_dtype(value):
            return {TARGET: OBJECT, "path": str(value)}
        if isinstance(value, (functools.partial, tuple)) or dataclasses.is_dataclass(value):
            return self.once(value, self.existing)
        if _is_function(value):
            return {TARGET: CALLABLE, "path": self.name(value)}
        raise RefusedError(_why_not(value))

    def existing(self, value: Any) -> dict[str, Any]:
        """Return an object by its parts: a partial, a named tuple, or an instance of a dataclass."""
        if isinstance(value, functools.partial):
            node = {TARGET: self.name(value.func), PARTIAL: True, CONVERT: EXISTING}
            if value.args:
                node[ARGS] = self.items(value.args)
            return self.fields(value.keywords.items(), node)
        node = {TARGET: self.name(type(value)), CONVERT: EXISTING}
        if hasattr(value, "_fields"):
            return {**node, ARGS: self.items(value)}
        return self.fields(((name, getattr(value, name)) for name in _names_of_fields(value)), node)

    def call(self, entry: ValueType, value: Any) -> dict[str, Any]:
        try:
            arguments = list(entry.arguments(value))
        except ValueError as error:
            raise RefusedError(f"cannot store {shown(value)}: {error}") from error
        encoded = [self.items(item) if type(item) is list else self.encode(item) for item in arguments]  # lists of ours
        return {TARGET: entry.target, ARGS: encoded} if encoded else {TARGET: entry.target}

    def enum_member(self, value: enum.Enum) -> dict[str, Any]:
        name = self.name(type(value))
        if value.name in type(value).__members__:
            return {TARGET: OBJECT, "path": f"{name}.{value.name}"}
        return {TARGET: name, CONVERT: EXISTING, ARGS: [self.encode(value.value)]}  # flags combined with |

    def name(self, symbol: Any) -> str:
        name = self.names.get(id(symbol))
        if name is None:
            try:
                name = self.names[id(symbol)] = self.reference(symbol)
            except SerializationError as error:
                raise RefusedError(f"cannot store {shown(symbol)}: {error}") from error
        return name

    def buildable(self, config: fdl.Buildable[Any], partial: bool, plain: bool) -> dict[str, Any]:
        target, positional, arguments = _call(config)
        if not RESERVED.isdisjoint(arguments):
            raise RefusedError(f"an argument cannot be named {min(RESERVED & set(arguments))!r}; rename it")
        node: dict[str, Any] = {TARGET: self.name(target)}
        if partial or _looks_like_value(node[TARGET], arguments):
            node[PARTIAL] = partial
        if positional:
            node[ARGS] = self.items(positional)
        self.fields(arguments.items(), node)
        if self.mark:
            _mark(node, config, positional, arguments)
        tags = own_tags(config)
        return node if plain and not tags else self.wrapped(node, None if plain else type(config), tags)

    def wrapped(self, node: dict[str, Any], kind: type | None, tags: Mapping[Any, set[type]]) -> dict[str, Any]:
        outer: dict[str, Any] = {TARGET: BUILDABLE, ARGS: [node]}
        if kind:
            outer["type"] = {TARGET: CLASS, "path": self.name(kind)}
        if tags:
            outer["tags"] = {
                str(argument): [{TARGET: CLASS, "path": name} for name in sorted(self.name(tag) for tag in found)]
                for argument, found in sorted(tags.items(), key=str)
            }
        return outer


def _mark(node: dict[str, Any], config: fdl.Buildable[Any], positional: list[Any], named: dict[str, Any]) -> None:
    """Put :data:`AS_GIVEN` around what does not fit its type hint."""
    if isinstance(config.__fn_or_cls__, functools.partial):
        return
    for index, value in enumerate(positional):
        if not fits(config, index, value):
            node[ARGS][index] = {TARGET: AS_GIVEN, ARGS: [node[ARGS][index]]}
    for name, value in named.items():
        if not fits(config, name, value):
            node[name] = {TARGET: AS_GIVEN, ARGS: [node[name]]}


def _looks_like_value(target: str, arguments: Mapping[str, Any]) -> bool:
    """Check whether a configuration of this would be read as a value."""
    return target in REFERENCES or (target in VALUES and not arguments)


def _is_function(value: Any) -> bool:
    return callable(value) and (hasattr(value, "__qualname__") or hasattr(value, "__name__"))


def _call(config: fdl.Buildable[Any]) -> tuple[Any, list[Any], dict[str, Any]]:
    """Return what is called, with which arguments by position and by name."""
    target: Any = config.__fn_or_cls__
    positional, named = call_arguments(config)
    if isinstance(target, functools.partial):  # what it has bound comes first, as in a call of it
        return target.func, [*target.args, *positional], {**target.keywords, **named}
    return target, positional, named


def call_arguments(config: fdl.Buildable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what the target is called with, by position and by name; names in the order of its signature."""
    target = target_of(config.__fn_or_cls__)
    arguments: dict[Any, Any] = dict(ordered_arguments(config))
    _keep_defaults(target, arguments)
    positions = [name for name in arguments if type(name) is int]
    if not positions:
        return [], arguments
    positional, named = target.transform_to_args_kwargs(arguments, include_no_value=True)
    if target.var_positional_start not in arguments:  # what comes after the last one given are defaults
        positional = positional[: max(positions) + 1]
    if any(value is fdl.NO_VALUE for value in positional):
        raise RefusedError("a positional argument has no value, though a later one has; set it, too")
    return positional, named


def _names_of_fields(value: Any) -> list[str]:
    """Return the fields of an instance of a dataclass that can be made again from them."""
    if not dataclasses.is_dataclass(value):
        raise RefusedError(_why_not(value))
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    extra = sorted(set(getattr(value, "__dict__", ())) - set(names))
    if extra:
        raise RefusedError(
            f"cannot store this {type_name(type(value))}: it has attributes that are not fields of the "
            f"dataclass ({', '.join(extra)}); pass run.Config({type(value).__name__}, ...) instead"
        )
    return names


def _keep_defaults(target: Target, arguments: dict[Any, Any]) -> None:
    """Add the defaults in whose place loading would fill in a configuration."""
    for name in target.default_configs:
        default = target.parameters[name].default
        if name not in arguments and default is not inspect.Parameter.empty:
            arguments[name] = default


def own_tags(config: fdl.Buildable[Any]) -> dict[Any, set[Any]]:
    """Return the tags of the arguments, but for those that the signature gives."""
    given = target_of(config.__fn_or_cls__).tags
    return {name: tags for name, tags in config.__argument_tags__.items() if tags and tags != set(given.get(name, ()))}


def _link(node: Any, paths: dict[int, list[str | int] | None], path: list[str | int]) -> Any:
    """Put the path of a node wherever it is repeated; a node comes before its repetitions."""
    if isinstance(node, _Repeat):
        return f"${{{path_text(paths[id(node.node)] or ())}}}"
    if id(node) in paths:
        paths[id(node)] = list(path)
    if isinstance(node, (dict, list)):
        for step in node if isinstance(node, dict) else range(len(node)):
            child = node[step]
            if isinstance(child, (dict, list, _Repeat)):
                path.append(step)
                node[step] = _link(child, paths, path)
                path.pop()
    return node


def _why_not(value: Any) -> str:
    kind = type_name(type(value))
    if isinstance(value, types.ModuleType):
        return f"cannot store the module {value.__name__!r}; pass its name, or a function or class of it"
    if isinstance(value, io.IOBase):
        return "cannot store an open file; pass its path, and open it in the task"
    if kind in ("torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray"):
        return f"cannot store a {kind}; pass a list of numbers, the path of a file, or a Config that builds it"
    name = type(value).__name__
    return (
        f"cannot store {shown(value)} of type {kind}; pass run.Config({name}, ...), built when the task runs, or plain "
        "values"
    )
