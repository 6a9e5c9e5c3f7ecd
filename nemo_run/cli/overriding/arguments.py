"""From command-line arguments to a configuration of a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fiddle as fdl

from nemo_run.cli.overriding.overrides import Overrider
from nemo_run.cli.overriding.parse import Override, is_override, parse_override, parse_value
from nemo_run.config.buildable import Config, Partial
from nemo_run.config.tree import nodes
from nemo_run.errors import OverrideError


def parse_cli_args(fn: Callable[..., Any] | fdl.Buildable[Any], args: Sequence[str], output_type: Any = Partial) -> Any:
    """Return a configuration of a function or class, from what was typed.

    Args:
        fn: The function or class, or a configuration, which is then changed.
        args: Values by position, then overrides.
        output_type: :class:`nemo_run.Partial` or :class:`nemo_run.Config`.

    Example:
        >>> import nemo_run as run
        >>> def train(size: int, rate: float = 0.1): ...
        >>> run.cli.parse_cli_args(train, ["3", "rate/=2"])
        <Partial[train(size=3, rate=0.05)]>

    Raises:
        OverrideError: Something typed cannot be read, or does not fit.
    """
    config = fn if isinstance(fn, fdl.Buildable) else output_type(fn)
    apply_arguments(config, args)
    return config


def parse_partial(fn: Callable[..., Any], *args: str) -> Any:
    """Return a :class:`nemo_run.Partial` of a function; see :func:`parse_cli_args`."""
    return parse_cli_args(fn, args, Partial)


def parse_config(fn: Callable[..., Any], *args: str) -> Any:
    """Return a :class:`nemo_run.Config` of a class or function; see :func:`parse_cli_args`."""
    return parse_cli_args(fn, args, Config)


def apply_arguments(config: fdl.Buildable[Any], args: Iterable[str]) -> None:
    """Apply what was typed to a configuration."""
    overrider_for(config).apply_all(as_overrides(config.__fn_or_cls__, args))


def overrider_for(config: fdl.Buildable[Any], known: Any = None) -> Overrider:
    """Return what applies overrides to a configuration.

    Args:
        config: The configuration. Functions in it may be named in files, too, as the code itself does.
        known: The function that it is for, if it was made by something else.
    """
    trusted = frozenset(node.__fn_or_cls__ for node in nodes(config))
    names = getattr(inspect.unwrap(known or config.__fn_or_cls__), "__globals__", {})
    return Overrider(config, names, trusted)


def as_overrides(fn: Any, args: Iterable[str]) -> list[Override]:
    """Return the arguments as overrides: those given by position by the names of the parameters.

    Raises:
        OverrideError: There are too many by position, or one comes after an override.
    """
    free = _names_by_position(fn)
    found: list[Override] = []
    by_position = 0
    for arg in args:
        if is_override(arg):
            found.append(parse_override(arg))
            continue
        if len(found) > by_position:
            raise OverrideError(f"{arg!r} comes after {found[-1].source!r}; give values without a name first")
        if by_position >= len(free):
            takes = f"the {len(free)} arguments {', '.join(free)}" if free else "no arguments"
            raise OverrideError(f"{arg!r} is one value too many; {fn.__name__} takes {takes}")
        found.append(Override(free[by_position], "=", parse_value(arg), arg))
        by_position += 1
    return found


def _names_by_position(fn: Any) -> list[str]:
    parameters = inspect.signature(fn).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "ctx"]
