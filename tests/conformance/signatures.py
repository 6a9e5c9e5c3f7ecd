"""Signatures as ``api_surface.json`` writes them, compared with real ones. Annotations are not compared."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_OPEN, _CLOSE = "([{", ")]}"
REQUIRED = "<required>"  # may have a default in reality


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name with its stars, and its default as text (``None``: it has none)."""

    name: str
    default: str | None = None


def parse(signature: str) -> tuple[Parameter, ...]:
    """The parameters in ``"(a: int, *, b: str = 'x') -> None"``."""
    return tuple(_parameter(piece) for piece in _split(_inside(signature)) if piece not in ("*", "/"))


def keyword_only(signature: str) -> set[str]:
    """The names that may be given by keyword only."""
    pieces = list(_split(_inside(signature)))
    stars = [i for i, piece in enumerate(pieces) if piece.startswith("*") and not piece.startswith("**")]
    return {_parameter(piece).name for piece in pieces[stars[0] + 1 :]} if stars else set()


def mismatches(expected: str, actual: inspect.Signature) -> Iterator[str]:
    """What a call that fits ``expected`` would miss in ``actual``; ``actual`` may take more, with defaults."""
    wanted = parse(expected)
    if [p.name for p in wanted] == ["*args", "**kwargs"]:
        return  # how an inherited object.__init__ shows itself: it says nothing
    real = {_starred(p): p for p in actual.parameters.values()}
    for parameter in wanted:
        if parameter.name not in real:
            yield f"parameter {parameter.name} is missing"
        elif parameter.default is not None and not same_value(parameter.default, real[parameter.name].default):
            yield f"parameter {parameter.name} defaults to {real[parameter.name].default!r}, not {parameter.default}"
    names = {p.name for p in wanted}
    for name, extra in real.items():
        if name not in names and not name.startswith("*") and extra.default is inspect.Parameter.empty:
            yield f"parameter {name} is additional and required"
    by_position = [p.name for p in wanted if p.name not in keyword_only(expected) and not p.name.startswith("*")]
    really = [n for n, p in real.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not set(by_position) - set(real) and really[: len(by_position)] != by_position:
        yield f"positional parameters are {really}, not {by_position}"


def same_value(expected: str, actual: object) -> bool:
    """Is ``actual`` the default that the surface writes as ``expected``?"""
    if expected == REQUIRED:
        return actual is inspect.Parameter.empty
    if isinstance(actual, Enum):
        return expected in (f"{actual.name} ({actual.value})", repr(actual), str(actual))
    if expected.startswith("<class "):
        return isinstance(actual, type) and expected.strip("<>'").rpartition(".")[2] == actual.__name__
    if expected.startswith("<function "):
        return callable(actual)
    try:
        return bool(ast.literal_eval(expected) == actual)
    except ValueError:  # "GitArchivePackager()": an object, named by its class
        return expected == f"{type(actual).__name__}()"


def matches_kind(expected: str, attribute: object) -> bool:
    """Can ``attribute``, as found on the class, be used as what the surface calls ``expected``?"""
    kind = expected.split(" ", 1)[0]
    if kind == "property":
        return True  # a property, or any attribute read without a call
    if kind in ("classmethod", "staticmethod"):
        return isinstance(attribute, (classmethod, staticmethod))
    return callable(attribute) or isinstance(attribute, (classmethod, staticmethod))


def of_method(attribute: object) -> inspect.Signature:
    """The signature of a function found on a class, without ``self`` or ``cls``."""
    function = getattr(attribute, "__func__", attribute)
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parameters = list(signature.parameters.values())
    bound = not isinstance(attribute, staticmethod)
    return signature.replace(parameters=parameters[1:] if bound else parameters)


def _starred(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return stars.get(parameter.kind, "") + parameter.name


def _inside(signature: str) -> str:
    """The text between the outermost parentheses."""
    depth = 0
    start = signature.index("(")
    for i, char in enumerate(signature[start:], start):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0:
            return signature[start + 1 : i]
    raise ValueError(f"unbalanced signature: {signature}")


def _split(text: str, separator: str = ",") -> Iterator[str]:
    """Pieces of ``text`` between separators that are inside no bracket and no quotes."""
    depth, quote, piece = 0, "", ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        depth += not quote and ((char in _OPEN) - (char in _CLOSE))
        if char == separator and depth == 0 and not quote:
            yield piece.strip()
            piece = ""
        else:
            piece += char
    if piece.strip():
        yield piece.strip()


def _parameter(piece: str) -> Parameter:
    left, *default = _split(piece, "=")
    name = left.split(":", 1)[0].strip()
    return Parameter(name, "=".join(default) if default else None)
