"""Annotations with names that are imported for a type checker alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from no_such_package import Place


def train(path: Place, steps: int, places: list[Place] | None = None): ...


@dataclass
class Trainer:
    path: Place
    steps: int
    inner: Optional[Trainer] = None
