"""From a document to a configuration."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
from collections.abc import Callable
from typing import Any

import fiddle as fdl
from fiddle.config import BuildableTraverserMetadata

from nemo_run.config.checking import check_strictly
from nemo_run.config.document.layout import (
    ARGS,
    AS_GIVEN,
    BUILDABLE,
    CALL,
    CONVERT,
    EXISTING,
    PARTIAL,
    RECURSIVE,
    REFERENCES,
    RESERVED,
    TARGET,
    RefusedError,
    reference_path,
    shown,
    unescape,
)
from nemo_run.config.document.symbols import resolve as resolve_name, type_name
from nemo_run.config.document.values import BY_TARGET, ValueType, is_torch_dtype
from nemo_run.config.kinds import kind_for
from nemo_run.config.strictness import AsGiven
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import Target, target_of
from nemo_run.errors import ConfigError, SerializationError, UnknownFieldError


def from_document(document: Any, *, resolve: Callable[[str], Any] = resolve_name, validate: bool = False) -> Any:
    """Read what :func:`to_document` has written, or a configuration written for Hydra.

    Each class and function that the document names is imported; none is called.

    Args:
        document: The document.
        resolve: Gives the object that a name refers to; raises :class:`SerializationError` if there is none.
        validate: Check each argument against its type hint. What was valid when it was stored need not be.

    Example:
        >>> from_document({"_target_": "datetime.timezone", "_partial_": False}).__fn_or_cls__
        <class 'datetime.timezone'>

    Raises:
        SerializationError: If it is not such a document, or something that it names is not there.
        UnknownFieldError: If it gives an argument that its target does not have.
        ConfigTypeError: If ``validate`` is set, and an argument does not fit its type hint.
    """
    decoder = _Decoder(document, resolve, validate)
    try:
        return decoder.decode(document)
    except RefusedError as refused:
        raise refused.error(refused.message()) from refused.__cause__
    except RecursionError:
        raise SerializationError("cannot load this configuration: it is nested too deeply") from None


_NOWHERE = object()


class _Decoder:
    def __init__(self, document: Any, resolve: Callable[[str], Any], validate: bool) -> None:
        self.document = document
        self.validate = validate
        self.resolve = resolve
        self.symbols: dict[str, Any] = {}
        self.done: dict[int, Any] = {}  # what has been read, by the identity of its document
        self.shared: set[int] = set()  # of these, what is referred to

    def decode(self, document: Any) -> Any:
        kind = type(document)
        if kind is str:
            return self.text(document) if "${" in document else document
        if kind is not dict and kind is not list:
            return document
        key = id(document)
        if key in self.shared:
            return self.once(document)
        result = self.done[key] = self.container(document)
        return result

    def container(self, document: Any) -> Any:
        if type(document) is list:
            return self.items(document)
        return self.node(document) if TARGET in document else self.fields(document)

    def text(self, text: str) -> Any:
        path = reference_path(text)
        try:
            found = functools.reduce(operator.getitem, path, self.document) if path else _NOWHERE
        except (KeyError, IndexError, TypeError):  # not a path in this document: just text
            found = _NOWHERE
        return unescape(text) if found is _NOWHERE else self.once(found)

    def once(self, document: Any) -> Any:
        """Read something that is referred to, unless that has been done."""
        key = id(document)
        self.shared.add(key)
        if key not in self.done:
            self.done[key] = _NOWHERE
            self.done[key] = self.container(document) if type(document) in (dict, list) else self.decode(document)
        if self.done[key] is _NOWHERE:
            raise RefusedError("this reference leads back to itself; break the cycle")
        return self.done[key]

    def items(self, documents: list[Any]) -> list[Any]:
        result: list[Any] = []
        try:
            result.extend(map(self.decode, documents))
        except RefusedError as refused:
            refused.path.append(len(result))
            raise
        return result

    def fields(self, document: dict[str, Any], skip: frozenset[str] = frozenset()) -> dict[str, Any]:
        result: dict[str, Any] = {}
        name = ""
        try:
            for name, value in document.items():
                if name not in skip:
                    result[name] = self.decode(value)
        except RefusedError as refused:
            refused.path.append(name)
            raise
        return result

    def symbol(self, name: Any) -> Any:
        if type(name) is not str:
            raise RefusedError(f"{shown(name)} is not the dotted name of a class or function")
        if name not in self.symbols:
            try:
                self.symbols[name] = self.resolve(name)
            except SerializationError as error:
                raise RefusedError(str(error)) from error
        return self.symbols[name]

    def node(self, document: dict[str, Any]) -> Any:
        target = document[TARGET]
        if not isinstance(document.get(PARTIAL, False), bool) or not document.get(RECURSIVE, True):
            raise RefusedError("`_partial_` must be true or false, and `_recursive_`, if given, true")
        if document.get(CALL, True) is False:  # as NeMo-Run has written classes and functions
            return self.referred(target)
        found = _NOWHERE if PARTIAL in document else self.other_than_config(document)
        if found is _NOWHERE and document.get(CONVERT) == EXISTING:
            found = self.existing(document)
        return self.config(document) if found is _NOWHERE else found

    def other_than_config(self, document: dict[str, Any]) -> Any:
        """Return what is no plain configuration: a value, a reference, or a configuration with more to say of it."""
        target, names = document[TARGET], document.keys() - RESERVED
        if target in BY_TARGET and not names:
            return self.value(BY_TARGET[target], document)
        if target in REFERENCES and names == {"path"}:
            return self.referred(document["path"])
        if target == BUILDABLE and ARGS in document:
            return self.wrapped(document)
        return self.decode(document[ARGS][0]) if _is_marked(document) else _NOWHERE

    def arguments(self, document: dict[str, Any]) -> list[Any]:
        arguments = document.get(ARGS, [])
        if type(arguments) is not list:
            raise RefusedError("`_args_` must be a list")
        return self.items(arguments)

    def value(self, entry: ValueType, document: dict[str, Any]) -> Any:
        arguments = self.arguments(document)
        try:
            return entry.load(arguments)
        except (TypeError, ValueError, ArithmeticError, LookupError, SerializationError) as error:
            raise RefusedError(f"{entry.target} cannot be built from {shown(arguments)}: {error}") from error

    def referred(self, path: Any) -> Any:
        found = self.symbol(path)
        if isinstance(found, (type, enum.Enum)) or callable(found) or is_torch_dtype(found):
            return found
        raise RefusedError(f"{path!r} is neither a class, a function nor an enum member, so it is not read")

    def existing(self, document: dict[str, Any]) -> Any:
        """Return the object that is stored as such; nowhere if this is a configuration after all."""
        target, names = self.symbol(document[TARGET]), document.keys() - RESERVED
        if document.get(PARTIAL):
            return functools.partial(target, *self.arguments(document), **self.fields(document, RESERVED))
        if not isinstance(target, type):
            return _NOWHERE
        if dataclasses.is_dataclass(target) and names == {field.name for field in dataclasses.fields(target)}:
            return _instance(target, self.fields(document, RESERVED))
        arguments = self.arguments(document)
        if issubclass(target, tuple) and len(getattr(target, "_fields", ())) == len(arguments):
            return tuple.__new__(target, arguments)
        return target(arguments[0]) if _is_flag(target) and len(arguments) == 1 else _NOWHERE

    def wrapped(self, document: dict[str, Any]) -> Any:
        arguments = document.get(ARGS)
        if type(arguments) is not list or len(arguments) != 1 or type(arguments[0]) is not dict:
            raise RefusedError(f"{BUILDABLE} stands around one configuration")
        config = self.config(arguments[0], self.kind(document) if "type" in document else None)
        for name, tags in self.fields(document.get("tags", {})).items():
            config.__argument_tags__[int(name) if name.isdigit() else name] = set(tags)
        return config

    def kind(self, document: dict[str, Any]) -> type[fdl.Buildable[Any]]:
        kind = self.decode(document["type"])
        if not (isinstance(kind, type) and issubclass(kind, fdl.Buildable)):
            raise RefusedError(f"{shown(kind)} is not a class of configurations")
        return kind

    def config(self, document: dict[str, Any], kind: type[fdl.Buildable[Any]] | None = None) -> fdl.Buildable[Any]:
        name, target = document[TARGET], self.symbol(document[TARGET])
        known = self.signature(name, target)
        positional = [_marked(*pair) for pair in zip(document.get(ARGS, ()), self.arguments(document), strict=True)]
        named = {key: _marked(document[key], value) for key, value in self.fields(document, RESERVED).items()}
        arguments = self.bound(known, target, positional, named, name)
        if kind is None:
            kind = kind_for(partial=bool(document.get(PARTIAL)))
            for argument, (default_kind, default) in known.default_configs.items():
                arguments.setdefault(argument, default_kind(default))
        tags = {argument: frozenset(found) for argument, found in known.tags.items()}
        if not self.validate:
            return _unchecked(kind, target, arguments, tags)
        config = kind.__unflatten__((), BuildableTraverserMetadata(target, (), tags))
        self.fill(config, arguments)
        return config

    def fill(self, config: fdl.Buildable[Any], arguments: dict[Any, Any]) -> None:
        try:
            for argument, value in arguments.items():
                self.put(config, argument, value)
        except ConfigError as error:
            raise RefusedError(str(error), type(error)) from error

    def put(self, config: fdl.Buildable[Any], argument: str | int, value: Any) -> None:
        """Set an argument, as fiddle's own setters do."""
        if not isinstance(value, AsGiven):
            check_strictly(config, argument, value)
        elif not hasattr(config, "__accepted__"):
            value = value.value
        config._arguments_set_value(argument, value)  # noqa: SLF001

    def signature(self, name: str, target: Any) -> Target:
        if not callable(target):
            raise RefusedError(f"{name!r} is {shown(target)}, which cannot be called")
        try:
            return target_of(target)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{name!r} does not tell its arguments, so it cannot be configured: {error}") from error

    def bound(
        self, known: Target, target: Any, positional: list[Any], named: dict[str, Any], name: str
    ) -> dict[str | int, Any]:
        """Return the arguments as a configuration keeps them: by name, or by position where they have none."""
        unknown = named.keys() - known.keywords
        if unknown and not known.takes_any_keyword:
            wrong = min(unknown)
            hint = did_you_mean(wrong, (argument for argument in known.parameters if argument in known.keywords))
            raise RefusedError(f"{name} has no argument {wrong!r}{hint}", UnknownFieldError)
        arguments: dict[str | int, Any] = {}
        arguments.update(named)
        if positional:
            try:
                arguments = known.signature_binding(target, *positional, **named)
            except TypeError as error:
                raise RefusedError(str(error)) from error
        return arguments


