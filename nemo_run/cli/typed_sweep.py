"""Sweeps on the command line: ``--sweep lr=loguniform(1e-5,1e-2) layers=2,4 objective=accuracy trials=50``."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nemo_run.errors import OverrideError, SweepError
from nemo_run.run import space

_SPACE = re.compile(r"(choice|uniform|loguniform|randint)\((.*)\)", re.DOTALL)
_TYPED = re.compile(r"([^\s=()'\"]+)=(.*)", re.DOTALL)
_OPTIONS = {"objective": str, "direction": str, "sampler": str, "trials": int, "max_parallel": int, "seed": int}


@dataclass
class TypedSweep:
    """What was typed of a sweep.

    Attributes:
        spaces: What is tried, by the paths of parameters.
        options: Further arguments of :meth:`Experiment.sweep`.
        others: What is the same for all.
    """

    spaces: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def typed_sweep(args: Sequence[str]) -> TypedSweep:
    """Return what was typed: spaces and lists of values, options of the sweep, and all other overrides.

    Raises:
        OverrideError: A space or an option makes no sense, or nothing is to be tried.

    Example:
        >>> found = typed_sweep(["lr=0.1,0.01", "kind=choice(a,b)", "steps=3", "trials=2"])
        >>> found.spaces["lr"].values, found.spaces["kind"].values, found.options, found.others
        ((0.1, 0.01), ('a', 'b'), {'trials': 2, 'sampler': 'random'}, ['steps=3'])
    """
    found = TypedSweep()
    for typed in args:
        match = _TYPED.fullmatch(typed)
        path, text = match.groups() if match else ("", "")
        name = path.removeprefix("sweep.")
        if name in _OPTIONS:
            found.options[name] = _option(name, text)
        elif path and (tried := _tried(path, text)) is not None:
            found.spaces[path] = tried
        else:
            found.others.append(typed)
    if not found.spaces:
        raise OverrideError("--sweep: say what to try, such as lr=0.1,0.01 or 'lr=loguniform(1e-5,1e-2)'")
    if found.options.get("trials") and "sampler" not in found.options:
        found.options["sampler"] = "tpe" if "objective" in found.options else "random"
    return found


def _option(name: str, text: str) -> Any:
    try:
        return _OPTIONS[name](text)
    except ValueError:
        raise OverrideError(f"{name}: expected a number, got {text!r}") from None


def _tried(path: str, text: str) -> Any:
    """Return what is tried for a parameter; ``None`` where it has one value."""
    match = _SPACE.fullmatch(text.strip())
    values = list(map(_value, _parts(match[2] if match else text)))
    if not match:
        return space.choice(*values) if len(values) > 1 else None
    try:
        return getattr(space, match[1])(*values)
    except (SweepError, TypeError) as e:
        raise OverrideError(f"{path}: {e}") from None


def _parts(text: str) -> list[str]:
    """Return the parts between commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "," and not depth:
            parts.append("")
            continue
        depth += (character in "([{") - (character in ")]}") if not quote else 0
        parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
