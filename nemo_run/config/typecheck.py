"""Does a value fit a type hint? Each hint is compiled once into a function that answers for every element of a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Mismatch(NamedTuple):
    """A value that does not fit."""

    path: str
    expected: str
    value: Any


Check = Callable[[Any], "Mismatch | None"]


def compile_check(hint: Any) -> Check | None:
    """The check of a hint; None where every value fits."""
    return None


def show(value: Any) -> str:
    """A value and its type, short enough for a message."""
    return f"{value!r} ({type(value).__name__})"


def hint_name(hint: Any) -> str:
    """A type hint as one would write it."""
    return str(hint)
