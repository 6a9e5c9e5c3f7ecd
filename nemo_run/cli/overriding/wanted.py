"""What a type hint wants: the classes whose objects it accepts, and whether functions are among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args, get_origin

import fiddle as fdl

from nemo_run.cli.overriding.place import Unresolved
from nemo_run.cli.overriding.plain import is_plain
from nemo_run.config.buildable import Partial
from nemo_run.config.target import target_of
from nemo_run.config.typecheck import UNIONS, bare, unpacked_keywords

ANY = (Any, object, Unresolved)


def alternatives(hint: Any) -> list[Any]:
    """Return the types that a hint accepts, those inside of ``run.Config[...]`` too."""
    hint = bare(hint)
    origin = get_origin(hint)
    if origin in UNIONS:
        return _alternatives_inside(hint)
    if isinstance(origin or hint, type) and issubclass(origin or hint, fdl.Buildable):
        return _alternatives_inside(hint) or [Unresolved]
    return [hint]


def _alternatives_inside(hint: Any) -> list[Any]:
    return [one for arg in get_args(hint) for one in alternatives(arg)]


_BUILTIN = ("builtins", "collections", "collections.abc", "typing", "abc")


def classes_of(hint: Any, builtin: bool = False) -> list[type]:
    """Return the classes whose objects a hint accepts, where they are not just any.

    Args:
        hint: The type hint.
        builtin: Also Python's own containers.
    """
    found = [get_origin(one) or one for one in alternatives(hint)]
    classes = [cls for cls in found if isinstance(cls, type) and cls not in (*ANY, type(None))]
    return [cls for cls in classes if builtin or not _is_value(cls)]


def _is_value(cls: type) -> bool:
    """Check whether objects of a class are written as values, rather than configured."""
    return cls.__module__ in _BUILTIN or is_plain(cls)


def with_subclasses(cls: type) -> Iterator[type]:
    """Return a class and all classes below it, the nearest first."""
    seen, todo = set(), [cls]
    while todo:
        one = todo.pop(0)
        if one not in seen:
            seen.add(one)
            yield one
            todo += type.__subclasses__(one)


def union_members(hint: Any) -> Iterable[Any]:
    """Return the types of a union; a type that is none by itself."""
    hint = bare(hint)
    return get_args(hint) if get_origin(hint) in UNIONS else [hint]


def hint_of(target: Any, name: str) -> Any:
    """Return the type that is wanted for an argument; Any where it has no hint."""
    signature = target_of(target)
    parameter = signature.parameters.get(name)
    if parameter is None or name not in signature.keywords:
        parameter = signature.parameters.get(signature.var_keyword_name or "", parameter)
    if parameter is None:
        return Any
    if parameter.name not in signature.hints:
        return Any if parameter.annotation is parameter.empty else Unresolved
    hint = signature.hints[parameter.name]
    return unpacked_keywords(hint).get(name, hint) if parameter.kind is parameter.VAR_KEYWORD else hint


def takes_functions(hint: Any) -> bool:
    """Return whether any function is wanted, as such or with some of its arguments."""
    return any((get_origin(one) or one) in (Callable, fdl.Partial, Partial) for one in map(bare, union_members(hint)))
