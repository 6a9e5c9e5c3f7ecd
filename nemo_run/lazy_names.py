"""Names of a package that are imported from its modules when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def lazy_names(package: str, module_of: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package.

    A package assigns them under ``if not TYPE_CHECKING``, so that type checkers find misspelt names.

    Args:
        package: The ``__name__`` of the package.
        module_of: The module of each name, relative to the package.
    """
    namespace = vars(sys.modules[package])

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *module_of})

    return load, names
