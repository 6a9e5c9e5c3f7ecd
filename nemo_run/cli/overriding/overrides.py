"""Applies overrides to a configuration."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any, get_args, get_origin

import fiddle as fdl
import typing_extensions

from nemo_run.cli import registry
from nemo_run.cli.overriding import making
from nemo_run.cli.overriding.files import operator_of
from nemo_run.cli.overriding.items import Call, Item, Pairs, Shared
from nemo_run.cli.overriding.making import acceptor, check_argument, find_factory, run_factory
from nemo_run.cli.overriding.parse import Override
from nemo_run.cli.overriding.place import Place, UnfitError
from nemo_run.cli.overriding.values import convert
from nemo_run.cli.overriding.wanted import alternatives, classes_of, hint_of
from nemo_run.config.buildable import Config
from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.paths import PathStep, get_value, parse_path, set_value
from nemo_run.config.target import MISSING, target_of
from nemo_run.config.tree import clone, nodes
from nemo_run.config.typecheck import compile_check, hint_name, show
from nemo_run.errors import ConfigError, ConfigPathError, OverrideError, UnsetArgumentError

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.add,
    "-=": operator.sub,
    "*=": operator.mul,
    "/=": operator.truediv,
    "|=": operator.or_,
    "&=": operator.and_,
}


class Overrider:
    """Applies overrides to one configuration.

    Example:
        >>> import nemo_run as run
        >>> from nemo_run.cli.overriding.parse import parse_override
        >>> cfg = run.Config(complex, real=1)
        >>> Overrider(cfg).apply(parse_override("real+=2"))
        >>> cfg.real
        3
    """

    def __init__(
        self,
        config: fdl.Buildable[Any],
        names: dict[str, Any] | None = None,
        trusted: frozenset[Any] = frozenset(),
        prefix: str = "",
        owner: Any = None,
    ) -> None:
        """Apply overrides to a configuration.

        Args:
            config: The configuration; it is changed.
            names: What names without a dot may stand for where any function will do.
            trusted: Functions that a file may name because the code itself does.
            prefix: What comes before a path in messages.
            owner: The class or function that factories for its arguments are registered for; that of the
                configuration by default.
        """
        self.config = config
        self.names = names or {}
        self.trusted = trusted
        self.prefix = prefix
        self.owner = owner

    def apply_all(self, overrides: Iterable[Override]) -> None:
        """Apply overrides: those of whole arguments before those of parts of them, otherwise in their order."""
        for override in sorted(overrides, key=lambda override: len(_steps(override))):
            self.apply(override)

    def apply(self, override: Override) -> None:
        """Apply one override.

        Raises:
            OverrideError: There is no such place, or the value does not fit there.
        """
        try:
            place = self._walk(_steps(override))
            value = self._value(override, place)
            set_value(self.config, override.path, value)
        except UnfitError as error:
            raise OverrideError(str(error)) from None
        except ConfigError as error:
            raise OverrideError(f"{self.prefix}{error}") from None

    def merge(self, changes: Iterable[tuple[str, str, Item]], path: str = "") -> None:
        """Apply what a file says: what it has of a configuration is set in it, and the rest of that stays.

        Args:
            changes: Paths, operators and values.
            path: What comes before the paths.
        """
        for key, operation, item in changes:
            inner = _pairs_in(item)
            override = Override(f"{path}{key}", operation, item, f"{path}{key}{operation}{item.source}")
            if inner is not None and operation == "=" and self._takes(inner, _steps(override)):
                self.merge(inner, f"{path}{key}.")
            else:
                self.apply(override)

    def place_of(self, path: str) -> Place:
        """Return the place at a path.

        Raises:
            OverrideError: There is none.
        """
        return self._walk(parse_path(path))

    def _takes(self, changes: list[tuple[str, str, Item]], steps: list[PathStep]) -> bool:
        """Check whether a configuration at a path is what is changed; where there is nothing yet, it is made.

        Of several classes that are wanted, another one may be meant than that of the configuration.
        """
        place = self._walk(steps)
        classes = classes_of(place.hint)
        try:
            present = self._present(steps, place) if classes else None
        except OverrideError:
            if len(classes) < 2:
                raise
            return False
        if not isinstance(present, fdl.Buildable):
            return False
        target = target_of(present.__fn_or_cls__)
        known = target.takes_any_keyword or all(parse_path(key)[0].key in target.keywords for key, _, _ in changes)
        return known or len(classes) < 2

    # --- the place ---------------------------------------------------------------------------------------------

    def _walk(self, steps: list[PathStep]) -> Place:
        """Return the place at the end of a path; what is missing on the way there is made."""
        value: Any = self.config
        place = Place("", Any, names=self.names, trusted=self.trusted, maker=MAKER)
        for index, step in enumerate(steps):
            if index:
                value = self._present(steps[:index], place)
            place = self._inside(value, place, step)
        return place

    def _inside(self, value: Any, place: Place, step: PathStep) -> Place:
        path = f"{place.path}{step}" if place.path else f"{self.prefix}{str(step).removeprefix('.')}"
        if not isinstance(value, fdl.Buildable) or not isinstance(step.key, str):
            return dataclasses.replace(place, path=path, hint=_element_hint(place.hint, step.key), accepts=None)
        target = value.__fn_or_cls__
        name = hint_name(target)
        check_argument(target_of(target), step.key, f"{place.path}: {name}" if place.path else f"{self.prefix}{name}")
        owner = (self.owner or target) if value is self.config else target
        hint, accepts = hint_of(target, step.key), acceptor(target, step.key)
        return dataclasses.replace(place, path=path, hint=hint, owner=owner, name=step.key, accepts=accepts)

    def _present(self, steps: list[PathStep], place: Place) -> Any:
        """Return the value at a path that has more to come; made from its type where there is none."""
        path = "".join(map(str, steps))
        try:
            found = get_value(self.config, path)
        except UnsetArgumentError:
            found = self._default_of(path)
        except ConfigError as error:
            raise OverrideError(f"{place.path}: {error}") from None
        if found is None:
            found = self._new(place)
            set_value(self.config, path, found)
        return dataclasses_to_configs(found, Config)

    def _default_of(self, path: str) -> Any:
        """Return what a default factory gives, put where it belongs, so that it can be changed."""
        holder, _, name = path.rpartition(".")
        node = get_value(self.config, holder) if holder else self.config
        made = target_of(node.__fn_or_cls__).factories.get(name)
        if made is None:
            return None
        set_value(self.config, path, made())
        return get_value(self.config, path)

    def _new(self, place: Place) -> Any:
        """Return what a place holds where it was not given as a whole: what the default factory makes, or the class."""
        if entry := find_factory(registry.DEFAULT, place):
            return run_factory(entry, Call(registry.DEFAULT, registry.DEFAULT), place)
        classes = classes_of(place.hint)
        if len(classes) == 1 and not inspect.isabstract(classes[0]):
            return Config(classes[0])
        kind = hint_name(place.hint)
        raise OverrideError(
            f"{place.path} has no value yet, so nothing in it can be set; it takes a {kind}: {place.path}=..."
        )

    # --- the value ---------------------------------------------------------------------------------------------

    def _value(self, override: Override, place: Place) -> Any:
        if override.operator == "=":
            return convert(override.value, place)
        current = self._current(override, place)
        operand = self._operand(override.value, place, current)
        try:
            result = _OPERATIONS[override.operator](current, operand)
        except (TypeError, ArithmeticError, ValueError) as error:
            raise OverrideError(
                f"{place.path}: {override.source} cannot be computed, as it is {show(current)}: {error}"
            ) from None
        result = _of_the_same_kind(result, place)
        check = compile_check(place.hint)
        if check and check(result):
            raise OverrideError(
                f"{place.path}: {override.source} gives {show(result)}, but expected is {hint_name(place.hint)}"
            )
        return result

    def _current(self, override: Override, place: Place) -> Any:
        try:
            current = get_value(self.config, override.path)
        except UnsetArgumentError:
            current = self._default_of(override.path)
            if current is None:
                raise OverrideError(f"{place.path} has no value yet, so {override.operator} cannot change it") from None
        return clone(current, {})

    def _operand(self, item: Item, place: Place, current: Any) -> Any:
        number = isinstance(current, (int, float)) and not isinstance(current, bool)
        try:
            return convert(item, place)
        except UnfitError:
            if number:  # an int may be multiplied by 0.5
                return convert(item, place.of(float))
            raise


class _Maker:
    """Makes what is named where an override is applied; what it makes is changed by overrides again."""

    make = staticmethod(making.make)
    refer = staticmethod(making.refer)
    check_calls = staticmethod(making.check_calls)

    def change(self, config: Any, changes: Iterable[tuple[str, str, Item]], place: Place) -> None:
        overrider = Overrider(config, place.names, place.trusted, prefix=f"{place.path}.")
        for path, operation, item in changes:
            overrider.apply(Override(path, operation, item, f"{path}{operation}{item.source}"))


MAKER = _Maker()


def _of_the_same_kind(result: Any, place: Place) -> Any:
    """Return a whole number as an int, where an int is wanted."""
    check = compile_check(place.hint)
    if check and check(result) and isinstance(result, float) and result.is_integer() and not check(int(result)):
        return int(result)
    return result


def _pairs_in(item: Item) -> list[tuple[str, str, Item]] | None:
    """Return the keys of a mapping, with their operators; None for anything else."""
    if isinstance(item, Shared):
        return _pairs_in(item.item)
    if not isinstance(item, Pairs):
        return None
    return [(*operator_of(key.source), value) for key, value in item.pairs]


def _steps(override: Override) -> list[PathStep]:
    try:
        return parse_path(override.path)
    except ConfigPathError as error:
        raise OverrideError(str(error)) from None


def _element_hint(hint: Any, key: str | int) -> Any:
    """Return the type that is wanted for an element of a container."""
    for one in alternatives(hint):
        kind, args = get_origin(one) or one, get_args(one)
        if typing_extensions.is_typeddict(kind):
            return typing_extensions.get_type_hints(kind).get(str(key), Any)
        if args and isinstance(kind, type):
            return _tuple_hint(args, key) if kind is tuple else args[min(1, len(args) - 1)]
    return Any


def _tuple_hint(args: tuple[Any, ...], key: str | int) -> Any:
    if not isinstance(key, int) or args[-1] is ...:
        return args[0]
    return args[key] if -len(args) <= key < len(args) else Any


def bind_default_configs(config: fdl.Buildable[Any]) -> None:
    """Set arguments whose defaults are configurations, so that they are built as everything else is."""
    for name, default in target_of(config.__fn_or_cls__).default_values.items():
        if default is not MISSING and name not in config.__arguments__ and any(True for _ in nodes(default)):
            setattr(config, name, clone(default, {}))
