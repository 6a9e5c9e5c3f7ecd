"""Curves as text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"


def curve(steps: Sequence[int], values: Sequence[float], width: int = 60, height: int = 8) -> list[str]:
    r"""Return a curve as lines of text, with the largest and the smallest value beside it and the steps below it.

    Values that are no number are left out. Where there are more values than columns, a column is their mean.

    Example:
        >>> print("\n".join(curve([0, 1, 2, 3], [4.0, 3.0, 2.0, 1.0], height=2)))
        4 █▃
        1 ██▆▁
          0  3
    """
    points = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    if not points:
        return ["no number to plot"]
    columns = _means([value for _, value in points], width)
    low, high = min(columns), max(columns)
    levels = height * len(_BLOCKS) - 1
    filled = [round((value - low) / (high - low) * levels) if high > low else 0 for value in columns]
    rows = ["".join(_cell(level - row * len(_BLOCKS)) for level in filled) for row in reversed(range(height))]
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"] if height > 1 else [f"{high:.4g}"]
    room = max(map(len, labels))
    first, last = str(points[0][0]), str(points[-1][0])
    axis = f"{first}{' ' * max(1, len(columns) - len(first) - len(last))}{last}"
    lines = [f"{label:>{room}} {row}".rstrip() for label, row in zip(labels, rows, strict=True)]
    return [*lines, f"{'':>{room}} {axis}"]


def _cell(level: int) -> str:
    return " " if level < 0 else _BLOCKS[min(level, len(_BLOCKS) - 1)]


def _means(values: Sequence[float], columns: int) -> list[float]:
    count = min(columns, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
