"""What is made of a name: by a registered factory, or as a configuration of a class that fits the wanted type.

Nothing else is ever called because somebody typed its name or because a file has it. A dotted name is imported only
where the wanted type leaves room for a class or a function.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args, get_origin

import fiddle as fdl

from nemo_run.cli import registry
from nemo_run.cli.overriding.files import operator_of
from nemo_run.cli.overriding.items import (
    Accepted,
    Call,
    Configured,
    Given,
    Item,
    Loaded,
    Made,
    Pairs,
    Reference,
    Text,
    Word,
)
from nemo_run.cli.overriding.parse import parse_value
from nemo_run.cli.overriding.place import NoArgumentError, Place, Unresolved
from nemo_run.cli.overriding.values import convert
from nemo_run.cli.overriding.wanted import (
    ANY,
    alternatives,
    classes_of,
    hint_of,
    takes_functions,
    union_members,
    with_subclasses,
)
from nemo_run.config.buildable import Config, Partial
from nemo_run.config.convert import dataclasses_to_configs
from nemo_run.config.document.symbols import resolve
from nemo_run.config.names import get_type_namespace
from nemo_run.config.strictness import unwrapped, validation
from nemo_run.config.suggest import did_you_mean
from nemo_run.config.target import Target, target_of
from nemo_run.config.tree import clone, nodes
from nemo_run.config.typecheck import bare, compile_check, hint_name
from nemo_run.errors import ConfigError, OverrideError, SerializationError

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def make(item: Item, place: Place) -> Any:
    """Return a configuration, or whatever else a factory makes.

    Raises:
        UnfitError: The item names nothing that may stand here.
        OverrideError: It does, but its arguments are wrong.
    """
    if isinstance(item, Given):
        return _checked(item.value, item, place)
    if isinstance(item, Pairs):
        return _of_fields(item, place)
    if isinstance(item, Made):
        return _changed(item, place)
    if isinstance(item, Configured):
        return _of_target(item, place)
    if isinstance(item, Reference):
        return refer(item, place)
    call = as_call(item)
    if call is None:
        raise place.unfit(item)
    return _of_name(call, place)


def as_call(item: Item) -> Call | None:
    """Return a name, with arguments or without."""
    if isinstance(item, Text):
        item = parse_value(item.value)
    if isinstance(item, Word) and _DOTTED.fullmatch(item.source):
        return Call(item.source, item.source)
    return item if isinstance(item, Call) else None


# ---------------------------------------------------------------- names
def _of_name(call: Call, place: Place) -> Any:
    for _ in registry.searching():
        if entry := find_factory(call.name, place):
            return run_factory(entry, call, place)
        if cls := _find_class(call.name, place):
            return _configure(_kind_for(place), cls, call, call.args, call.kwargs, place)
    if "." in call.name and (room := classes_of(place.hint)):
        return _of_dotted(call, place, room)
    raise place.unfit(call, _nothing_of_this_name(call.name, place))


def _of_dotted(call: Call, place: Place, room: list[type]) -> Any:
    try:
        found = resolve(call.name)
    except SerializationError as error:
        raise place.unfit(call, str(error)) from None
    entry = _registered(found)
    if entry and _rank(entry, place) is not None:
        return run_factory(entry, call, place)
    if isinstance(found, type) and issubclass(found, tuple(room)):
        return _configure(_kind_for(place), found, call, call.args, call.kwargs, place)
    raise place.unfit(call, _may_not_be_called(call.name, found, place))


def _nothing_of_this_name(name: str, place: Place) -> str:
    known = [*names_for(place)]
    what = "there is no factory or class of this name"
    return f"{what}{did_you_mean(name, known)}" if known else f"{what}; register one with @run.cli.factory"


def _may_not_be_called(name: str, found: Any, place: Place) -> str:
    if isinstance(found, type):
        return f"{name} is no {hint_name(place.hint)}"
    return f"{name} is neither a class that fits nor a registered factory; register it with @run.cli.factory"


def names_for(place: Place) -> Iterator[str]:
    """Yield the names that can stand in a place, factories first."""
    from nemo_run.cli.executors import executor_names
    from nemo_run.core.execution.base import Executor

    yield from (entry.name for entry in factories_for(place))
    for wanted in classes_of(place.hint):
        if wanted is Executor:
            yield from executor_names()
            continue
        yield from (cls.__name__ for cls in with_subclasses(wanted) if not inspect.isabstract(cls))


def factories_for(place: Place) -> list[registry.Factory]:
    """Return the factories that can be named in a place."""
    return list(dict.fromkeys(entry for entry in registry.factories().values() if _rank(entry, place) is not None))


# ---------------------------------------------------------------- factories
def find_factory(name: str, place: Place) -> registry.Factory | None:
    """Return the factory of this name for a place: one for this very argument, or else for the nearest type.

    Raises:
        OverrideError: There are several for types that are equally near.
    """
    ranked: dict[int, list[registry.Factory]] = {}
    for (_, entry_name), entry in registry.factories().items():
        if entry_name == name and (rank := _rank(entry, place)) is not None and entry not in ranked.get(rank, []):
            ranked.setdefault(rank, []).append(entry)
    if not ranked:
        return None
    found, *others = ranked[min(ranked)]
    if others:
        spaces = ", ".join(entry.namespace for entry in (found, *others))
        raise OverrideError(
            f"{place.path}: there are several factories {name!r}, for {spaces}; give them names of their own"
        )
    return found


def _rank(entry: registry.Factory, place: Place) -> int | None:
    """Return how near a factory is to a place; None if it is not for it."""
    if place.owner is not None and entry.namespace == f"{get_type_namespace(place.owner)}.{place.name}":
        return 0
    if entry.is_for_one_place:
        return None
    ranks = [rank for wanted in alternatives(place.hint) if (rank := _distance(entry.makes, wanted)) is not None]
    return min(ranks, default=None)


def _distance(made: Any, wanted: Any) -> int | None:
    if made == wanted or wanted is Unresolved:
        return 1
    origin, wanted_origin = get_origin(made), get_origin(wanted)
    if origin and wanted_origin and not _have_near_arguments(made, wanted):
        return None
    return _class_distance(origin or made, wanted_origin or wanted)


def _have_near_arguments(made: Any, wanted: Any) -> bool:
    pairs = zip(get_args(made), get_args(wanted), strict=False)
    return None not in [_distance(bare(one), bare(other)) for one, other in pairs]


def _class_distance(made: Any, wanted: Any) -> int | None:
    if not isinstance(made, type) or not isinstance(wanted, type) or wanted in ANY:
        return None
    try:
        return made.__mro__.index(wanted) + 1 if wanted in made.__mro__ else 99 if issubclass(made, wanted) else None
    except TypeError:  # a protocol that cannot be asked
        return None


def _registered(function: Any) -> registry.Factory | None:
    for entry in registry.factories().values():
        if function is entry.function or function is getattr(entry.function, "wrapped", None):
            return entry
    return None


def run_factory(entry: registry.Factory, call: Call, place: Place) -> Any:
    """Call a factory with converted arguments."""
    signature = _signature_of(entry.function, call.name, place)
    path = f"{place.path}={call.name}"
    args, kwargs = _arguments(entry.function, call.args, call.kwargs, dataclasses.replace(place, path=path), path)
    try:
        signature.signature.bind(*args, **kwargs)
    except TypeError as error:
        raise OverrideError(f"{place.path}={call.source}: {error}") from None
    try:
        made = entry.function(*map(unwrapped, args), **{name: unwrapped(value) for name, value in kwargs.items()})
    except Exception as error:
        raise OverrideError(f"{place.path}={call.source} failed: {type(error).__name__}: {error}") from error
    return _checked(made, call, place)


def _checked(value: Any, item: Item, place: Place) -> Any:
    check = None if place.hint is Unresolved else compile_check(place.hint)
    if check and check(value):
        raise place.unfit(item, f"it gives {hint_name(type(value))}")
    return value


# ---------------------------------------------------------------- classes


def _find_class(name: str, place: Place) -> type | None:
    from nemo_run.cli.executors import executor_class
    from nemo_run.core.execution.base import Executor

    for wanted in classes_of(place.hint):
        if wanted is Executor and (found := executor_class(name)):
            return found
        for cls in with_subclasses(wanted):
            if cls.__name__ == name and not inspect.isabstract(cls):
                return cls
    return None


def _kind_for(place: Place) -> type[fdl.Buildable[Any]]:
    """Config, or Partial where a callable is wanted."""
    kinds = [get_origin(bare(hint)) or bare(hint) for hint in union_members(place.hint)]
    partial = any(isinstance(kind, type) and issubclass(kind, fdl.Partial) for kind in kinds)
    return Partial if partial else Config


def _of_fields(item: Pairs, place: Place) -> Any:
    """``{size: 3}`` where objects of one class are wanted."""
    kwargs = [(_name(key, place), value) for key, value in item.pairs]
    found = classes_of(place.hint)
    if (
        len(kwargs) == 1
        and kwargs[0][0] == place.name
        and not any(place.name in target_of(cls).keywords for cls in found)
    ):
        return make(kwargs[0][1], place)  # a file with just one section, of this name
    if len(found) != 1 or inspect.isabstract(found[0]):
        raise place.unfit(item, "say which class or factory, as in `_target_: package.Class` or `_factory_: name`")
    return _configure(_kind_for(place), found[0], item, (), kwargs, place)


def _name(key: Item, place: Place) -> str:
    name = convert(key, place.of(str))
    return str(name)


def _configure(
    kind: Callable[..., Any],
    target: Any,
    item: Item,
    args: tuple[Item, ...],
    kwargs: Iterable[tuple[str, Item]],
    place: Place,
) -> Any:
    """Return a configuration of a class or function, its arguments converted."""
    split = [(*operator_of(name), value) for name, value in kwargs]
    plain = [(name, value) for name, operator, value in split if operator == "="]
    changes = [change for change in split if change[1] != "="]
    _signature_of(target, item.source, place)
    if isinstance(item, Call):
        path = what = f"{place.path}={item.name}"
    else:
        path, what = place.path, f"{place.path}: {hint_name(target)}"
    try:
        values = _arguments(target, args, plain, dataclasses.replace(place, path=path), what)
        made = kind(target, *values[0], **values[1])
    except ConfigError as error:
        raise OverrideError(f"{place.path}: {error}") from None
    _apply(made, changes, place)
    return made


def _signature_of(target: Any, name: str, place: Place) -> Target:
    try:
        return target_of(target)
    except (TypeError, ValueError) as error:
        raise OverrideError(f"{place.path}: {name} does not tell its arguments, so it cannot be configured") from error


# ---------------------------------------------------------------- arguments
def _arguments(
    target: Any, args: Iterable[Item], kwargs: Iterable[tuple[str, Item]], place: Place, what: str
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each converted to the type that is wanted for it.

    Args:
        target: What is called or configured.
        args: Those by position.
        kwargs: Those by name.
        place: Where the call stands.
        what: How messages call it.
    """
    signature = target_of(target)
    names, rest = _names_by_position(signature)
    positional = []
    for position, item in enumerate(args):
        name = names[position] if position < len(names) else rest
        if not name:
            raise OverrideError(f"{what}: it takes {len(names)} arguments; {item.source!r} is one too many")
        positional.append(convert(item, argument_place(target, name, place)))
    named = {}
    for name, item in kwargs:
        if name in names[: len(positional)]:
            raise OverrideError(f"{what}: {name!r} is given twice")
        check_argument(signature, name, what)
        named[name] = convert(item, argument_place(target, name, place))
    return positional, named


