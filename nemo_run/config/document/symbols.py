"""Naming importable things: a class or function to its dotted name, and back.

Looking a name up imports the module that it names and nothing else; nothing is called.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

from nemo_run.errors import SerializationError

LAZY_NAME = "__lazy_name__"  # attribute of what stands for something that is imported where it is used

_MISSING = object()


def name_of(symbol: Any) -> str:
    """Return the dotted name under which a class or function is imported.

    Example:
        >>> import collections
        >>> name_of(collections.OrderedDict.fromkeys)
        'collections.OrderedDict.fromkeys'

    Raises:
        SerializationError: If no import gives this very object, as with a lambda.
    """
    if isinstance(symbol, types.ModuleType) and LAZY_NAME in vars(symbol):
        return str(vars(symbol)[LAZY_NAME])
    owner = getattr(symbol, "__self__", None)
    if isinstance(owner, type) and not isinstance(symbol, type):  # a classmethod, under the class it was taken from
        return f"{name_of(owner)}.{symbol.__name__}"
    qualname = _importable_qualname(symbol)
    module = getattr(symbol, "__module__", None)
    if not isinstance(module, str):  # some functions of C extensions do not say where they are
        module, qualname = _any_module_with(symbol), symbol.__name__
    if _attribute(sys.modules.get(module), qualname.split(".")) is symbol:
        return f"{module}.{qualname}"
    raise SerializationError(
        f"importing {qualname!r} from {module!r} does not give this object; "
        "store something that a module defines under its own name"
    )


def name_in_task(symbol: Any) -> str:
    """Return the name of a class or function as part of a task.

    What a launching script has defined has a name there also where this process imports it under no name: it was loaded
    from a past experiment of another script, or the script has defined another one of that name since.

    Raises:
        SerializationError: It has no such name, as a lambda.
    """
    if getattr(symbol, "__module__", None) == "__main__" and isinstance(symbol, (type, types.FunctionType)):
        return f"__main__.{_importable_qualname(symbol)}"
    return name_of(symbol)


def _any_module_with(symbol: Any) -> str:
    """Return the loaded module of the shortest name that has the object under its name."""
    name = symbol.__name__
    found = [module for module in list(sys.modules) if vars(sys.modules[module]).get(name) is symbol]
    return min(found, key=lambda module: (module.count("."), module), default="")


def _attribute(owner: Any, path: list[str]) -> Any:
    for name in path:
        owner = getattr(owner, name, _MISSING)
        if owner is _MISSING:
            return _MISSING
    return owner


def _importable_qualname(symbol: Any) -> str:
    qualname = getattr(symbol, "__qualname__", None) or getattr(symbol, "__name__", None)
    if not isinstance(qualname, str):
        raise SerializationError(f"an object of type {type_name(type(symbol))} has no name to import it by")
    if "<lambda>" in qualname:
        raise SerializationError("a lambda has no name to import it by; define it with `def` at the top of a module")
    if "<locals>" in qualname:
        raise SerializationError(
            f"{qualname.replace('.<locals>.', '.')} is defined inside a function, so nothing can import it; "
            "move it to the top of its module"
        )
    return qualname


def resolve(name: str, allows: Callable[[str, str], bool] | None = None) -> Any:
    """Return the imports what a dotted name refers to.

    Args:
        name: A module, then the path in it: ``"package.module.Class.method"``.
        allows: Called with the module and the path in it before anything is imported; ``False`` skips that reading.

    Example:
        >>> resolve("collections.OrderedDict")
        <class 'collections.OrderedDict'>

    Raises:
        SerializationError: If there is no such thing, or its module cannot be imported.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(parts):
        raise SerializationError(f"{name!r} is not a dotted name such as 'package.module.Class'")
    for split in range(len(parts) - 1, 0, -1):  # a module of this name first: a package may re-export a homonym
        module_name, path = ".".join(parts[:split]), parts[split:]
        if allows is not None and not allows(module_name, ".".join(path)):
            continue
        module = _import(module_name, name)
        found = _MISSING if module is None else _attribute(module, path)
        if found is not _MISSING and not isinstance(found, types.ModuleType):
            return found
    raise SerializationError(
        f"cannot find {name!r}: no such module, or the module has no such name; "
        "check the spelling, and that its package is installed or on the Python path"
    )


def _import(module_name: str, wanted: str) -> types.ModuleType | None:
    """Return the module; ``None`` if there is none of this name."""
    loaded = sys.modules.get(module_name)
    if loaded is not None:
        return loaded
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == module_name or module_name.startswith(f"{missing}."):
            return None
        raise SerializationError(
            f"importing {module_name!r} for {wanted!r} needs {missing!r}, which is not installed"
        ) from error
    except Exception as error:
        raise SerializationError(
            f"importing {module_name!r} for {wanted!r} failed with {type(error).__name__}: {error}"
        ) from error


def type_name(kind: type) -> str:
    """Return the name of a type for a message: ``int``, ``torch.Tensor``."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
