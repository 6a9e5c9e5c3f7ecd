"""Fiddle without what it imports and hardly ever uses.

Importing fiddle imports libcst, which takes five times as long as fiddle itself, in every process that reads a
configuration. Fiddle uses it for one thing only: to find the source of a lambda that ``auto_config`` is to rewrite. It
also imports ``absl.logging``, a third of the rest, to report that it could not explain an error. So something stands
for each of them until it is really used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

_USER = "fiddle._src.experimental.auto_config"


class _Deferred(ModuleType):
    """Stands for a module; whatever is asked of it loads the real one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_load(self.__name__), name)


class _Visitor:
    """Stands for the base class that fiddle's visitor has."""


# What fiddle asks libcst for while it is imported.
_AT_IMPORT = {"CSTVisitor": _Visitor, "metadata": SimpleNamespace(PositionProvider=None)}


class _DeferredLibcst(_Deferred):
    """Stands for libcst, also while fiddle is imported."""

    def __getattr__(self, name: str) -> Any:
        if name in _AT_IMPORT and _USER in sys.modules and not hasattr(sys.modules[_USER], "_LambdaFinder"):
            return _AT_IMPORT[name]
        return getattr(_load_libcst(), name)


def _load(name: str) -> ModuleType:
    """Return the real module."""
    if isinstance(sys.modules.get(name), _Deferred):
        del sys.modules[name]
    return importlib.import_module(name)


def _load_libcst() -> ModuleType:
    """Return the real libcst, also in fiddle."""
    real = _load("libcst")
    user = sys.modules.get(_USER)
    finder = getattr(user, "_LambdaFinder", None)
    if user is not None and finder is not None and finder.__bases__ == (_Visitor,):
        finder.__bases__ = (real.CSTVisitor,)
        finder.METADATA_DEPENDENCIES = (real.metadata.PositionProvider,)
        vars(user)["cst"] = real
    return real


def lighten_fiddle() -> None:
    """Let something stand for what fiddle imports, unless that or fiddle is there already."""
    if "fiddle" not in sys.modules:
        _defer("libcst", _DeferredLibcst)
        _defer("absl.logging", _Deferred)


def _defer(name: str, kind: type[_Deferred]) -> None:
    package, _, rest = name.rpartition(".")
    if name in sys.modules or (package and importlib.util.find_spec(package) is None):
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    deferred = kind(name)
    deferred.__spec__, deferred.__file__ = spec, spec.origin  # a program that inspects all modules does not load it
    sys.modules[name] = deferred
    if package:
        setattr(sys.modules[package], rest, deferred)