def _names_by_position(signature: inspect.Signature) -> tuple[list[str], str]:
    """Return the parameters that take one argument by position, and the one that takes all further ones, if any."""
    parameters = signature.parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names, next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")


def check_argument(signature: Target, name: str, prefix: str) -> None:
    """Raise an error where there is no argument of this name."""
    if name not in signature.keywords and not signature.takes_any_keyword:
        known = [known for known in signature.parameters if known in signature.keywords]
        raise NoArgumentError(f"{prefix} has no argument {name!r}{did_you_mean(name, known)}")


def argument_place(target: Any, name: str, place: Place) -> Place:
    """Return the place of an argument of a class or function that stands in a place."""
    return dataclasses.replace(
        place,
        path=f"{place.path}.{name}",
        hint=hint_of(target, name),
        owner=target,
        name=name,
        accepts=acceptor(target, name),
    )


def acceptor(target: Any, name: str) -> Callable[[Any], bool]:
    """Return whether an argument takes a value, which it does of its default whatever the hint says."""

    def accepts(value: Any) -> bool:
        check = target_of(target).checks[name]
        return check is not None and check(value) is None

    return accepts


# ---------------------------------------------------------------- files
def _of_target(item: Configured, place: Place) -> Any:
    """``_target_`` with arguments."""
    found = _resolved(item.name, item, place)
    if entry := _registered(found):
        return run_factory(entry, Call(item.source, item.name, item.args, item.kwargs), place)
    if not _may_be_called(found, item, place):
        raise place.unfit(item, _may_not_be_called(item.name, found, place))
    made = _configure(Partial if item.partial else Config, found, item, item.args, item.kwargs, place)
    return _checked(made, item, place)


