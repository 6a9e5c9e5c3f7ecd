"""What was typed, or read from a file, before it is known which type is wanted where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Item:
    """Any item; ``source`` is the text that it was read from, or that it is shown as."""

    source: str


# ---------------------------------------------------------------- typed
@dataclass(frozen=True)
class Word(Item):
    """Text without quotes; ``problem`` says why it is nothing more, where it looks like more."""

    problem: str = ""


@dataclass(frozen=True)
class Quoted(Item):
    """A string in quotes."""

    value: str | bytes


@dataclass(frozen=True)
class Several(Item):
    """A list, a tuple or a set."""

    kind: Literal["list", "tuple", "set"]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Pairs(Item):
    """A mapping."""

    pairs: tuple[tuple[Item, Item], ...]


@dataclass(frozen=True)
class Call(Item):
    """A name with arguments."""

    name: str
    args: tuple[Item, ...] = ()
    kwargs: tuple[tuple[str, Item], ...] = ()


# ---------------------------------------------------------------- from a file, or given in Python
@dataclass(frozen=True)
class Given(Item):
    """A value that has its type already."""

    value: Any


@dataclass(frozen=True)
class Loaded(Given):
    """A value that a document holds as it is; there may be configurations in it."""


@dataclass(frozen=True)
class Accepted(Loaded):
    """A value of an argument that does not fit its type hint, and was accepted when it was stored."""


@dataclass(frozen=True)
class Text(Item):
    """A string, which may also say something else: the name of a factory, a date, another file.

    Attributes:
        value: The string.
        files: The file that it is from, and before it those that led there.
    """

    value: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Switch(Item):
    """A word that YAML takes for something else: ``off`` is a name as well, and ``4:00:00`` a text.

    Attributes:
        value: What YAML takes it for.
        word: The word as text, where no such value is wanted.
    """

    value: Any
    word: Text


@dataclass(frozen=True)
class Configured(Item):
    """A configuration: ``_target_`` with arguments."""

    name: str
    args: tuple[Item, ...]
    kwargs: tuple[tuple[str, Item], ...]
    partial: bool


@dataclass(frozen=True)
class Made(Item):
    """What a factory makes, with changes: ``_factory_`` with other keys, each with its operator."""

    call: Item
    changes: tuple[tuple[str, str, Item], ...]


@dataclass(frozen=True)
class Reference(Item):
    """A class, a function or a member of an enum, by its dotted name."""

    name: str


@dataclass(frozen=True, eq=False)
class Shared(Item):
    """An item that stands in several places, for one and the same value."""

    item: Item
    _made: list[Any] = field(default_factory=list)

    def value(self, make: Callable[[Item], Any]) -> Any:
        """Return the value, made when it is first asked for."""
        if not self._made:
            self._made.append(make(self.item))
        return self._made[0]
