"""Descriptions of what services make: as YAML, with changes on top, and without what Kubernetes would expand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_yaml(*documents: Mapping[str, Any]) -> str:
    """Return documents as one YAML text, texts of several lines as they are."""
    from nemo_run.config.export_yaml import dump

    return "---\n".join(dump(dict(document)) for document in documents)


def overlaid(base: Any, changes: Any) -> Any:
    """Return a description with changes on top.

    Dictionaries are merged, lists of things with names by these; all else is replaced, and ``None`` takes a value away.

    >>> overlaid({"a": {"b": 1}, "l": [{"name": "x", "v": 1}]}, {"a": {"c": 2}, "l": [{"name": "x", "w": 2}]})
    {'a': {'b': 1, 'c': 2}, 'l': [{'name': 'x', 'v': 1, 'w': 2}]}
    >>> overlaid({"a": 1, "b": 2}, {"b": None})
    {'a': 1}
    """
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        return _overlaid_mapping(base, changes)
    if _are_named(base) and _are_named(changes):
        by_name = {entry["name"]: entry for entry in base}
        for entry in changes:
            by_name[entry["name"]] = overlaid(by_name.get(entry["name"], {}), entry)
        return list(by_name.values())
    return changes


def _overlaid_mapping(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **{name: overlaid(base.get(name), value) for name, value in changes.items()}}
    return {name: value for name, value in both.items() if value is not None or name not in changes}


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, Mapping) and "name" in e for e in value)


def literal(text: str) -> str:
    """Return a text in which Kubernetes expands nothing.

    >>> literal("$(HOME) costs $5")
    '$$(HOME) costs $$5'
    """
    return text.replace("$", "$$")
