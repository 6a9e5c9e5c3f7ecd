"""Values as JSON, without pickle: plain data, dataclasses, enums, paths, times, NumPy arrays and scalars.

An object of a class is stored by the name of its class and its fields. Reading calls nothing of the class, and imports
its module only where that is allowed; elsewhere the object is a :class:`PlainObject` with the same attributes.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import functools
import io
import math
import pathlib
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from nemo_run.errors import SerializationError

_KIND = "$"  # marks an object of JSON that stands for something else than a dict
_DEEPEST = 200


class PlainObject(SimpleNamespace):
    """An object whose class is not at hand: its fields as attributes, and the name of its class in ``type_name``."""

    def __init__(self, type_name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(**fields)
        self.type_name = type_name

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "type_name")
        return f"{self.type_name.rpartition(':')[2]}({fields})"


def encode(value: Any) -> Any:
    """Return what stands for a value in JSON.

    Raises:
        SerializationError: There is a value in it that cannot be stored without pickle; the message says where.

    Example:
        >>> encode({"lr": 0.1, "sizes": (1, 2)})
        {'lr': 0.1, 'sizes': {'$': 'tuple', 'items': [1, 2]}}
    """
    return _encode(value, "", 0)


def decode(document: Any, *, may_import: bool = False) -> Any:
    """Return the value that :func:`encode` described.

    Args:
        document: What was stored.
        may_import: Whether modules that it names may be imported.

    Raises:
        SerializationError: It is damaged, or needs NumPy, which is not installed.

    Example:
        >>> decode(encode({"sizes": (1, 2)}))
        {'sizes': (1, 2)}
    """
    try:
        return _decode(document, _find_class if may_import else _no_class, _DEEPEST)
    except SerializationError:
        raise
    except (
        KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError,
    ) as e:  # fmt: skip
        raise SerializationError(f"a stored value is damaged ({type(e).__name__}: {e})") from e


# --- writing ---------------------------------------------------------------------------------------------------


_Inner = Callable[[Any, str], Any]  # encodes a part of a value; the text is the part's place in it


def _encode(value: Any, path: str, depth: int) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if writer := _WRITERS.get(type(value)):
        return writer(value)
    if depth > _DEEPEST:
        raise SerializationError(f"{path[:60]}…: nested more than {_DEEPEST} levels deep, or in itself")

    def inner(part: Any, name: str) -> Any:
        return _encode(part, f"{path}{name}", depth + 1)

    for write in (_collection, _of_own_class, _array):
        if (written := write(value, inner)) is not None:
            return written
    what = f"{type(value).__module__}.{type(value).__qualname__}"
    raise SerializationError(f"{path.lstrip('.') or 'the value'} is a {what}, which is not plain data")


def _collection(value: Any, inner: _Inner) -> Any:
    """Return what stands for a dict, list, tuple or set; ``None`` for anything else."""
    if isinstance(value, dict):
        return _mapping(value, inner)
    if type(value) not in (list, tuple, set, frozenset):
        return None
    items = [inner(item, f"[{i}]") for i, item in enumerate(value)]
    return items if type(value) is list else {_KIND: type(value).__name__, "items": items}


def _of_own_class(value: Any, inner: _Inner) -> Any:
    """Return what stands for an enum, a dataclass, a named tuple or a path; ``None`` for anything else."""
    if isinstance(value, PlainObject):
        fields = {name: inner(part, f".{name}") for name, part in vars(value).items() if name != "type_name"}
        return {_KIND: "object", "type": value.type_name, "fields": fields}
    if isinstance(value, enum.Enum):
        return {_KIND: "enum", "type": _name_of(type(value)), "name": value.name}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _object(value, [field.name for field in dataclasses.fields(value)], inner)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _object(value, list(value._fields), inner)
    if isinstance(value, pathlib.PurePath):
        return {_KIND: "path", "value": str(value)}
    return None


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _object(value: Any, names: list[str], inner: _Inner) -> dict[str, Any]:
    fields = {name: inner(getattr(value, name), f".{name}") for name in names if hasattr(value, name)}
    kind = "namedtuple" if isinstance(value, tuple) else "object"
    return {_KIND: kind, "type": _name_of(type(value)), "fields": fields}


def _mapping(value: dict[Any, Any], inner: _Inner) -> dict[str, Any]:
    if all(type(key) is str and key != _KIND for key in value):
        return {key: inner(item, f"[{key!r}]") for key, item in value.items()}
    return {_KIND: "dict", "items": [[inner(k, f" key {k!r}"), inner(v, f"[{k!r}]")] for k, v in value.items()]}


def _float(value: float) -> Any:
    return value if math.isfinite(value) else {_KIND: "float", "value": str(value)}


def _int(value: int) -> Any:
    return value if value.bit_length() <= 1024 else {_KIND: "int", "value": hex(value)}


def _bytes(value: bytes | bytearray) -> Any:
    return {_KIND: "bytes", "value": base64.b64encode(value).decode()}


def _array(value: Any, _: _Inner) -> Any:
    """Return what stands for an array or scalar of NumPy; ``None`` for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)) or value.dtype.hasobject:
        return None
    file = io.BytesIO()
    numpy.save(file, value, allow_pickle=False)
    kind = "scalar" if isinstance(value, numpy.generic) else "array"
    return {_KIND: kind, "npy": base64.b64encode(file.getvalue()).decode()}


