"""Are the arguments of a configuration right? What is wrong with them, in words."""

from __future__ import annotations

import functools
from typing import Any

import fiddle as fdl

from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import Target, target_of
from nemo_run.config.typecheck import Mismatch, hint_name, show
from nemo_run.errors import ConfigTypeError, MissingArgumentError, UnknownFieldError

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


def target_of_node(node: fdl.Buildable[Any]) -> Target:
    """What is known about a node's class or function."""
    info = node.__signature_info__
    if isinstance(info, Target):
        return info
    target = target_of(node.__fn_or_cls__)  # of plain fiddle, or unpickled, or given another callable by fiddle
    node.__dict__["__signature_info__"] = target
    return target


def name_of(node: fdl.Buildable[Any]) -> str:
    """The name of what a node configures."""
    target = node.__fn_or_cls__
    if isinstance(target, functools.partial):
        return f"partial({getattr(target.func, '__qualname__', target.func)})"
    return getattr(target, "__qualname__", None) or type(target).__qualname__


def bind(node: fdl.Buildable[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Any, Any]:
    """The arguments by name, or by position where they have no name.

    Raises:
        UnknownFieldError: There is no such argument.
        ConfigTypeError: There are too many, or the same twice.
    """
    target = target_of_node(node)
    if not target.takes_any_keyword:
        for name in kwargs:
            if name not in target.keywords:
                raise unknown(node, name)
    if not args and target.keywords_only:
        return kwargs
    try:
        bound: dict[Any, Any] = target.signature_binding(node.__fn_or_cls__, *args, **kwargs)
    except TypeError as error:
        raise ConfigTypeError(f"{name_of(node)} cannot take these arguments: {error.__context__ or error}") from None
    return bound


def check_argument(node: fdl.Buildable[Any], key: str | int, value: Any) -> None:
    """Raise ConfigTypeError where a value does not fit."""
    check = target_of_node(node).checks[key]
    wrong = check(value) if check else None
    if wrong:
        raise _wrong_type(node, key, wrong)


def check_containers(node: fdl.Buildable[Any]) -> None:
    """Look again into the lists, dicts and other objects of a node: they may have changed since they were set."""
    for key, value in node.__arguments__.items():
        if type(value) not in _SCALARS:
            check_argument(node, key, value)


def check_complete(node: fdl.Buildable[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise MissingArgumentError where the target cannot be called with these arguments."""
    target = target_of_node(node)
    if target.keywords_only and not args:
        missing = [name for name in target.required if name not in kwargs]
        if missing:
            needed = ", ".join(f"{name!r} ({hint_name(target.hints.get(name, Any))})" for name in missing)
            raise MissingArgumentError(f"{name_of(node)} needs a value for {needed}")
        return
    try:
        target.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise MissingArgumentError(f"{name_of(node)}: {error}") from None


def unknown(node: fdl.Buildable[Any], name: str) -> UnknownFieldError:
    """The error for an argument that does not exist, with the nearest names."""
    target = target_of_node(node)
    known = [parameter for parameter in target.parameters if parameter in target.keywords]
    return UnknownFieldError(f"{name_of(node)} has no argument {name!r}{did_you_mean(name, known)}")


def _wrong_type(node: fdl.Buildable[Any], key: str | int, wrong: Mismatch) -> ConfigTypeError:
    where = f".{key}" if isinstance(key, str) else f"[{key}]"
    return ConfigTypeError(
        f"{name_of(node)}{where}{wrong.path}: expected {wrong.expected}, got {show(wrong.value)}"
        f" (validate=False accepts any value)"
    )
