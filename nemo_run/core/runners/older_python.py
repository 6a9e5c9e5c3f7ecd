"""Gives Python 3.9 what this package uses of newer ones: nodes and images may have no other for function tasks.

The bundle runs it before anything else. What is added was an error before, so that other code notices nothing of it.
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib.machinery
import itertools
import logging
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any


def complete() -> None:
    """Add what is missing to the modules of this process; nothing where this Python is new enough."""
    if hasattr(types, "UnionType"):
        return
    _add(types, NoneType=type(None), UnionType=type("UnionType", (), {}))
    _add(itertools, pairwise=_pairwise)
    builtins.zip = _Zip  # type: ignore[misc]
    dataclasses.dataclass = _dataclass
    dataclasses.field = _field
    absl: Any = types.ModuleType("absl")  # fiddle writes log lines with it, and newer ones are no text of this Python
    absl.logging, absl.__spec__ = logging, importlib.machinery.ModuleSpec("absl", None, is_package=True)
    sys.modules.setdefault("absl.logging", logging)
    sys.modules.setdefault("absl", absl)
    import typing_extensions

    names = ("Concatenate", "ParamSpec", "TypeAlias", "TypeGuard")
    _add(typing, **{name: getattr(typing_extensions, name) for name in names})


def _add(module: Any, **values: Any) -> None:
    for name, value in values.items():
        if not hasattr(module, name):
            setattr(module, name, value)


def _pairwise(values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    first, second = itertools.tee(values)
    next(second, None)
    return zip(first, second, strict=False)


class _Zip(builtins.zip):  # type: ignore[type-arg]
    """``zip`` that takes ``strict``, which only finds errors."""

    def __new__(cls, *parts: Iterable[Any], strict: object = False) -> Any:  # noqa: ARG004
        return super().__new__(cls, *parts)


_plain_dataclass = dataclasses.dataclass


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    """Make a dataclass; with ``kw_only``, fields without a default may follow those with one."""
    if cls is None:
        return lambda cls: _dataclass(cls, **options)
    options.pop("slots", None)
    options.pop("match_args", None)
    if options.pop("kw_only", False):
        for name, hint in vars(cls).get("__annotations__", {}).items():
            part = vars(cls).get(name)
            if isinstance(part, dataclasses.Field):
                has_none = part.init and part.default is part.default_factory is dataclasses.MISSING
            else:
                has_none = not hasattr(cls, name) and not str(hint).startswith(("ClassVar", "typing.ClassVar"))
                part = _plain_field()
            if has_none:
                part.default_factory = _Missing(f"{cls.__qualname__}.{name}")
                setattr(cls, name, part)
    return _plain_dataclass(cls, **options)


_plain_field: Any = dataclasses.field


def _field(**options: Any) -> Any:
    options.pop("kw_only", None)
    return _plain_field(**options)


class _Missing:
    """Stands for the default of a field that has none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> Any:
        raise TypeError(f"{self.name} is missing")
