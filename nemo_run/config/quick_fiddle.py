"""Fiddle without libcst.

Importing fiddle imports libcst, which takes five times as long as fiddle itself, in every process that reads a
configuration. Fiddle uses it for one thing only: to find the source of a lambda that ``auto_config`` is to rewrite. So
something stands for libcst until it is really used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

_USER = "fiddle._src.experimental.auto_config"


class _Visitor:
    """Stands for the base class that fiddle's visitor has."""


# What fiddle asks libcst for while it is imported.
_AT_IMPORT = {"CSTVisitor": _Visitor, "metadata": SimpleNamespace(PositionProvider=None)}


class _Deferred(ModuleType):
    """Stands for libcst; whatever is asked of it but what fiddle asks at import, loads the real one."""

    def __getattr__(self, name: str) -> Any:
        if name in _AT_IMPORT and _USER in sys.modules and not hasattr(sys.modules[_USER], "_LambdaFinder"):
            return _AT_IMPORT[name]
        return getattr(_load(), name)


def _load() -> ModuleType:
    """Return the real libcst, also in fiddle."""
    if isinstance(sys.modules.get("libcst"), _Deferred):
        del sys.modules["libcst"]
    real = importlib.import_module("libcst")
    user = sys.modules.get(_USER)
    finder = getattr(user, "_LambdaFinder", None)
    if user is not None and finder is not None and finder.__bases__ == (_Visitor,):
        finder.__bases__ = (real.CSTVisitor,)
        finder.METADATA_DEPENDENCIES = (real.metadata.PositionProvider,)
        vars(user)["cst"] = real
    return real


def defer_libcst() -> None:
    """Let something stand for libcst, unless it or fiddle is there already."""
    if "libcst" in sys.modules or "fiddle" in sys.modules:
        return
    spec = importlib.util.find_spec("libcst")
    if spec is not None:
        deferred = _Deferred("libcst")
        deferred.__spec__, deferred.__file__ = spec, spec.origin  # a program that inspects all modules does not load it
        sys.modules["libcst"] = deferred
