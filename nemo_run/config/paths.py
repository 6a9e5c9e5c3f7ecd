"""Places in a configuration, written as ``model.layers[2].size`` or ``data['train'].path``."""

from __future__ import annotations

import ast
import copy
import re
from typing import Any, NamedTuple

import fiddle as fdl

from nemo_run.config.buildable import Config
from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.target import target_of
from nemo_run.config.typecheck import show
from nemo_run.errors import (
    ConfigError,
    ConfigPathError,
    ConfigTypeError,
    UnknownFieldError,
    UnknownPathError,
    WrongTypeAtPathError,
)

# A program that sets a value at a path catches one kind of error.
_AT_PATH: dict[type[ConfigError], type[ConfigError]] = {
    ConfigTypeError: WrongTypeAtPathError,
    UnknownFieldError: UnknownPathError,
}

_STEP = re.compile(
    r"(?:^|\.)(?P<name>[^\W\d]\w*)"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[(?P<key>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\]"
)


class PathStep(NamedTuple):
    """One step of a path: ``.key``, or ``[key]``."""

    key: str | int
    in_brackets: bool

    def __str__(self) -> str:
        return f"[{self.key!r}]" if self.in_brackets else f".{self.key}"


def parse_path(path: str) -> list[PathStep]:
    """Return the steps of a path.

    Example:
        >>> [str(step) for step in parse_path("model.layers[2]['a b']")]
        ['.model', '.layers', '[2]', "['a b']"]
    """
    steps = []
    text = path.removeprefix(".")
    position = 0
    while position < len(text):
        found = _STEP.match(text, position)
        if not found:
            raise ConfigPathError(
                f"cannot read the path {path!r} from {text[position:]!r} on; "
                f"write it like model.layers[2].size or data['train'].path"
            )
        key = found["name"] or (int(found["index"]) if found["index"] else ast.literal_eval(found["key"]))
        steps.append(PathStep(key, in_brackets=not found["name"]))
        position = found.end()
    if not steps:
        raise ConfigPathError("the path is empty; write it like model.layers[2].size")
    return steps


def get_value(cfg: Any, key: str) -> Any:
    """Return what is at a path.

    Example:
        >>> import nemo_run as run
        >>> get_value(run.Config(dict, layers=[run.Config(dict, size=1)]), "layers[0].size")
        1
    """
    value = cfg
    for step in parse_path(key):
        value = _get(value, step)
    return value


def set_value(cfg: fdl.Buildable[Any], key: str, value: Any) -> None:
    """Set what is at a path; it is checked as an assignment is.

    Where the path leads through an argument that still has its default, the default is set first, a dataclass instance
    as a configuration. Lists, tuples and dicts on the way to the value are replaced by changed copies.

    Example:
        >>> import nemo_run as run
        >>> cfg = run.Config(dict, layers=[run.Config(dict, size=1)])
        >>> set_value(cfg, "layers[0].size", 4)
        >>> cfg.layers[0].size
        4
    """
    try:
        _put(cfg, parse_path(key), value)
    except ConfigError as error:
        raise _AT_PATH.get(type(error), type(error))(f"{key}: {error}") from None


def _put(holder: Any, steps: list[PathStep], value: Any) -> Any:
    """Return the holder with the value in its place: itself, or a copy where it is a list, tuple or dict."""
    step, *rest = steps
    if rest:
        is_default = isinstance(holder, fdl.Buildable) and step.key not in holder.__arguments__
        child = _default(holder, step) if is_default else _get(holder, step)
        changed = _put(child, rest, value)
        if changed is child and not is_default:
            return holder
        value = changed
    try:
        return _with(holder, step, value)
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigPathError(f"nothing can be put at {step} of {show(holder)}: {error}") from None


def _get(holder: Any, step: PathStep) -> Any:
    key = step.key
    try:
        if isinstance(holder, fdl.Buildable) and isinstance(key, str):
            return holder.__getattr__(key)  # an argument, never a method
        if step.in_brackets or isinstance(holder, dict):
            return holder[key]
        return getattr(holder, str(key) if _is_public(key) else "")  # nothing is called ""
    except (LookupError, AttributeError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigPathError(f"there is no {step} in {show(holder)}") from None


def _default(node: fdl.Buildable[Any], step: PathStep) -> Any:
    """Return a copy of the default of an argument, to be changed; a dataclass instance as a configuration."""
    factory = target_of(node.__fn_or_cls__).factories.get(str(step.key))
    default = factory() if factory else copy.deepcopy(_get(node, step))
    return dataclasses_to_configs(default, Config)


def _is_public(key: str | int) -> bool:
    return not str(key).startswith("_")


def _with(holder: Any, step: PathStep, value: Any) -> Any:
    key = step.key
    if isinstance(holder, (list, dict)):
        holder = copy.copy(holder)
        holder[key] = value
    elif isinstance(holder, tuple):
        holder = _tuple_with(holder, key, value)
    elif isinstance(key, int):
        holder[key] = value
    elif isinstance(holder, fdl.Buildable) or (_is_public(key) and hasattr(holder, key)):
        setattr(holder, key, value)
    else:
        raise KeyError(key)
    return holder


def _tuple_with(holder: tuple[Any, ...], key: str | int, value: Any) -> tuple[Any, ...]:
    """Return a copy of a tuple, or of a named tuple, with another element."""
    fields = getattr(holder, "_fields", ())
    items = list(holder)
    items[fields.index(key) if isinstance(key, str) else key] = value
    return type(holder)(*items) if fields else type(holder)(items)
