"""Names of types, and the types inside a type."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable
from pathlib import PurePath
from typing import Annotated, Any, get_args, get_origin


def get_type_namespace(typ: type | Callable[..., Any]) -> str:
    """Return the dotted path that names a type or a callable; the script that runs goes by its file's name.

    Example:
        >>> get_type_namespace(dict)
        'builtins.dict'
    """
    target = getattr(typ, "__fn_or_cls__", typ)
    name = getattr(target, "__qualname__", str(target))
    return f"{_module_name(target)}.{name}"


def _module_name(typ: object) -> str:
    module = getattr(typ, "__module__", None) or type(typ).__module__
    if module != "__main__":
        return module
    file = getattr(sys.modules["__main__"], "__file__", None)
    return PurePath(file).stem if file else "__main__"


def get_underlying_types(type_hint: Any) -> set[Any]:
    """Return the types that a hint accepts, with unions and ``Annotated`` taken apart.

    Example:
        >>> sorted(t.__name__ for t in get_underlying_types(typing.Optional[typing.Union[int, str]]))
        ['NoneType', 'int', 'str']
    """
    origin = get_origin(type_hint)
    if origin is Annotated:
        return get_underlying_types(get_args(type_hint)[0])
    if origin is typing.Union or origin is types.UnionType:
        return set().union(*(get_underlying_types(arg) for arg in get_args(type_hint)))
    return {type_hint}
