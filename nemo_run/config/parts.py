"""The differences between two configurations, as data: a list of changes, and a tree of the places where they are."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from nemo_run.config.outline import Step, brief

Kind = Literal["added", "removed", "changed", "target"]


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        path: Where, as it is typed: ``model.layers[2].size``. Positions in a list are those of the new one, but for
            what was removed.
        kind: ``"added"``, ``"removed"`` or ``"changed"``; ``"target"`` if a configuration is of another class or
            function.
        old: The old value; of another target, its dotted name; ``None`` if something was added.
        new: The new value, likewise.
    """

    path: str
    kind: Kind
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        where = self.path or "(the whole)"
        if self.kind == "added":
            return f"{where}: {brief(self.new)}"
        if self.kind == "removed":
            return f"{where}: {brief(self.old)}"
        if self.kind == "target":
            return f"{where}: {self.old} -> {self.new}"
        return f"{where}: {brief(self.old)} -> {brief(self.new)}"


@dataclasses.dataclass(frozen=True)
class Part:
    """A place in both configurations, and what is different at and below it.

    Attributes:
        step: The last step of the path to it.
        kind: What happened to it as a whole; empty if it is the same, or if only something in it is different.
        old: The old value, if there is one.
        new: The new value, if there is one.
        target: The old and the new target, where they differ.
        parts: What is in it, if something in it is different.
    """

    step: Step
    kind: Literal["added", "removed", "changed", ""]
    old: Any
    new: Any
    target: tuple[str, str] | None = None
    parts: tuple[Part, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether there is any difference."""
        return bool(self.kind or self.target or self.parts)