_WRITERS: Mapping[type, Callable[[Any], Any]] = {
    float: _float,
    int: _int,
    bytes: _bytes,
    bytearray: _bytes,
    complex: lambda value: {_KIND: "complex", "value": str(value)},
    datetime.datetime: lambda value: {_KIND: "datetime", "value": value.isoformat()},
    datetime.date: lambda value: {_KIND: "date", "value": value.isoformat()},
    datetime.timedelta: lambda value: {_KIND: "timedelta", "value": [value.days, value.seconds, value.microseconds]},
}


# --- reading ---------------------------------------------------------------------------------------------------


_Finder = Callable[[str], Any]  # gives a class by the name that was stored, or None


def _decode(document: Any, find: _Finder, depth: int) -> Any:
    """Return a value that is nested no deeper than so many levels, so that it can be shown and compared, too."""
    if not isinstance(document, dict | list):
        return document
    if depth < 0:
        raise SerializationError(f"a stored value is damaged: it is nested more than {_DEEPEST} levels deep")
    inner = functools.partial(_decode, find=find, depth=depth - 1)
    if isinstance(document, list):
        return [inner(item) for item in document]
    kind = document.get(_KIND)
    if kind is None:
        return {key: inner(item) for key, item in document.items()}
    if kind in ("object", "namedtuple", "enum"):
        return _of_class(document, kind, find, inner)
    if kind == "dict":
        return {inner(key): inner(item) for key, item in document["items"]}
    if kind in _COLLECTIONS:
        return _COLLECTIONS[kind](inner(item) for item in document["items"])
    if kind in ("array", "scalar"):
        return _read_array(document["npy"], kind)
    if kind in _READERS:
        return _READERS[kind](document["value"])
    raise SerializationError(f"a stored value is of the unknown kind {kind!r}: a newer version wrote it")


def _of_class(document: dict[str, Any], kind: str, find: _Finder, inner: Callable[[Any], Any]) -> Any:
    cls = find(document["type"])
    if kind == "enum":
        if isinstance(cls, enum.EnumMeta) and document["name"] in cls.__members__:
            return cls[document["name"]]
        return PlainObject(str(document["type"]), {"name": document["name"]})
    fields = {str(name): inner(item) for name, item in document["fields"].items()}
    if cls is None or (kind == "object") != dataclasses.is_dataclass(cls):
        return PlainObject(str(document["type"]), fields)
    if kind == "namedtuple":
        return tuple.__new__(cls, fields.values())
    found = object.__new__(cls)  # __init__ and __post_init__ ran when it was made
    for name, item in fields.items():
        object.__setattr__(found, name, item)
    return found


def _find_class(name: str) -> Any:
    """Return a class by the name that was stored; ``None`` where it is not at hand."""
    module_name, _, qualified = name.partition(":")
    if module_name not in sys.modules:
        import importlib

        try:
            importlib.import_module(module_name)
        except Exception:  # noqa: BLE001  (whatever it does when it is imported, the value can be shown without it)
            return None
    found: Any = sys.modules.get(module_name)
    for part in qualified.split("."):
        found = vars(found).get(part) if found is not None else None
    return found if isinstance(found, type) else None


def _no_class(_: str) -> None:
    return None


def _read_array(text: str, kind: str) -> Any:
    try:
        import numpy
    except ImportError as e:
        raise SerializationError("a stored value is a NumPy array; to read it: pip install numpy") from e
    array = numpy.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return array[()] if kind == "scalar" else array


_COLLECTIONS: Mapping[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "float": float,
    "int": lambda value: int(value, 16),
    "bytes": base64.b64decode,
    "complex": complex,
    "path": pathlib.Path,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "timedelta": lambda value: datetime.timedelta(*value),
}
