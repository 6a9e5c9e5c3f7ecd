"""What a value consists of, whether it is a configuration or a plain document of one: for comparing and for showing.

Nothing is imported and nothing of the user's is called, so that a stored configuration can be looked at anywhere.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import fiddle as fdl

from nemo_run.config.document import from_document
from nemo_run.config.document.layout import (
    ARGS,
    BUILDABLE,
    CALL,
    CONVERT,
    EXISTING,
    PARTIAL,
    REFERENCES,
    RESERVED,
    TARGET,
)
from nemo_run.config.document.values import BY_TARGET, BY_TYPE_NAME, is_torch_dtype
from nemo_run.config.target import Target, target_of
from nemo_run.config.tree import ordered_arguments
from nemo_run.errors import SerializationError

Step = Any  # a name, a position, or another key of a dict


class Symbol(NamedTuple):
    """Something that a document refers to by name."""

    name: str

    def __repr__(self) -> str:
        return self.name


class Leaf(NamedTuple):
    """A value without parts.

    Attributes:
        key: Equal for equal values, be they in a configuration or in a document.
        value: The value.
    """

    key: Hashable
    value: Any


@dataclasses.dataclass(frozen=True)
class Branch:
    """A value with parts.

    Attributes:
        kind: ``"Config"``, ``"Partial"`` or another class of configurations; ``"object"``; ``"list"``, ``"tuple"`` or
            ``"dict"``.
        target: The dotted name of what a configuration is of; empty for a container.
        items: The parts, by argument, position or key.
        defaults: What arguments are where they are not given, as far as that is known.
    """

    kind: str
    target: str
    items: dict[Step, Any]
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_container(self) -> bool:
        """Whether it is a list, tuple or dict."""
        return not self.target

    @property
    def is_sequence(self) -> bool:
        """Whether its parts have positions only."""
        return self.kind in ("list", "tuple")

    @property
    def name(self) -> str:
        """The short name of what it is."""
        short = self.target.rpartition(".")[2] or self.kind
        return short if self.kind in ("Config", "object", short) else f"{self.kind}[{short}]"


def outline(value: Any) -> Leaf | Branch:
    """Take a value apart.

    Example:
        >>> import nemo_run as run
        >>> outline(run.Config(complex, real=1)).items
        {'real': 1}
        >>> outline({"_target_": "pathlib.PurePosixPath", "_args_": ["a"]}).value
        PurePosixPath('a')
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return Branch(kind.__name__, "", dict(enumerate(value)))
    if kind is dict:
        return _of_document(value) if isinstance(value.get(TARGET), str) else Branch("dict", "", value)
    if isinstance(value, fdl.Buildable):
        return Branch(
            kind.__name__,
            _symbol_name(value.__fn_or_cls__),
            dict(ordered_arguments(value)),
            _defaults(target_of(value.__fn_or_cls__)),
        )
    if isinstance(value, functools.partial):
        return Branch("object", _symbol_name(value.func), {**dict(enumerate(value.args)), **value.keywords})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        return Branch("object", _symbol_name(kind), fields)
    return Leaf(_key(value), value)


def _defaults(target: Target) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in target.parameters.items()
        if parameter.default is not parameter.empty and name not in target.factories
    }


def _of_document(document: dict[str, Any]) -> Leaf | Branch:
    target = document[TARGET]
    named = {name: value for name, value in document.items() if name not in RESERVED and name != CALL}
    arguments = document.get(ARGS, [])
    if not isinstance(arguments, list):
        return Branch(_kind_of(document), target, {ARGS: arguments, **named})
    found = None if PARTIAL in document else _other_than_buildable(document, named, arguments)
    return found or Branch(_kind_of(document), target, {**dict(enumerate(arguments)), **named})


def _kind_of(document: dict[str, Any]) -> str:
    if document.get(CONVERT) == EXISTING:
        return "object"
    return "Partial" if document.get(PARTIAL) else "Config"


def _other_than_buildable(
    document: dict[str, Any], named: dict[str, Any], arguments: list[Any]
) -> Leaf | Branch | None:
    target = document[TARGET]
    if target in REFERENCES and isinstance(named.get("path"), str):
        return Leaf(Symbol(named["path"]), Symbol(named["path"]))
    if document.get(CALL) is False:
        return Leaf(Symbol(target), Symbol(target))
    if target in BY_TARGET and not named:
        return _of_value(target, arguments, document)
    return outline(arguments[0]) if target == BUILDABLE and arguments else None


