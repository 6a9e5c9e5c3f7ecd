"""One check of the values of all fields of an executor, made from their annotations."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable
from dataclasses import fields
from pathlib import PurePath
from typing import Any, cast

from nemo_run.errors import ExecutorError

_AT_LEAST = {
    "nodes": 1, "num_nodes": 1, "ntasks_per_node": 1, "nprocs_per_node": 1,
    "idle_minutes_to_autostop": -1, "num_gpus": -1, "pids": -1,  # never; all of them; as many as it likes
    "wait_time_for_group_job": -math.inf,  # is 0
}  # fmt: skip
_LEFT_OUT = ("account",)  # texts for which existing code also writes None
_LARGEST = 2**63 - 1
_NUMBER_IN_TEXT = re.compile(r"mem|time|cpu|size|disk|array")  # names of fields whose texts have numbers
_TOO_LONG = re.compile(r"\d{19}")


def check_values(executor: Any) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where a field has a value that cannot be meant.

    A text may also be given as a number or a path, and a list as a tuple: so existing code does.
    """
    where = type(executor).__name__
    for name, check in _checks(cast("Hashable", type(executor))):
        value = getattr(executor, name)
        if why := _mistake(name, value, check) or _out_of_range(name, value):
            raise ExecutorError(f"{where}.{name}{why}")


@functools.cache
def _checks(kind: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return a check for every field that a user sets."""
    from nemo_run.config.hints import all_hints
    from nemo_run.config.typecheck import compile_check

    hints = all_hints(kind)
    return tuple(
        (field.name, compile_check(hints[field.name]) or _anything)
        for field in fields(kind)
        if field.init and field.name in hints
    )


def _anything(_: Any) -> None:
    return None


def _mistake(name: str, value: Any, check: Callable[[Any], Any]) -> str:
    wrong = check(value)
    if wrong is not None and isinstance(value, tuple):
        wrong = check(list(value))
    if wrong is None or (re.match(r"str\b", wrong.expected) and _may_be_text(name, wrong.value)):
        return ""
    return f"{wrong.path} must be {wrong.expected}, but is {_shown(name, wrong.value)}"


def _may_be_text(name: str, value: Any) -> bool:
    if isinstance(value, (int, float)):
        return bool(_NUMBER_IN_TEXT.search(name)) and not isinstance(value, bool)
    return isinstance(value, PurePath) or (value is None and name in _LEFT_OUT)


def _out_of_range(name: str, value: Any) -> str:
    if isinstance(value, str):
        if "\0" in value:
            return " must not have a null byte"
        too_long = _NUMBER_IN_TEXT.search(name) and _TOO_LONG.search(value)
        return " must not have a number of more than 18 digits" if too_long else ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return f" must be a finite number, but is {value}"
    if value < _AT_LEAST.get(name, 0):
        return f" must be at least {_AT_LEAST.get(name, 0)}, but is {_shown(name, value)}"
    return " must be a number that fits into 64 bits" if value > _LARGEST else ""


def _shown(name: str, value: Any) -> str:
    """Return a value for a message; of what may be secret, only its type."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number that does not fit into 64 bits"
    if re.search("env|secret|token|password", name):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
