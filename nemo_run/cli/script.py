"""The script that runs: one module with two names, ``__main__`` and the one that others import it by."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def name_main() -> None:
    """Let the running script be imported by its own name as well, as the module that it is.

    Otherwise a file that names ``train.Model``, or a module that imports ``train``, loads the script a second time,
    with classes that are not those of the script, and registers its factories again.
    """
    main = sys.modules["__main__"]
    if name := _own_name(main):
        sys.modules.setdefault(name, main)


def _own_name(main: ModuleType) -> str:
    """Return the name that a script can be imported by; empty if it has none, or something else is imported by it."""
    if (spec := getattr(main, "__spec__", None)) is not None:  # python -m
        return str(spec.name)
    file = Path(getattr(main, "__file__", None) or "")
    if file.suffix != ".py" or not file.stem.isidentifier() or file.stem in sys.modules:
        return ""
    found = importlib.util.find_spec(file.stem)
    return file.stem if found is None or _same_file(found.origin, file) else ""


def is_loaded(path: Path) -> bool:
    """Return whether a file runs as the script, or was imported by its own name."""
    modules = (sys.modules.get(name) for name in ("__main__", path.stem))
    return any(_same_file(getattr(module, "__file__", None), path) for module in modules if module)


def _same_file(one: str | None, other: Path) -> bool:
    return one is not None and os.path.realpath(one) == os.path.realpath(other)


def function_of(fn: Callable[..., Any], name: str) -> Callable[..., Any] | None:
    """Return the function of this name that the running script defines, or the module of an entrypoint."""
    for module in map(sys.modules.get, ("__main__", inspect.unwrap(fn).__module__)):
        found = getattr(module, name, None)
        if inspect.isroutine(found) and getattr(found, "__module__", None) == getattr(module, "__name__", ""):
            return found
    return None
