"""Walks over configurations: each visits every node once, in time proportional to their number."""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Iterable, Iterator
from typing import Any

import fiddle as fdl
from fiddle import daglish

from nemo_run.config import changes
from nemo_run.config.target import Target

# Types whose values hold nothing and are never copied or built.
ATOMS = frozenset({
    type(None), bool, int, float, complex, str, bytes, type, types.FunctionType, types.BuiltinFunctionType,
    type(Ellipsis), type(NotImplemented),
})  # fmt: skip


# ---------------------------------------------------------------- visiting
def nodes(root: Any, apart_from: Iterable[Any] = ()) -> Iterator[fdl.Buildable[Any]]:
    """Yield every configuration in ``root``, itself included, parents first; a shared one comes once.

    What the caller puts into a node that it was given is visited too, unless it is in ``apart_from``.
    """
    seen = {id(value) for value in apart_from}
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if is_node(value):
            yield value
            children: Iterable[Any] = value.__arguments__.values()
        else:
            children = _children(value)
        todo += [child for child in children if type(child) not in ATOMS][::-1]


def is_node(value: Any) -> bool:
    """Check whether a value is a configuration; faster than ``isinstance``, which has to ask an abstract class."""
    return fdl.Buildable in type(value).__mro__


def _children(value: Any) -> Iterable[Any]:
    """Return what a container holds; nothing, where it is no container."""
    kind = type(value)
    if kind is list or kind is tuple:
        children: Iterable[Any] = value
    elif kind is dict:
        children = value.values()
    else:
        traverser = daglish.find_node_traverser(kind)
        children = traverser.flatten(value)[0] if traverser else ()
    return children


def ordered_arguments(node: fdl.Buildable[Any]) -> list[tuple[str | int, Any]]:
    """Return what is set in a node, in the order of the signature."""
    arguments, target = node.__arguments__, node.__signature_info__
    if not isinstance(target, Target) or not target.keywords_only:
        return list(fdl.ordered_arguments(node).items())
    ordered: list[tuple[str | int, Any]] = [(name, arguments[name]) for name in target.parameters if name in arguments]
    if len(ordered) < len(arguments):  # into **kwargs
        ordered += [item for item in arguments.items() if item[0] not in target.parameters]
    return ordered


def path_to(root: Any, wanted: Any) -> str:
    """Return the path from ``root`` to an object in it, such as ``model.layers[2]``; empty for ``root`` itself."""
    seen: set[int] = set()
    todo = [("", root)]
    while todo:
        path, value = todo.pop()
        if value is wanted:
            return path.removeprefix(".")
        if type(value) in ATOMS or id(value) in seen:
            continue
        seen.add(id(value))
        if traverser := daglish.find_node_traverser(type(value)):
            children = zip(traverser.path_elements(value), traverser.flatten(value)[0], strict=True)
            todo.extend((path + element.code, child) for element, child in [*children][::-1])
    return ""


# ---------------------------------------------------------------- copying
def clone(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy, as ``copy.deepcopy`` makes it; what configurations are for is kept rather than copied.

    Args:
        value: What to copy.
        memo: What has been copied already, by id; the one of ``copy.deepcopy``.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    key = id(value)
    if key in memo:
        return memo[key]
    if kind is list:
        items = memo[key] = []
        for item in value:
            items.append(item if type(item) in ATOMS else clone(item, memo))  # noqa: PERF401  # it may hold itself
        return items
    if kind is dict:
        pairs = memo[key] = {}
        for name, item in value.items():
            pairs[clone(name, memo)] = item if type(item) in ATOMS else clone(item, memo)
        return pairs
    if is_node(value):
        return _clone_node(value, memo)
    return copy.deepcopy(value, memo)


def _clone_node(node: fdl.Buildable[Any], memo: dict[int, Any]) -> fdl.Buildable[Any]:
    new = memo[id(node)] = object.__new__(type(node))
    state = new.__dict__
    state.update(node.__dict__)
    state["__arguments__"] = arguments = {}
    for name, value in node.__arguments__.items():
        arguments[name] = value if type(value) in ATOMS else clone(value, memo)
    state["__argument_history__"] = changes.copied(node.__argument_history__)
    state["__argument_tags__"] = collections.defaultdict(
        set, {name: set(tags) for name, tags in node.__argument_tags__.items()}
    )
    return new
