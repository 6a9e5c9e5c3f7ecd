"""Functions and classes of the launching script, stored by value."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import linecache
import marshal
import pickle
import re
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from nemo_run.core.packaging.repository import find_top
from nemo_run.core.runners import script
from nemo_run.errors import SerializationError

_WORD = re.compile(r"[^\W\d]\w*")
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())
_FUNCTOOLS = functools.singledispatch.__code__.co_filename
# Of these a process has its own, or what is in them goes when nothing else holds it: the task gets empty ones.
_MADE_ANEW: dict[type, Callable[[], Any]] = {
    _LOCK: threading.Lock,
    _RLOCK: threading.RLock,
    threading.local: threading.local,
    weakref.WeakKeyDictionary: weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary: weakref.WeakValueDictionary,
}


def dumps(symbols: Mapping[str, Any]) -> bytes:
    """Pickle symbols of the launching script, with what they use of it.

    What only their annotations name comes along where it can: it is needed by those that read annotations.

    Raises:
        SerializationError: Something that they use cannot be copied; the message names it.
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    try:
        pickler.dump(dict(symbols))
    except Exception as error:
        raise SerializationError(
            f"{', '.join(sorted(symbols))} cannot be sent to the task's process, as {_culprits(pickler)} of the "
            f"launching script cannot be copied: {error}. Make it inside of the function that uses it, or move both "
            "into a module of their own"
        ) from error
    pickler.names.update(name.removeprefix("__main__.") for name in symbols)
    namespace = pickler.namespaces[0] if pickler.namespaces else {}
    modules = _add_what_annotations_name(pickler, namespace)
    return pickle.dumps(_origin(namespace, pickler.files, modules)) + stream.getvalue()


def _add_what_annotations_name(pickler: _Pickler, namespace: Mapping[str, Any]) -> dict[str, str]:
    """Pickle what annotations name, as far as it can be, and return the modules among it by their names there."""
    modules: dict[str, str] = {}
    done: set[str] = set()
    while names := {name for name in pickler.names if name in namespace} - done:
        done |= names
        for name in sorted(names):
            value = namespace[name]
            if isinstance(value, types.ModuleType):
                modules[name] = value.__name__
            elif id(value) in pickler.seen or _can_be_pickled(value):
                pickler.dump({name: value})
    return modules


def _culprits(pickler: _Pickler) -> str:
    """Return the names of what functions use of the script that cannot be pickled, as far as they can be told."""
    used = {
        name: function.__globals__[name]
        for function in pickler.seen.values()
        if isinstance(function, types.FunctionType)
        for name in function.__code__.co_names
        if name in function.__globals__ and not _can_be_pickled(function.__globals__[name])
    }
    # A function cannot for what it uses itself: the values are the reason.
    values = [name for name, value in used.items() if not callable(value)]
    return ", ".join(sorted(values or used)) or "something"


def _can_be_pickled(value: Any) -> bool:
    try:
        _Pickler(io.BytesIO()).dump(value)
    except Exception:  # noqa: BLE001  (whatever it is)
        return False
    return True


def _origin(namespace: Mapping[str, Any], files: set[str], modules: Mapping[str, str]) -> script.Origin:
    path = Path(namespace.get("__file__") or "").absolute()
    file = str(path) if path.is_file() else ""  # there is none in an interactive session
    root = _root(Path.cwd())
    return script.Origin(
        file=file,
        relative=str(Path(file).relative_to(root)) if file and Path(file).is_relative_to(root) else "",
        module=getattr(namespace.get("__spec__"), "name", ""),
        package=namespace.get("__package__") or "",
        sources={name: text for name in sorted(files) if (text := "".join(linecache.getlines(name)))},
        modules=modules,
    )


@functools.lru_cache(maxsize=4)
def _root(folder: Path) -> Path:
    return find_top(folder) or folder


class _Namespace(dict[str, Any]):
    """Stands for the globals of a script; the task's process has its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number=number)
        self.number = number


class _Pickler(cloudpickle.Pickler):
    """Pickles a script's functions so that they share one namespace again, and with their files and lines.

    Attributes:
        namespaces: Globals of the functions that were pickled by value, in the order in which they came.
        names: Names in the script of what was pickled by value, and of what annotations name.
        seen: Functions and classes that were pickled by value, by their ids.
        files: Files that the code says it is from.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.namespaces: list[dict[str, Any]] = []
        self.names: set[str] = set()
        self.seen: dict[int, Any] = {}
        self.files: set[str] = set()

    def persistent_id(self, obj: Any) -> int | None:
        return obj.number if type(obj) is _Namespace else None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.CodeType:
            self.files.add(obj.co_filename)
            return marshal.loads, (marshal.dumps(obj),)
        if kind in _MADE_ANEW:
            return _MADE_ANEW[kind], ()
        if obj is dataclasses.MISSING:
            return "MISSING"
        if obj is dataclasses.KW_ONLY:
            return "KW_ONLY"
        if callable(obj) and getattr(obj, "__module__", None) == "__main__":
            self._note(obj)
            if (reduced := _special_function(obj)) is not None:
                return reduced
        reduced = super().reducer_override(obj)
        return _with_qualname(obj, reduced) if isinstance(obj, type) else reduced

    def _note(self, obj: Any) -> None:
        self.seen[id(obj)] = obj
        if isinstance(obj, types.FunctionType) and obj.__globals__.get("__name__") == "__main__":
            known = self.globals_ref.get(id(obj.__globals__))
            if known is None:
                self.globals_ref[id(obj.__globals__)] = _Namespace(len(self.namespaces))
                self.namespaces.append(obj.__globals__)
        self.names.add(getattr(obj, "__name__", ""))
        self.names.update(_names_in_annotations(obj))


def _with_qualname(cls: type, reduced: Any) -> Any:
    """Return how to make a class, so that pickle finds it inside of another one."""
    if isinstance(reduced, tuple) and len(reduced) > 2:
        reduced[2][0]["__qualname__"] = cls.__qualname__
    return reduced


def _special_function(obj: Any) -> Any:
    """Return how to make what ``functools`` made of a function; its caches are of this process."""
    if isinstance(obj, functools._lru_cache_wrapper):  # noqa: SLF001  (it has no public name)
        parameters = obj.cache_parameters()
        return script.cached, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])
    if isinstance(obj, types.FunctionType) and obj.__code__.co_filename == _FUNCTOOLS and hasattr(obj, "registry"):
        others = {cls: function for cls, function in obj.registry.items() if cls is not object}
        return script.dispatching, (obj.registry[object],), others, None, None, script.register
    return None


def _names_in_annotations(obj: Any) -> Iterator[str]:
    """Yield the words of annotations that are text: names that are looked up in the script when they are read."""
    with contextlib.suppress(TypeError):  # neither a function nor a class
        for annotation in inspect.get_annotations(obj).values():
            if isinstance(annotation, str):
                yield from _WORD.findall(annotation)