def _of_value(target: str, arguments: list[Any], document: dict[str, Any]) -> Leaf | Branch:
    content = arguments[0] if arguments and isinstance(arguments[0], list) else []
    if target == "builtins.tuple":
        return Branch("tuple", "", dict(enumerate(content)))
    if target == "builtins.dict" and all(map(_is_pair, content)):
        return Branch("dict", "", {_hashable(key): value for key, value in content})
    if target in BY_TYPE_NAME:  # of a package that would have to be imported
        text = Symbol(f"{target}({', '.join(map(repr, arguments))})")
        return Leaf(text, text)
    try:
        value = from_document(document, resolve=_unknown)
    except SerializationError:
        return Branch("object", target, dict(enumerate(arguments)))
    return Leaf(_key(value), value)


def _is_pair(document: Any) -> bool:
    return isinstance(document, list) and len(document) == 2


def _hashable(document: Any) -> Hashable:
    found = outline(document)
    return found.value if isinstance(found, Leaf) and isinstance(found.value, Hashable) else Symbol(repr(document))


def _unknown(name: str) -> Any:
    raise SerializationError(f"{name!r} is not looked up")


def _symbol_name(symbol: Any) -> str:
    while isinstance(symbol, functools.partial):
        symbol = symbol.func
    owner = getattr(symbol, "__self__", None)
    if isinstance(owner, type):
        return f"{_symbol_name(owner)}.{symbol.__name__}"
    module, name = getattr(symbol, "__module__", None), getattr(symbol, "__qualname__", None)
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else repr(symbol)


_FUNCTIONS = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def _key(value: Any) -> Hashable:
    if isinstance(value, _FUNCTIONS):
        return Symbol(_symbol_name(value))
    if isinstance(value, enum.Enum) and value.name in type(value).__members__:
        return Symbol(f"{_symbol_name(type(value))}.{value.name}")
    if is_torch_dtype(value):
        return Symbol(str(value))
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # NaN
        return "nan"
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(value)
    try:
        hash(value)
    except TypeError:
        return type(value), repr(value)
    return type(value), value


# ---------------------------------------------------------------- in one line
def brief(value: Any, limit: int = 80) -> str:
    """Write a value in one line of about ``limit`` characters, however large it is.

    Example:
        >>> import nemo_run as run
        >>> brief(run.Config(dict, a=run.Config(complex, real=1), b=[1, 2]))
        'dict(a=complex(real=1), b=[1, 2])'
    """
    text = ""
    for piece in _pieces(value, limit):
        text += piece
        if len(text) > limit:
            return f"{text[: limit - 1]}…"
    return text


_BRACKETS = {"list": ("[", "]"), "tuple": ("(", ")"), "dict": ("{", "}")}


def _pieces(value: Any, limit: int) -> Iterator[str]:
    found = outline(value)
    if isinstance(found, Leaf):
        yield leaf_text(found, limit)
        return
    opening, closing = _BRACKETS[found.kind if found.is_container else "tuple"]
    yield opening if found.is_container else f"{found.name}{opening}"
    for number, (step, item) in enumerate(found.items.items()):
        yield ", " if number else ""
        yield _step_piece(found, step)
        yield from _pieces(item, limit)
    yield ",)" if found.kind == "tuple" and len(found.items) == 1 else closing


def _step_piece(holder: Branch, step: Step) -> str:
    """Return what stands before an item."""
    if holder.is_container:
        return "" if holder.is_sequence else f"{step!r}: "
    return f"{step}=" if isinstance(step, str) else ""


def leaf_text(leaf: Leaf, limit: int = 80) -> str:
    """Write a value without parts in one line."""
    if isinstance(leaf.key, Symbol):
        return leaf.key.name
    value = leaf.value[: limit + 1] if isinstance(leaf.value, (str, bytes)) else leaf.value
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # any repr may fail, and showing the rest matters more
        text = f"<{_symbol_name(type(value))}>"
    return " ".join(text.split()) if "\n" in text else text
