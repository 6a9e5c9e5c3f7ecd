"""Functions that return objects, turned into functions that return configurations of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, overload

import fiddle as fdl
from fiddle.experimental import auto_config

from nemo_run.config.buildable import Config, Partial

P = ParamSpec("P")
T = TypeVar("T")


def default_autoconfig_buildable(
    fn: Callable[P, T],
    cls: type[Config[T]] | type[Partial[T]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Any:
    """Return the configuration of what a call would return, made with fiddle's auto_config."""
    configured = _rewritten(fn).as_buildable(*args, **kwargs)
    if isinstance(configured, list):
        return [fdl.cast(cls, item) for item in configured]
    return fdl.cast(cls, configured)


@functools.lru_cache(maxsize=512)
def _rewritten(fn: Callable[..., Any]) -> Any:
    return auto_config.auto_config(
        fn,
        experimental_allow_control_flow=False,
        experimental_allow_dataclass_attribute_access=True,
        experimental_exemption_policy=_is_called_as_written,
        experimental_config_types=auto_config.ConfigTypes(config_cls=Config, partial_cls=Partial),
    )


def _is_called_as_written(fn_or_cls: Any) -> bool:
    return fn_or_cls is Config or fn_or_cls is Partial or bool(getattr(fn_or_cls, "__auto_config__", False))


@overload
def autoconvert(fn: Callable[P, Config[T]], *, partial: bool = False) -> Callable[P, Config[T]]: ...
@overload
def autoconvert(fn: Callable[P, Partial[T]], *, partial: bool = False) -> Callable[P, Partial[T]]: ...
@overload
def autoconvert(fn: Callable[P, T], *, partial: bool = False) -> Callable[P, Config[T]]: ...
@overload
def autoconvert(*, partial: Literal[True]) -> Callable[[Callable[P, T]], Callable[P, Partial[T]]]: ...
@overload
def autoconvert(*, partial: Literal[False] = False) -> Callable[[Callable[P, T]], Callable[P, Config[T]]]: ...
def autoconvert(
    fn: Callable[..., Any] | None = None,
    *,
    partial: bool = False,
    to_buildable_fn: Callable[..., Any] = default_autoconfig_buildable,
) -> Callable[..., Any]:
    """Turn a function that returns objects into one that returns configurations of them, nested ones too.

    Calls in the function make a Config instead of an object, so it must be written without loops and conditions.

    Args:
        fn: The function. Without it, a decorator is returned.
        partial: Return a Partial rather than a Config.
        to_buildable_fn: What does the conversion.

    Example:
        >>> from nemo_run.config import autoconvert
        >>> @autoconvert
        ... def small_complex(imag: float = 2) -> complex:
        ...     return complex(real=1, imag=imag)
        >>> small_complex()
        <Config[complex(real=1, imag=2)]>
    """

    def convert(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def configured(*args: Any, **kwargs: Any) -> Any:
            return to_buildable_fn(function, Partial if partial else Config, *args, **kwargs)

        configured.wrapped = function  # type: ignore[attr-defined]
        configured.__auto_config__ = True  # type: ignore[attr-defined]
        return configured

    return convert if fn is None else convert(fn)