def _may_be_called(found: Any, item: Configured, place: Place) -> bool:
    room = tuple(classes_of(place.hint, builtin=True))
    if isinstance(found, type) and (item.partial or not room or issubclass(found, room)):
        return True
    return found in place.trusted or (item.partial and takes_functions(place.hint))


def check_calls(item: Item, place: Place) -> None:
    """Raise UnfitError where building a value would call something that may not be named here."""
    if not isinstance(item, Loaded):
        return
    try:
        with validation("off" if isinstance(item, Accepted) else "strict"):
            value = dataclasses_to_configs(item.value, Config)
    except ConfigError as error:
        raise place.unfit(item, str(error)) from None
    if isinstance(item, Accepted):
        _check_names(value, item, place)
    _check_functions(value, item, place)


def _check_functions(value: Any, item: Item, place: Place) -> None:
    for node in nodes(value):
        called = node.__fn_or_cls__
        if isinstance(node, fdl.Config) and not isinstance(called, type) and called not in place.trusted:
            raise place.unfit(item, _may_not_be_called(hint_name(called), called, place))


def _check_names(value: Any, item: Accepted, place: Place) -> None:
    """Raise UnfitError where a value that was accepted names something that the code does not, as nothing is wanted."""
    named = [node.__fn_or_cls__ for node in nodes(value)] + ([value] if callable(value) else [])
    for one in named:
        if one not in place.trusted:
            raise place.unfit(item, f"{hint_name(one)} does not fit here, and the code does not name it either")


