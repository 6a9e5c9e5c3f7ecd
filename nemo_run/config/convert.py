"""From plain data to objects, and from objects to configurations."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from nemo_run.config.hints import all_hints
from nemo_run.config.names import get_underlying_types
from nemo_run.config.strictness import AsGiven
from nemo_run.config.suggest import did_you_mean
from nemo_run.errors import ConfigError, MissingArgumentError, UnknownFieldError

T = TypeVar("T")

_LEAVES = frozenset({str, int, float, bool, bytes, complex, type(None)})


# ---------------------------------------------------------------- plain data -> objects
def from_dict(raw_data: dict[str, Any] | list[Any] | str | float | bool, cls: type[T]) -> T:
    """Make an object of a dataclass, and of those in its fields, from dicts and lists.

    Example:
        >>> @dataclasses.dataclass
        ... class Model:
        ...     size: int
        ...     bias: bool = True
        >>> from_dict({"size": 3}, Model)
        Model(size=3, bias=True)
    """
    loaded: T = _load(raw_data, cls)
    return loaded


def _load(raw: Any, hint: Any) -> Any:
    if isinstance(raw, dict):
        choices = get_underlying_types(hint) - {type(None)}
        if len(choices) != 1:
            raise ConfigError(f"cannot tell which type of {hint} a dict stands for; give one type, or that type | None")
        hint = choices.pop()
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return hint(**_load_fields(raw, hint))
    if isinstance(raw, list):
        element = next(iter(get_args(hint)), Any)
        return [_load(item, element) for item in raw]
    return raw


def _load_fields(raw: dict[str, Any], cls: type) -> dict[str, Any]:
    hints = all_hints(cls)
    _check_fields(raw, cls)
    return {name: _load(value, hints.get(name, Any)) for name, value in raw.items()}


def _check_fields(raw: dict[str, Any], cls: Any) -> None:
    """Check that the data has values for fields of the class only, and for all that have no default."""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in raw:
        if name not in fields:
            raise UnknownFieldError(f"{cls.__qualname__} has no field {name!r}{did_you_mean(name, fields)}")
    needed = (name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING)
    for name in needed:
        if name not in raw:
            raise MissingArgumentError(f"{cls.__qualname__} needs a value for {name!r}; the data has {sorted(raw)}")


# ---------------------------------------------------------------- objects -> configurations
def dataclass_to_config(instance: Any, config_type: Callable[..., Any]) -> Any:
    """Return a configuration that builds an object equal to a dataclass instance.

    Args:
        instance: The dataclass instance; those inside it become configurations too.
        config_type: What makes a configuration: :class:`nemo_run.Config`.
    """
    try:
        config = _convert_fields(instance, config_type, {id(instance): (instance, _UNFINISHED)})
    except _CycleError:
        config = instance
    if config is instance:
        raise NotImplementedError(
            f"{type(instance).__qualname__} cannot be made again from its fields, as its __init__ takes other "
            f"arguments or it holds itself: override to_config() in it"
        )
    return config


def dataclasses_to_configs(value: Any, config_type: Callable[..., Any]) -> Any:
    """Return a copy of ``value`` with each dataclass instance in it, at any depth, as a configuration.

    An instance that its fields do not suffice to make again (it has an own ``__init__``, or an ``InitVar``) stays as it
    is. So does every container that holds no instance, and everything where an object holds itself.
    """
    if type(value) in _LEAVES:
        return value
    try:
        return _convert(value, config_type, {})
    except _CycleError:
        return value


class _CycleError(Exception):
    """An object holds itself."""


_UNFINISHED: Any = object()
# What has been converted: id -> (object, its conversion). The object is kept alive, so that its id stays its own.
_Done = dict[int, tuple[Any, Any]]


def _convert(value: Any, config_type: Callable[..., Any], done: _Done) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if id(value) in done:
        if done[id(value)][1] is _UNFINISHED:
            raise _CycleError
        return done[id(value)][1]
    done[id(value)] = (value, _UNFINISHED)
    result = _convert_inside(value, kind, config_type, done)
    done[id(value)] = (value, result)
    return result


def _convert_inside(value: Any, kind: type, config_type: Callable[..., Any], done: _Done) -> Any:
    if kind is list or kind is tuple:
        items = _converted_items(value, config_type, done)
        return value if items is None else kind(items)
    if kind is dict:
        items = _converted_items([*value.values()], config_type, done)
        return value if items is None else dict(zip(value, items, strict=True))
    if hasattr(kind, "__dataclass_fields__") and not isinstance(value, (type, enum.Enum)):
        return _convert_instance(value, config_type, done)
    return value


def _converted_items(values: Sequence[Any], config_type: Callable[..., Any], done: _Done) -> list[Any] | None:
    """Return the values converted; None where all of them stay as they are."""
    items = [_convert(item, config_type, done) for item in values]
    return items if any(map(operator.is_not, items, values)) else None


def _convert_instance(value: Any, config_type: Callable[..., Any], done: _Done) -> Any:
    own_config = getattr(type(value), "_own_config", None)  # of ConfigurableMixin
    config = own_config(value) if own_config else None
    return _convert_fields(value, config_type, done) if config is None else config


def _convert_fields(value: Any, config_type: Callable[..., Any], done: _Done) -> Any:
    kind: type = type(value)
    names = _fields(kind)
    if names is None:
        return value
    fields = {name: _convert(getattr(value, name), config_type, done) for name in names}
    if hasattr(kind, "__post_init__"):  # it may have put something else there than the hints say
        fields = {name: AsGiven(field) for name, field in fields.items()}
    return config_type(kind, **fields)


@functools.lru_cache(maxsize=512)
def _fields(kind: type) -> list[str] | None:
    """Return the fields that make an object of a dataclass; None where it has an own ``__init__``, or an InitVar."""
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    return names if set(names) == set(inspect.signature(kind).parameters) else None
