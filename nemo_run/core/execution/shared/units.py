"""Sizes as users write them."""

from __future__ import annotations

import re

from nemo_run.errors import ExecutorError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(value: float | str | None) -> int | None:
    """Return bytes of a size given as a number or as ``"2GB"``, ``"500M"``.

    >>> parse_size("2GB")
    2147483648
    """
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(i?B)?\s*", str(value), re.IGNORECASE)
    try:
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise ExecutorError(f"memory={value!r} is not a size; give bytes, or '500M', '2GB'")
    return size