def _resolved(name: str, item: Item, place: Place) -> Any:
    try:
        return resolve(name)
    except SerializationError as error:
        raise place.unfit(item, str(error)) from None


def _changed(item: Made, place: Place) -> Any:
    """``_factory_`` with changes of what it makes."""
    made = clone(make(item.call, place), {})
    _apply(made, item.changes, place)
    return made


def _apply(made: Any, changes: Iterable[tuple[str, str, Item]], place: Place) -> None:
    changes = list(changes)
    if changes and not isinstance(made, fdl.Buildable):
        raise OverrideError(
            f"{place.path}: {hint_name(type(made))} is no configuration, so {changes[0][0]!r} cannot be set"
        )
    place.maker.change(made, changes, place)


# ---------------------------------------------------------------- references
def refer(item: Item, place: Place) -> Any:
    """Return a class or a function itself, where that is wanted."""
    if isinstance(item, (Given, Configured, Made)):
        return make(item, place)
    name = item.name if isinstance(item, Reference) else getattr(as_call(item), "name", None)
    if name is None:
        raise place.unfit(item)
    if not isinstance(item, Reference) and (found := _named_here(item, name, place)) is not None:
        return found
    if "." not in name:
        raise place.unfit(item, _nothing_of_this_name(name, place))
    found = _resolved(name, item, place)
    check = compile_check(place.hint)
    if check and check(found):
        raise place.unfit(item, f"{name} is none")
    return found


def _named_here(item: Item, name: str, place: Place) -> Any:
    """Return what a name without a dot stands for: a factory, a class, or a function of the module at hand."""
    call = as_call(item)
    for _ in registry.searching():
        if call and (entry := find_factory(name, place)):
            return run_factory(entry, call, place)
        if (cls := _class_itself(name, place)) is not None:
            return cls
    found = place.names.get(name)
    if call and (entry := _registered(found)) and _makes_callable(entry):
        return run_factory(entry, call, place)
    check = compile_check(place.hint)
    return found if callable(found) and not (check and check(found)) else None


def _makes_callable(entry: registry.Factory) -> bool:
    """Whether a factory says that it makes a Partial, or something else that is called; so a callable may be wanted."""
    annotation = registry.return_annotation(entry.function)
    return get_origin(annotation) is Partial or (callable(entry.makes) and not isinstance(entry.makes, type))


def _class_itself(name: str, place: Place) -> type | None:
    """Return the class of this name where ``type[...]`` is wanted."""
    return next((cls for cls in _wanted_classes(place.hint) if cls.__name__ == name), None)


def _wanted_classes(hint: Any) -> Iterator[type]:
    wanted = [bare(arg) for one in alternatives(hint) if get_origin(one) is type for arg in get_args(one)]
    return (cls for one in wanted if isinstance(one, type) for cls in with_subclasses(one))
