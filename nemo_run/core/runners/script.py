"""What a task has of the script that launched it: its functions and classes, as they were then, in a ``__main__``."""

from __future__ import annotations

import atexit
import functools
import importlib
import io
import linecache
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple


class Origin(NamedTuple):
    """Where stored functions come from.

    Attributes:
        file: The script; empty in an interactive session.
        relative: The script below the folder that is packaged; empty where it is outside of it.
        module: The module that it was run as, with ``python -m``; else empty.
        package: The package that its relative imports start from.
        sources: Text of each file that has code of these functions, by the name that the code gives it.
        modules: Modules that annotations name, by the names that they have in the script.
    """

    file: str
    relative: str
    module: str
    package: str
    sources: Mapping[str, str]
    modules: Mapping[str, str]


class LoadedScript(NamedTuple):
    """What was loaded of a script.

    Attributes:
        module: A module in its place.
        symbols: Those that the task names, by their names.
        origin: Where they come from; ``None`` where an earlier version stored them.
    """

    module: ModuleType
    symbols: dict[str, Any]
    origin: Origin | None


def load(data: bytes) -> LoadedScript:
    """Load what was stored of a script."""
    stream = io.BytesIO(data)
    module = ModuleType("__main__")
    origin = pickle.load(stream)  # noqa: S301  (it lies beside the task, in a folder that only its owner can write to)
    if not isinstance(origin, Origin):
        return LoadedScript(module, origin, None)
    _describe(module, origin)
    unpickler = _Unpickler(stream, module)
    symbols = unpickler.load()
    while stream.tell() < len(data):
        vars(module).update(unpickler.load())
    return LoadedScript(module, symbols, origin)


def install(loaded: LoadedScript) -> None:
    """Make a loaded script the ``__main__`` of this process: pickle, multiprocessing and inspect look there."""
    if loaded.origin is None:
        return
    sys.modules["__main__"] = loaded.module
    for name, text in loaded.origin.sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    file = getattr(loaded.module, "__file__", None)
    if file and not _is_there(file) and loaded.origin.file in loaded.origin.sources:
        # Processes that multiprocessing spawns import the script.
        loaded.module.__file__ = _write_again(file, loaded.origin.sources[loaded.origin.file])
    for name, target in loaded.origin.modules.items():
        try:
            setattr(loaded.module, name, importlib.import_module(target))
        except Exception:  # noqa: BLE001, S112  (only annotations name it; the task may not need it)
            continue


def today(loaded: LoadedScript) -> dict[str, Any]:
    """Return the symbols as this process has them where it runs the same script, and else as they were stored."""
    here = sys.modules.get("__main__")
    file = getattr(here, "__file__", None)
    if loaded.origin is None or (str(Path(file).absolute()) if file else "") != loaded.origin.file:
        return loaded.symbols
    return {name: _of_module(here, name.split(".")[1:], symbol) for name, symbol in loaded.symbols.items()}


def _of_module(module: Any, path: Sequence[str], stored: Any) -> Any:
    try:
        return functools.reduce(getattr, path, module)
    except AttributeError:
        return stored


def _is_there(file: str) -> bool:
    """Check for a file; where it may not even be looked for, as in the home of another user, it is not there."""
    return os.path.isfile(file)  # noqa: PTH113  (Path.is_file raises an error there)


def _describe(module: ModuleType, origin: Origin) -> None:
    there = [str(Path(path).absolute()) for path in (origin.file, origin.relative) if _is_there(path)]
    if origin.file:
        module.__file__ = there[0] if there else origin.file
    if origin.module and there:
        module.__spec__ = ModuleSpec(origin.module, None, origin=origin.file)
    module.__package__ = origin.package or None


def _write_again(file: str, text: str) -> str:
    """Write a script that is not on this machine, for as long as this process lives, and return its path."""
    folder = tempfile.mkdtemp(prefix="nemo-run-script-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, Path(file).name)
    path.write_text(text, encoding="utf-8")
    return str(path)


class _Unpickler(pickle.Unpickler):
    """Gives functions the namespaces that they had: the first that of the script, others each one of its own."""

    def __init__(self, stream: io.BytesIO, module: ModuleType) -> None:
        super().__init__(stream)
        self._namespaces: dict[int, dict[str, Any]] = {0: vars(module)}

    def persistent_load(self, number: Any) -> dict[str, Any]:
        return self._namespaces.setdefault(number, {"__name__": "__main__", "__builtins__": __builtins__})


# ---------------------------------------------------------------- what the pickled functions are made of again
def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Callable[..., Any]:
    """Return a function with an empty cache."""
    return functools.lru_cache(maxsize, typed)(function)


def dispatching(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a generic function that has one implementation."""
    return functools.singledispatch(function)


def register(function: Any, implementations: Mapping[type, Callable[..., Any]]) -> None:
    """Give a generic function its other implementations."""
    for cls, implementation in implementations.items():
        function.register(cls, implementation)
