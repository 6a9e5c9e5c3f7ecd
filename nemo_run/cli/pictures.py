"""Comparisons of jobs as a picture: parallel coordinates, and how much each parameter matters. SVG, with no library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

_AXIS, _HEIGHT, _TOP, _LEFT = 170, 300, 60, 70  # pixels
_BAR = 22


def picture(points: Sequence[Mapping[str, Any]], objectives: Sequence[float | None], objective: str, title: str) -> str:
    """Return a picture of a comparison as SVG.

    Above, a line for each job leads through the values of its parameters to what came out, yellow for the largest.
    Below, a bar for each parameter is the share of the differences that its values go along with.

    Args:
        points: The parameters of each job.
        objectives: What came out of each; those without a number are left out.
        objective: Its name.
        title: What the picture is of.

    Example:
        >>> picture([{"lr": 0.1}, {"lr": 0.2}], [1.0, 2.0], "accuracy", "grid").count("<polyline")
        2
    """
    known = [(point, value) for point, value in zip(points, objectives, strict=True) if value is not None]
    paths = list(dict.fromkeys(path for point, _ in known for path in point))
    axes = [_Axis(path, [point.get(path) for point, _ in known]) for path in paths]
    results = _Axis(objective or "result", [value for _, value in known])
    shares = importance([point for point, _ in known], [value for _, value in known])
    width = _LEFT * 2 + _AXIS * max(len(axes), 2)
    below = _TOP + _HEIGHT + 70
    height = below + _BAR * len(axes) + 40
    parts = [_text(_LEFT, 24, title, size=16)]
    parts += [_line(axes, results, number, value) for number, (_, value) in enumerate(known)]
    parts += [axis.drawn(_LEFT + _AXIS * place) for place, axis in enumerate([*axes, results])]
    parts.append(_text(_LEFT, below - 12, "share of the differences that each parameter goes along with"))
    for place, (path, share) in enumerate(sorted(shares.items(), key=lambda one: -one[1])):
        parts += _bar(path, share, below + _BAR * place)
    if not known:
        parts.append(_text(_LEFT, _TOP + 40, "no job has a number to compare by"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def importance(points: Sequence[Mapping[str, Any]], objectives: Sequence[float]) -> dict[str, float]:
    """Return for each parameter which share of the variance of the objectives is between groups of its values.

    Values are the groups; of many numbers, four groups of equally many.

    Example:
        >>> importance([{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 2, "b": 2}], [0, 0, 1, 1])
        {'a': 1.0, 'b': 0.0}
    """
    paths = dict.fromkeys(path for point in points for path in point)
    return {path: _share(_groups([point.get(path) for point in points]), objectives) for path in paths}


def _groups(values: Sequence[Any]) -> list[Any]:
    numbers = [value for value in values if _is_number(value)]
    if len(set(map(repr, values))) <= 5 or len(numbers) < len(values):
        return [repr(value) for value in values]
    ordered = sorted(numbers)
    ends = [ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3)]
    return [sum(value >= end for end in ends) for value in values]


def _share(groups: Sequence[Any], objectives: Sequence[float]) -> float:
    mean = sum(objectives) / len(objectives)
    total = sum((value - mean) ** 2 for value in objectives)
    between = 0.0
    for group in set(groups):
        inside = [value for one, value in zip(groups, objectives, strict=True) if one == group]
        between += len(inside) * (sum(inside) / len(inside) - mean) ** 2
    return between / total if total else 0.0


class _Axis:
    """An axis: numbers on a linear or logarithmic scale, anything else in the order in which it came."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self.values = values
        self.labels = list(dict.fromkeys(map(_shown, values)))
        self.is_number = all(map(_is_number, values)) and len(self.labels) > 1
        if self.is_number:
            self.low, self.high = float(min(values)), float(max(values))
            self.is_log = self.low > 0 and self.high / self.low >= 100

    def place(self, number: int) -> float:
        """Return how far up a job is on this axis, from 0 to 1."""
        value = self.values[number]
        if not self.is_number:
            return (self.labels.index(_shown(value)) + 0.5) / len(self.labels)
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    def drawn(self, x: float) -> str:
        """Return the axis at this place as SVG."""
        ticks = [(_shown(self.low), 0.0), (_shown(self.high), 1.0)] if self.is_number else [
            (label, (place + 0.5) / len(self.labels)) for place, label in enumerate(self.labels[:30])
        ]  # fmt: skip
        texts = [_text(x + 5, _y(place) + 4, label) for label, place in ticks]
        line = f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#374151"/>'
        scale = " (log)" if self.is_number and self.is_log else ""
        return line + _text(x, _TOP - 14, f"{self.name}{scale}", bold=True) + "".join(texts)


def _line(axes: Sequence[_Axis], results: _Axis, number: int, value: float) -> str:
    places = [(_LEFT + _AXIS * at, _y(axis.place(number))) for at, axis in enumerate([*axes, results])]
    best = results.place(number)
    colour = f"rgb({round(68 + 185 * best)},{round(1 + 230 * best)},{round(84 - 47 * best)})"
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    title = f"<title>{html.escape(_shown(value))}</title>"
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-opacity="0.7">{title}</polyline>'


def _bar(path: str, share: float, y: float) -> list[str]:
    long = round(share * 2 * _AXIS, 1)
    bar = f'<rect x="{_LEFT + 150}" y="{y}" width="{long}" height="{_BAR - 6}" fill="#4f46e5"/>'
    return [_text(_LEFT, y + 13, path), bar, _text(_LEFT + 156 + long, y + 13, f"{share:.0%}")]


def _y(place: float) -> float:
    return _TOP + _HEIGHT * (1 - place)


def _text(x: float, y: float, text: str, *, size: int = 12, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    cleaned = "".join(character if character.isprintable() else "?" for character in text)
    return f'<text x="{x}" y="{y}" font-size="{size}"{weight}>{html.escape(cleaned[:60])}</text>'


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
