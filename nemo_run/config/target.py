"""What a configuration needs to know about its class or function, worked out once for each of them."""

from __future__ import annotations

import dataclasses
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import fiddle as fdl
from fiddle._src.signatures import SignatureInfo  # the type of what fiddle keeps in a node; it has no public name
from fiddle.signatures import get_signature

from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.hints import parameter_hints
from nemo_run.config.kinds import kind_for
from nemo_run.config.names import get_underlying_types
from nemo_run.config.typecheck import Check, Mismatch, compile_check, unpacked_keywords

_FACTORY_IS_CALLED = vars(dataclasses)["_HAS_DEFAULT_FACTORY"]  # the default in the signature where a factory makes it
_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

MISSING: Any = object()

T = TypeVar("T")


class Target(SignatureInfo):
    """The signature of a class or function, its type hints, and what follows from them.

    Every configuration of one target shares one of these, as its ``__signature_info__``.

    Attributes:
        hints: Parameter name to type hint; a parameter whose hint is missing or cannot be resolved is not in it.
        keywords: The names that can be set.
        takes_any_keyword: Whether there is a ``**kwargs``.
        keywords_only: Whether every argument can be given by keyword.
        takes_argument_validate: Whether ``validate=`` is an argument for the target rather than a setting.
        required: The names without which the target cannot be called.
        default_values: Parameter name to default value, or to MISSING.
        factories: Parameter name to the function that makes its default.
        tags: Parameter name to the fiddle tags in its annotation.
        default_configs: Parameter name to the (configuration type, target) that its annotation asks for where nothing
            is given.
        checks: Argument name (or position) to the check of its values; None where all are accepted.
    """

    def __init__(self, fn_or_cls: Callable[..., Any]) -> None:
        super().__init__(signature=get_signature(fn_or_cls))
        parameters = self.parameters
        settable = {name: parameter for name, parameter in parameters.items() if parameter.kind in _KEYWORDS}
        self.hints = parameter_hints(fn_or_cls, parameters)
        self.keywords = frozenset(settable)
        self.takes_any_keyword = bool(self.has_var_keyword)
        self.keywords_only = len(settable) + self.takes_any_keyword == len(parameters)
        self.takes_argument_validate = "validate" in settable or (self.takes_any_keyword and not self.hints)
        self.required = tuple(name for name, parameter in settable.items() if parameter.default is parameter.empty)
        self.default_values = {name: _default_of(parameter) for name, parameter in settable.items()}
        self.factories = _default_factories(fn_or_cls)
        self.tags = _non_empty({name: _tags(hint) for name, hint in self.hints.items()})
        self.default_configs = _non_empty({name: _default_config(self.hints.get(name)) for name in settable})
        self.checks = _Checks(self)

    def parameter(self, key: str | int) -> inspect.Parameter | None:
        """Return the parameter that takes an argument."""
        parameters: Mapping[str, inspect.Parameter] = self.parameters
        if isinstance(key, int):
            star = self.var_positional_start
            return [*parameters.values()][key if star is None else min(key, star)]
        name = key if key in self.keywords else self.var_keyword_name
        return parameters.get(name or "")

    def hint_of(self, key: str | int) -> Any:
        """Return the type hint of an argument; Any where there is none that can be resolved."""
        parameter = self.parameter(key)
        if parameter is None or parameter.name not in self.hints:
            return Any
        hint = self.hints[parameter.name]
        return unpacked_keywords(hint).get(str(key), hint) if parameter.kind is parameter.VAR_KEYWORD else hint


class _Checks(dict["str | int", "Check | None"]):
    """The checks of a target's arguments, each compiled when it is first needed."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def __missing__(self, key: str | int) -> Check | None:
        check = self[key] = self._compile(key)
        return check

    def _compile(self, key: str | int) -> Check | None:
        parameter = self._target.parameter(key)
        check = compile_check(self._target.hint_of(key))
        if parameter is None or check is None:
            return None
        if parameter.name in self._target.default_configs:
            check = _or_node(check, self._target.default_configs[parameter.name][0])
        if factory := self._target.factories.get(parameter.name):
            return _or_default(check, factory)
        if parameter.default is not parameter.empty and check(parameter.default):
            return _or_default(check, lambda: parameter.default)
        return check


def _or_default(check: Check, default: Callable[[], Any]) -> Check:
    """Accept what is equal to the default as well, whatever the hint says: ``size: int = None`` is common."""

    def check_or_default(value: Any) -> Mismatch | None:
        wrong = check(value)
        return None if wrong and _is_default(value, default) else wrong

    return check_or_default


def _is_default(value: Any, default: Callable[[], Any]) -> bool:
    """Check whether a value equals the default, which may be a dataclass instance where the value is its Config."""
    try:
        wanted = default()
        if value is wanted or value is _FACTORY_IS_CALLED:
            return True
        if isinstance(value, fdl.Buildable):
            wanted = dataclasses_to_configs(wanted, kind_for(partial=False))
        return type(value) is type(wanted) and bool(value == wanted)
    except Exception:  # noqa: BLE001  # the class's own code, or a comparison that says neither yes nor no
        return False


def _or_node(check: Check, kind: type[fdl.Buildable[Any]]) -> Check:
    """Accept also the kind of configuration that the annotation names: ``Annotated[Optional[T], Partial[T]]``."""
    return lambda value: None if isinstance(value, kind) else check(value)


_targets: weakref.WeakKeyDictionary[Any, Target] = weakref.WeakKeyDictionary()


def target_of(fn_or_cls: Callable[..., Any]) -> Target:
    """Return the :class:`Target` of a class or function."""
    try:
        return _targets[fn_or_cls]
    except TypeError:  # neither hashable nor weakly referable
        return Target(fn_or_cls)
    except KeyError:
        target = _targets[fn_or_cls] = Target(fn_or_cls)
        return target


def _default_config(hint: Any) -> tuple[type[fdl.Buildable[Any]], Any] | None:
    """Return what ``Annotated[Optional[T], Config[T]]`` asks for: a Config of T."""
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


def _default_of(parameter: inspect.Parameter) -> Any:
    return MISSING if parameter.default is parameter.empty else parameter.default


def _non_empty(values: dict[Any, T | None]) -> dict[Any, T]:
    return {name: value for name, value in values.items() if value}


def _tags(hint: Any) -> list[Any]:
    if get_origin(hint) is not Annotated:
        return []
    return [note for note in get_args(hint)[1:] if isinstance(note, type(fdl.Tag))]


def _default_factories(fn_or_cls: Any) -> dict[str, Callable[[], Any]]:
    cls = get_origin(fn_or_cls) or fn_or_cls
    if not isinstance(cls, type):
        return {}
    return {name: factory for name, factory in _factories_of_fields(cls).items() if callable(factory)}


def _factories_of_fields(cls: type) -> dict[str, Any]:
    if dataclasses.is_dataclass(cls):
        return {field.name: field.default_factory for field in dataclasses.fields(cls)}
    if (attrs_fields := getattr(cls, "__attrs_attrs__", None)) is not None:
        return {field.alias: getattr(field.default, "factory", None) for field in attrs_fields}
    return {name: field.default_factory for name, field in getattr(cls, "__pydantic_fields__", {}).items()}
