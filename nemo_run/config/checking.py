"""Checks of the arguments of a configuration, and the messages that say what is wrong with them."""

from __future__ import annotations

import functools
from typing import Any

import fiddle as fdl
from fiddle.history import Location

from nemo_run.config.changes import user_location
from nemo_run.config.leeway import find_mistake
from nemo_run.config.strictness import current_mode, warn_once
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import Target, target_of
from nemo_run.config.typecheck import Mismatch, hint_name, show
from nemo_run.errors import ConfigTypeError, MissingArgumentError, UnknownFieldError

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


def target_of_node(node: fdl.Buildable[Any]) -> Target:
    """Return what is known about a node's class or function."""
    info = node.__signature_info__
    if isinstance(info, Target):
        return info
    target = target_of(node.__fn_or_cls__)  # of plain fiddle, or unpickled, or given another callable by fiddle
    node.__dict__["__signature_info__"] = target
    return target


def name_of(node: fdl.Buildable[Any]) -> str:
    """Return the name of what a node configures."""
    target = node.__fn_or_cls__
    if isinstance(target, functools.partial):
        return f"partial({getattr(target.func, '__qualname__', target.func)})"
    return getattr(target, "__qualname__", None) or type(target).__qualname__


def bind(node: fdl.Buildable[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Any, Any]:
    """Return the arguments by name, or by position where they have no name.

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


def fits(node: fdl.Buildable[Any], key: str | int, value: Any) -> bool:
    """Check whether a value fits the type hint of an argument."""
    check = target_of_node(node).checks[key]
    return check is None or check(value) is None


def check_argument(node: fdl.Buildable[Any], key: str | int, value: Any, location: Location | None = None) -> bool:
    """Check a value that Python code sets, as strictly as :func:`nemo_run.config.validation` says.

    Returns:
        Whether it fits; where it does not, it is accepted all the same.

    Raises:
        ConfigTypeError: It is not accepted.
    """
    mode = current_mode()
    check = None if mode == "off" else target_of_node(node).checks[key]
    wrong = check(value) if check else None
    if wrong is None:
        return mode != "off"
    mistake = wrong if mode == "strict" else find_mistake(value, target_of_node(node).hint_of(key))
    if mistake:
        raise _wrong_type(node, key, mistake)
    message = f"{_misfit(node, key, wrong)}; it is accepted, as the type hint may be inexact"
    place = (str(getattr(node.__fn_or_cls__, "__module__", "")), name_of(node), str(key))
    warn_once(place, message, location or user_location())
    return False


def check_strictly(node: fdl.Buildable[Any], key: str | int, value: Any) -> None:
    """Check a value that stands in a file.

    Raises:
        ConfigTypeError: It does not fit.
    """
    check = target_of_node(node).checks[key]
    wrong = check(value) if check else None
    if wrong:
        raise _wrong_type(node, key, wrong)


def is_mistake(node: fdl.Buildable[Any], key: str | int, value: Any) -> bool:
    """Check whether a value cannot be meant for an argument."""
    return not fits(node, key, value) and bool(find_mistake(value, target_of_node(node).hint_of(key)))


def check_containers(node: fdl.Buildable[Any]) -> None:
    """Check the lists, dicts and other objects of a node again: they may have changed since they were set.

    Raises:
        ConfigTypeError: One does not fit any more.
    """
    if not getattr(node, "__validate__", False):
        return
    accepted = node.__accepted__
    for key, value in node.__arguments__.items():
        if type(value) not in _SCALARS and key not in accepted:
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
    """Return the error for an argument that does not exist, with the nearest names."""
    target = target_of_node(node)
    known = [parameter for parameter in target.parameters if parameter in target.keywords]
    return UnknownFieldError(f"{name_of(node)} has no argument {name!r}{did_you_mean(name, known)}")


def _wrong_type(node: fdl.Buildable[Any], key: str | int, wrong: Mismatch) -> ConfigTypeError:
    return ConfigTypeError(f"{_misfit(node, key, wrong)} (validate=False accepts any value)")


def _misfit(node: fdl.Buildable[Any], key: str | int, wrong: Mismatch) -> str:
    return f"{name_of(node)}{_step(key)}{wrong.path}: expected {wrong.expected}, got {show(wrong.value)}"


def _step(key: str | int) -> str:
    return f".{key}" if isinstance(key, str) else f"[{key}]"
