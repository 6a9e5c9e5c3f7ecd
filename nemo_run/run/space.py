"""The values that a sweep tries: spaces, and the points that a sampler takes from them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nemo_run.errors import SweepError

Sampler = Literal["grid", "random"]
When = Mapping[str, Any]
Point = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]
    when: When = field(default_factory=dict)

    def grid(self) -> Sequence[Any] | None:
        """Return all values, where they can be counted."""
        return self.values

    def draw(self, source: random.Random) -> Any:
        """Return a value at random."""
        return source.choice(self.values)


@dataclass(frozen=True)
class Uniform:
    """A float between two others, on a linear or a logarithmic scale."""

    low: float
    high: float
    log: bool = False
    when: When = field(default_factory=dict)

    def grid(self) -> None:
        """Return ``None``: it has no end of values."""

    def draw(self, source: random.Random) -> float:
        """Return a value at random."""
        if self.log:
            return math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        return source.uniform(self.low, self.high)


@dataclass(frozen=True)
class Integers:
    """An integer between two others, both of them included."""

    low: int
    high: int
    when: When = field(default_factory=dict)

    def grid(self) -> Sequence[int]:
        """Return all of them."""
        return range(self.low, self.high + 1)

    def draw(self, source: random.Random) -> int:
        """Return one at random."""
        return source.randint(self.low, self.high)


Space: TypeAlias = "Choice | Uniform | Integers"


def is_active(space: Space, point: Point) -> bool:
    """Check that the values chosen before give a space a meaning; a list in its condition stands for any of it."""
    return all(
        path in point and point[path] in (wanted if isinstance(wanted, (list, tuple)) else [wanted])
        for path, wanted in space.when.items()
    )


def choice(*values: Any, when: When | None = None) -> Choice:
    """Try one of these values.

    Args:
        *values: The values.
        when: Only where parameters before it have these values: ``when={"optimizer": "sgd"}``; a list stands for any
            of its values. Elsewhere the parameter stays as the task has it.

    Example:
        >>> choice(2, 4, 8).grid()
        (2, 4, 8)
    """
    if not values:
        raise SweepError("choice() needs at least one value")
    return Choice(values, when or {})


def uniform(low: float, high: float, when: When | None = None) -> Uniform:
    """Try floats between ``low`` and ``high``; ``when`` as for :func:`choice`."""
    _check_ends(low, high, "uniform")
    return Uniform(low, high, when=when or {})


def loguniform(low: float, high: float, when: When | None = None) -> Uniform:
    """Try floats between ``low`` and ``high``, which are above 0, each order of magnitude as often as the others.

    ``when`` is as for :func:`choice`.
    """
    if not low > 0:
        raise SweepError(f"loguniform({low}, {high}): the lower end must be above 0")
    _check_ends(low, high, "loguniform")
    return Uniform(low, high, log=True, when=when or {})


def randint(low: int, high: int, when: When | None = None) -> Integers:
    """Try integers from ``low`` to ``high``, both included; ``when`` as for :func:`choice`."""
    _check_ends(low, high, "randint")
    return Integers(low, high, when or {})


def _check_ends(low: float, high: float, name: str) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SweepError(f"{name}({low}, {high}): the first number must be below the second")


def spaces_of(given: Mapping[str, Any]) -> dict[str, Space]:
    """Return the spaces of a sweep; a list or tuple is a choice, any other value is one that is always taken.

    Raises:
        SweepError: There is none, or an empty list.
    """
    if not given:
        raise SweepError('a sweep needs at least one parameter, such as {"lr": run.choice(0.1, 0.01)}')
    spaces: dict[str, Space] = {}
    for path, value in given.items():
        spaces[path] = space = _space(value)
        if unknown := [other for other in space.when if other not in spaces or other == path]:
            raise SweepError(f"{path!r} is tried when {unknown[0]!r} has some value; that one has to stand before it")
    return spaces


def _space(value: Any) -> Space:
    if isinstance(value, (Choice, Uniform, Integers)):
        return value
    return choice(*value) if isinstance(value, (list, tuple)) else choice(value)


def points(spaces: Mapping[str, Space], sampler: Sampler, trials: int | None, seed: int) -> Iterator[Point]:
    """Yield the points that a sweep tries, the same for the same seed.

    Raises:
        SweepError: The sampler cannot have these spaces, or the number of trials is missing or wrong.
    """
    if trials is not None and trials < 1:
        raise SweepError(f"trials={trials}, but at least one must be tried")
    if sampler == "grid":
        return itertools.islice(_grid(spaces), trials)
    if sampler != "random":
        raise SweepError(f"sampler={sampler!r}; it is 'grid' or 'random'")
    if trials is None:
        raise SweepError("a random sweep needs the number of its trials: trials=20")
    return _random(spaces, trials, random.Random(seed))  # noqa: S311  (no secret depends on it)


def _grid(spaces: Mapping[str, Space]) -> Iterator[Point]:
    lists = [(path, space.grid()) for path, space in spaces.items()]
    if endless := [path for path, values in lists if values is None]:
        raise SweepError(
            f"{endless[0]!r} has no end of values, so there is no grid of them; list values with run.choice(), "
            "or draw some: sampler='random', trials=20"
        )
    return _combinations(list(spaces.items()), {})


def _combinations(spaces: Sequence[tuple[str, Space]], point: Point) -> Iterator[Point]:
    if not spaces:
        yield point
        return
    (path, space), *rest = spaces
    for value in (space.grid() or ()) if is_active(space, point) else ():
        yield from _combinations(rest, {**point, path: value})
    if not is_active(space, point):
        yield from _combinations(rest, point)


def _random(spaces: Mapping[str, Space], trials: int, source: random.Random) -> Iterator[Point]:
    for _ in range(trials):
        point: Point = {}
        for path, space in spaces.items():
            if is_active(space, point):
                point[path] = space.draw(source)
        yield point
