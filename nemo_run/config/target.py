"""What a configuration needs to know about its class or function, worked out once for each of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import fiddle as fdl
from fiddle.signatures import get_signature

# The base of what fiddle keeps for each configuration. There is no public name for it.
from fiddle._src.signatures import SignatureInfo

from nemo_run.config.names import get_underlying_types
from nemo_run.config.typecheck import Check, compile_check

_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Target(SignatureInfo):
    """The signature of a class or function, its type hints, and what follows from them.

    Every configuration of one target shares one of these, as its ``__signature_info__``.

    Attributes:
        hints: Parameter name to type hint; a parameter whose hint is missing or cannot be resolved is not in it.
        keywords: The names that can be set.
        takes_any_keyword: Whether there is a ``**kwargs``.
        keywords_only: Whether every argument can be given by keyword.
        required: The names without which the target cannot be called.
        factories: Parameter name to the function that makes its default.
        tags: Parameter name to the fiddle tags in its annotation.
        checks: Argument name (or position) to the check of its values; None where all are accepted.
        defaults: Parameter name to the (configuration type, target) that its annotation asks for where nothing is given.
    """

    def __init__(self, fn_or_cls: Callable[..., Any]) -> None:
        super().__init__(signature=get_signature(fn_or_cls))
        parameters = self.parameters
        self.hints = resolve_hints(fn_or_cls, parameters)
        self.keywords = frozenset(name for name, parameter in parameters.items() if parameter.kind in _KEYWORDS)
        self.takes_any_keyword = bool(self.has_var_keyword)
        self.keywords_only = all(parameter.kind in (*_KEYWORDS, parameter.VAR_KEYWORD) for parameter in parameters.values())
        self.required = tuple(
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and parameter.kind in _KEYWORDS
        )
        self.factories = _default_factories(fn_or_cls)
        self.tags = {name: tags for name, hint in self.hints.items() if name in parameters and (tags := _tags(hint))}
        self.checks = Checks(self)
        self.defaults = {
            name: default
            for name, parameter in parameters.items()
            if parameter.kind in _KEYWORDS and (default := _default_config(self.hints.get(name)))
        }


class Checks(dict["str | int", "Check | None"]):
    """The checks of a target's arguments, each compiled when it is first needed."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def __missing__(self, key: str | int) -> Check | None:
        check = self[key] = self._compile(key)
        return check

    def _compile(self, key: str | int) -> Check | None:
        parameter = self._parameter(key)
        hint = self._target.hints.get(parameter.name, Any) if parameter else Any
        return compile_check(hint)

    def _parameter(self, key: str | int) -> inspect.Parameter | None:
        parameters = self._target.parameters
        if isinstance(key, int):
            position = min(key, len(parameters) - 1)
            return [*parameters.values()][position]
        if key in self._target.keywords:
            return parameters[key]
        return parameters.get(self._target.var_keyword_name or "")


_targets: weakref.WeakKeyDictionary[Any, Target] = weakref.WeakKeyDictionary()


def target_of(fn_or_cls: Callable[..., Any]) -> Target:
    """The :class:`Target` of a class or function."""
    try:
        return _targets[fn_or_cls]
    except TypeError:  # neither hashable nor weakly referable
        return Target(fn_or_cls)
    except KeyError:
        target = _targets[fn_or_cls] = Target(fn_or_cls)
        return target


def _default_config(hint: Any) -> tuple[type[fdl.Buildable[Any]], Any] | None:
    """What ``Annotated[Optional[T], Config[T]]`` asks for: a Config of T."""
    if get_origin(hint) is not Annotated:
        return None
    optional, *notes = get_args(hint)
    wanted = get_underlying_types(optional) - {type(None)}
    if len(wanted) != 1 or optional in wanted:
        return None
    for note in notes:
        kind = get_origin(note)
        if isinstance(kind, type) and issubclass(kind, fdl.Buildable):
            return kind, wanted.pop()
    return None


def _tags(hint: Any) -> list[Any]:
    return [note for note in get_args(hint)[1:] if isinstance(note, type(fdl.Tag))] if get_origin(hint) is Annotated else []


def _default_factories(fn_or_cls: Any) -> dict[str, Callable[[], Any]]:
    cls = get_origin(fn_or_cls) or fn_or_cls
    if not isinstance(cls, type):
        return {}
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        return {field.name: field.default_factory for field in fields if callable(field.default_factory)}
    pydantic_fields = getattr(cls, "model_fields", {})
    return {name: field.default_factory for name, field in pydantic_fields.items() if field.default_factory}


# ---------------------------------------------------------------- type hints
def resolve_hints(fn_or_cls: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Parameter name to type hint, with strings resolved; what cannot be resolved is left out."""
    found = _named_hints(fn_or_cls)
    hints = {}
    for name, parameter in parameters.items():
        hint = found.get(name, parameter.annotation)
        if hint is not parameter.empty and not isinstance(hint, str):
            hints[name] = hint.type if isinstance(hint, dataclasses.InitVar) else hint
    return hints


def return_hint(fn_or_cls: Any) -> Any:
    """What calling it gives: a class itself, or the return annotation of a function; None where that is not known."""
    origin = get_origin(fn_or_cls) or fn_or_cls
    if isinstance(origin, type):
        return origin
    return _named_hints(fn_or_cls).get("return")


def _named_hints(fn_or_cls: Any) -> dict[str, Any]:
    while isinstance(fn_or_cls, functools.partial):
        fn_or_cls = fn_or_cls.func
    fn_or_cls = get_origin(fn_or_cls) or fn_or_cls
    holder = _annotated(fn_or_cls)
    try:
        return typing.get_type_hints(holder, include_extras=True)
    except Exception:  # noqa: BLE001  # anything: annotations are the user's code
        # A name that only a type checker sees, or one that is local to a function: the other hints still count.
        own_name = {fn_or_cls.__name__: fn_or_cls} if isinstance(fn_or_cls, type) else {}
        return _hints_one_by_one(holder, own_name)


def _annotated(fn_or_cls: Any) -> Any:
    """What carries the annotations of the parameters."""
    if isinstance(fn_or_cls, type):
        return fn_or_cls if _made_from_fields(fn_or_cls) else _constructor(fn_or_cls)
    if isinstance(fn_or_cls, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return fn_or_cls
    return type(fn_or_cls).__call__ if callable(fn_or_cls) else fn_or_cls


def _made_from_fields(cls: type) -> bool:
    """Whether the parameters are annotated in the class body rather than in ``__init__``."""
    generated = getattr(cls, "__dataclass_params__", None)
    return (
        (generated is not None and generated.init and "__dataclass_params__" in vars(cls))
        or hasattr(cls, "model_fields")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    )


def _constructor(cls: type) -> Any:
    for base in cls.__mro__:
        for name in ("__init__", "__new__"):
            if name in vars(base):
                return getattr(base, name)
    return cls


def _hints_one_by_one(holder: Any, local_names: dict[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for part in reversed(holder.__mro__) if isinstance(holder, type) else [inspect.unwrap(holder)]:
        module = sys.modules.get(getattr(part, "__module__", None) or "")
        global_names = getattr(part, "__globals__", None) or vars(module or types)
        for name, annotation in inspect.get_annotations(part).items():
            one = types.SimpleNamespace(__annotations__={name: annotation})
            with contextlib.suppress(Exception):
                hints.update(typing.get_type_hints(one, global_names, local_names, include_extras=True))
    return hints
