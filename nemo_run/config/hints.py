"""Type hints of classes and functions, resolved as far as they can be."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_origin

# On Python 3.10 the one in typing turns `Annotated[int, ...] = None` into an Optional.
from typing_extensions import get_type_hints

_returns: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def parameter_hints(fn_or_cls: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Parameter name to type hint; what cannot be resolved is left out, and nothing is raised.

    Example:
        >>> def train(model: "str", step: "only.for[a, type-checker]" = 1): ...
        >>> parameter_hints(train, inspect.signature(train).parameters)
        {'model': <class 'str'>}
    """
    found = all_hints(fn_or_cls)
    hints = {}
    for name, parameter in parameters.items():
        hint = found.get(name, parameter.annotation)
        if hint is not parameter.empty and not isinstance(hint, str):
            hints[name] = hint.type if isinstance(hint, dataclasses.InitVar) else hint
    return hints


def returned_by(fn_or_cls: Any) -> Any:
    """Return what a call gives: the class itself, or what a function says it returns; ``Any`` where that is not known.

    Example:
        >>> def make() -> int: ...
        >>> returned_by(make)
        <class 'int'>
    """
    origin = get_origin(fn_or_cls) or fn_or_cls
    if isinstance(origin, type):
        return origin
    try:
        return _returns[origin]
    except KeyError:
        hint = _returns[origin] = all_hints(origin).get("return", Any)
        return hint
    except TypeError:  # neither hashable nor weakly referable
        return all_hints(origin).get("return", Any)


def all_hints(fn_or_cls: Any) -> dict[str, Any]:
    """Return every type hint of a class's fields or constructor, or of a function, that can be resolved."""
    while isinstance(fn_or_cls, functools.partial):
        fn_or_cls = fn_or_cls.func
    fn_or_cls = get_origin(fn_or_cls) or fn_or_cls
    holder = _annotated(fn_or_cls)
    try:
        return get_type_hints(holder, include_extras=True)
    except Exception:  # noqa: BLE001  # annotations are the user's code: anything
        # A name that only a type checker sees, or one that is local to a function: the other hints still count.
        own_name = {fn_or_cls.__name__: fn_or_cls} if isinstance(fn_or_cls, type) else {}
        return _hints_one_by_one(holder, own_name)


def _annotated(fn_or_cls: Any) -> Any:
    """Return what carries the annotations of the parameters."""
    if isinstance(fn_or_cls, type):
        return fn_or_cls if _made_from_fields(fn_or_cls) else _constructor(fn_or_cls)
    if isinstance(fn_or_cls, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return fn_or_cls
    return type(fn_or_cls).__call__ if callable(fn_or_cls) else fn_or_cls


def _made_from_fields(cls: type) -> bool:
    """Check whether the parameters are annotated in the class body rather than in ``__init__``."""
    dataclass_parameters = vars(cls).get("__dataclass_params__")
    return (
        (dataclass_parameters is not None and dataclass_parameters.init)
        or hasattr(cls, "__pydantic_fields__")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _constructor(cls: type) -> Any:
    for base in cls.__mro__:
        for name in ("__init__", "__new__"):
            if name in vars(base):
                return getattr(base, name)
    return cls


def bound_of(variable: TypeVar) -> Any:
    """Return the type that a type variable stands for; ``Any`` where it has no bound that can be resolved."""
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007  # made at run time
    module = sys.modules.get(variable.__module__)
    return _one_hint(variable.__bound__ or Any, vars(module or types), {}) or Any


def _hints_one_by_one(holder: Any, local_names: dict[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for part in reversed(holder.__mro__) if isinstance(holder, type) else [inspect.unwrap(holder)]:
        module = sys.modules.get(getattr(part, "__module__", None) or "")
        global_names = getattr(part, "__globals__", None) or vars(module or types)
        for name, annotation in _raw_annotations(part).items():
            if hint := _one_hint(annotation, global_names, local_names):
                hints[name] = hint
    return hints


def _one_hint(annotation: Any, global_names: dict[str, Any], local_names: dict[str, Any]) -> Any:
    """Return the annotation with its strings resolved; None where they cannot be."""
    one = types.SimpleNamespace(__annotations__={"hint": annotation})
    with contextlib.suppress(Exception):
        return get_type_hints(one, global_names, local_names, include_extras=True)["hint"]
    return None


def _raw_annotations(holder: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(holder)
    except Exception:  # noqa: BLE001  # not something with annotations, or some that cannot be evaluated at all
        return {}