def _unchecked(
    kind: type[fdl.Buildable[Any]], target: Any, arguments: dict[str | int, Any], tags: dict[str, frozenset[Any]]
) -> fdl.Buildable[Any]:
    """Return a configuration whose arguments were accepted when they were stored, and are not checked again."""
    values = [value.value if isinstance(value, AsGiven) else value for value in arguments.values()]
    config = kind.__unflatten__(values, BuildableTraverserMetadata(target, tuple(arguments), tags))
    if hasattr(kind, "__accepted__"):
        config.__dict__["__accepted__"] = frozenset(arguments)
    return config


def _is_marked(document: Any) -> bool:
    """Check whether it is a value that was accepted although it does not fit its type hint."""
    if not isinstance(document, dict) or document.get(TARGET) != AS_GIVEN:
        return False
    arguments = document.get(ARGS)
    return isinstance(arguments, list) and len(arguments) == 1


def _marked(document: Any, value: Any) -> Any:
    return AsGiven(value) if _is_marked(document) else value


def _is_flag(kind: type) -> bool:
    """Check whether a class has flags, and no code of its own that makes more of them."""
    return issubclass(kind, enum.Flag) and "_missing_" not in vars(kind)


def _instance(kind: Any, fields: dict[str, Any]) -> Any:
    """Return an instance with these fields, made without running any code of its class."""
    try:
        instance = object.__new__(kind)
    except TypeError as error:
        raise RefusedError(f"cannot make a {type_name(kind)}: {error}") from error
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
    return instance
