"""Walks over configurations: each visits every node once, in time proportional to their number."""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Iterable, Iterator
from typing import Any

import fiddle as fdl
from fiddle import daglish, history

from nemo_run.config.target import Target
from nemo_run.errors import ConfigError, MissingArgumentError

# Types whose values hold nothing and are never copied.
_ATOMS = frozenset({
    type(None), bool, int, float, complex, str, bytes, type, types.FunctionType, types.BuiltinFunctionType,
    type(Ellipsis), type(NotImplemented),
})  # fmt: skip


# ---------------------------------------------------------------- visiting
def nodes(root: Any, apart_from: Iterable[Any] = ()) -> Iterator[fdl.Buildable[Any]]:
    """Every configuration in ``root``, itself included, parents first; a shared one comes once.

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
        todo += [child for child in children if type(child) not in _ATOMS][::-1]


def is_node(value: Any) -> bool:
    """Whether a value is a configuration; ``isinstance``, without the detour that it takes for an abstract class."""
    return fdl.Buildable in type(value).__mro__


def _children(value: Any) -> Iterable[Any]:
    """What a container holds; nothing, where it is no container."""
    kind = type(value)
    if kind is list or kind is tuple:
        children: Iterable[Any] = value
    elif kind is dict:
        children = value.values()
    else:
        traverser = daglish.find_node_traverser(kind)
        children = traverser.flatten(value)[0] if traverser else ()
    return children


def path_to(root: Any, wanted: Any) -> str:
    """The path from ``root`` to an object in it, such as ``model.layers[2]``; empty for ``root`` itself."""
    seen: set[int] = set()
    todo = [("", root)]
    while todo:
        path, value = todo.pop()
        if value is wanted:
            return path.removeprefix(".")
        if type(value) in _ATOMS or id(value) in seen:
            continue
        seen.add(id(value))
        if traverser := daglish.find_node_traverser(type(value)):
            children = zip(traverser.path_elements(value), traverser.flatten(value)[0], strict=True)
            todo.extend((path + element.code, child) for element, child in [*children][::-1])
    return ""


# ---------------------------------------------------------------- copying
def clone(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy, as ``copy.deepcopy`` makes it; what configurations are for is kept rather than copied.

    Args:
        value: What to copy.
        memo: What has been copied already, by id; the one of ``copy.deepcopy``.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    key = id(value)
    if key in memo:
        return memo[key]
    if kind is list:
        items = memo[key] = []
        for item in value:
            items.append(item if type(item) in _ATOMS else clone(item, memo))  # noqa: PERF401  # it may hold itself
        return items
    if kind is dict:
        pairs = memo[key] = {}
        for name, item in value.items():
            pairs[clone(name, memo)] = item if type(item) in _ATOMS else clone(item, memo)
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
        arguments[name] = value if type(value) in _ATOMS else clone(value, memo)
    state["__argument_history__"] = history.History(
        {name: entries[:] for name, entries in node.__argument_history__.items()}
    )
    state["__argument_tags__"] = collections.defaultdict(
        set, {name: set(tags) for name, tags in node.__argument_tags__.items()}
    )
    return new


# ---------------------------------------------------------------- building
def build(root: fdl.Buildable[Any]) -> Any:
    """What ``fiddle.build`` gives, in less time. Where an error is raised, its notes say at which path."""
    built: dict[int, Any] = {}
    unfinished = object()

    def visit(value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        key = id(value)
        if key in built:
            if built[key] is unfinished:
                raise ConfigError(f"{path_to(root, value) or 'the configuration'} holds itself; take it out of itself")
            return built[key]
        built[key] = unfinished
        if kind is list:
            result: Any = [visit(item) for item in value]
        elif kind is dict:
            result = {name: visit(item) for name, item in value.items()}
        elif is_node(value):
            arguments = {name: visit(item) for name, item in ordered_arguments(value)}
            result = _call(root, value, arguments)
        elif traverser := daglish.find_node_traverser(kind):
            items, about = traverser.flatten(value)
            result = traverser.unflatten([visit(item) for item in items], about)
        else:
            result = value
        built[key] = result
        return result

    return visit(root)


def ordered_arguments(node: fdl.Buildable[Any]) -> Iterable[tuple[str | int, Any]]:
    """What is set in a node, in the order of the signature."""
    arguments, target = node.__arguments__, node.__signature_info__
    if not isinstance(target, Target) or not target.keywords_only:
        return fdl.ordered_arguments(node).items()
    if len(arguments) < 2:
        return arguments.items()
    ordered = [(name, arguments[name]) for name in target.parameters if name in arguments]
    if len(ordered) < len(arguments):  # into **kwargs
        ordered += [item for item in arguments.items() if item[0] not in target.parameters]
    return ordered


def _call(root: fdl.Buildable[Any], node: fdl.Buildable[Any], arguments: dict[str | int, Any]) -> Any:
    args, kwargs = node.__signature_info__.transform_to_args_kwargs(arguments)
    try:
        return node.__build__(*args, **kwargs)
    except MissingArgumentError as error:
        raise MissingArgumentError(f"{path_to(root, node) or 'the configuration'}: {error}") from None
    except Exception as error:
        where = path_to(root, node)
        _add_note(error, f"while building {where or 'the configuration'}, which is {describe(node)}")
        raise


def _add_note(error: BaseException, note: str) -> None:
    error.__dict__.setdefault("__notes__", []).append(note)  # add_note() came with Python 3.11


def describe(node: fdl.Buildable[Any]) -> str:
    """A node in one word, such as ``Config[Model]``."""
    target = node.__fn_or_cls__
    return f"{type(node).__name__}[{getattr(target, '__qualname__', target)}]"
