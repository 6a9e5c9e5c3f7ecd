"""Points of a sweep that are listed in a file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_run.errors import SweepError


def points_in_file(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the points that a file lists: the rows of a CSV file, or a list of mappings.

    Raises:
        SweepError: It cannot be read, or is something else.
    """
    file = Path(path)
    try:
        found = _read(file.suffix.lower(), file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise SweepError(f"{file}: its points cannot be read: {e}") from e
    if not isinstance(found, list) or not all(isinstance(point, Mapping) for point in found):
        raise SweepError(f"{file}: must have a list of points, such as [{{lr: 0.1, model.layers: 2}}]")
    return [{str(name): value for name, value in point.items()} for point in found]


def _read(suffix: str, text: str) -> Any:
    if suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text), strict=True)
        return [{name: _value(cell) for name, cell in row.items()} for row in rows]
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if suffix == ".json":
        return json.loads(text)
    if suffix in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise ValueError(str(e)) from e
    raise SweepError(
        f"points are read from .csv, .json, .jsonl and .yaml, not from {suffix or 'a file without suffix'}"
    )


def _value(cell: str | None) -> Any:
    """Return what a cell says: a number, true, false or null as JSON has them, or a text."""
    if cell is None:
        raise ValueError("a row is shorter than the first one")
    try:
        return json.loads(cell)
    except ValueError:
        return cell
