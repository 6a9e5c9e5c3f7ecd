"""Where a value is wanted, and what may make it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nemo_run.cli.overriding.items import Item, Word
from nemo_run.config.typecheck import hint_name
from nemo_run.errors import OverrideError


class Maker(Protocol):
    """Makes what is more than a value: objects, configurations, and changes of them.

    A value may name an object, whose arguments are values again. Values reach objects by this alone.
    """

    def make(self, item: Item, place: Place) -> Any:
        """Return a configuration, or whatever else a factory makes."""

    def refer(self, item: Item, place: Place) -> Any:
        """Return a class or a function itself."""

    def check_calls(self, item: Item, place: Place) -> None:
        """Check that building what an item holds calls only what may be named here."""

    def change(self, config: Any, changes: Iterable[tuple[str, str, Item]], place: Place) -> None:
        """Apply changes, each a path, an operator and a value, to a configuration that stands in a place."""


class MakesNothing:
    """Where this is the maker, values fit and nothing else does."""

    def make(self, item: Item, place: Place) -> Any:
        """Refuse an item."""
        raise place.unfit(item)

    refer = make

    def check_calls(self, item: Item, place: Place) -> None:
        """Check nothing, as nothing is built."""

    def change(self, config: Any, changes: Iterable[tuple[str, str, Item]], place: Place) -> None:
        """Change nothing, as nothing is made."""


class Unresolved:
    """Stands for a type hint that only a type checker can resolve."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a value is wanted.

    Attributes:
        path: The place, for messages.
        hint: The type that is wanted.
        owner: The class or function whose argument it is, or is a part of.
        name: The name of that argument.
        names: What names without a dot may stand for where any function will do.
        trusted: Functions that a file may name because the code itself does.
        maker: What makes objects and configurations here.
        accepts: Of an argument as a whole: whether it takes a value that its hint does not allow, as its default.
    """

    path: str
    hint: Any
    owner: Any = None
    name: str = ""
    names: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    trusted: frozenset[Any] = frozenset()
    maker: Maker = dataclasses.field(default_factory=MakesNothing, repr=False)
    accepts: Callable[[Any], bool] | None = dataclasses.field(default=None, repr=False)

    def of(self, hint: Any) -> Place:
        """Return the same place, where another type is wanted."""
        return dataclasses.replace(self, hint=hint)

    def inside(self, step: str, hint: Any) -> Place:
        """Return a place inside the value."""
        return dataclasses.replace(self, path=self.path + step, hint=hint, accepts=None)

    def unfit(self, item: Item, why: str = "", expected: str = "") -> UnfitError:
        """Return the error that says that an item does not fit here."""
        return UnfitError(self, item, why, expected)


class NoArgumentError(OverrideError):
    """A function or class has no argument of this name."""


class UnfitError(Exception):
    """An item does not fit where it stands."""

    def __init__(self, place: Place, item: Item, why: str = "", expected: str = "") -> None:
        problem = item.problem if isinstance(item, Word) else ""
        self.place, self.item = place, item
        self.why = why or problem
        reason = f" ({self.why})" if self.why else ""
        source = item.source if len(item.source) <= 200 else f"{item.source[:200]}…"
        super().__init__(f"{place.path}: expected {expected or hint_name(place.hint)}, got {source!r}{reason}")
