"""Sizes as users write them, and times as services do."""

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


_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?\Z")


def seconds(timestamp: str | None) -> float | None:
    """Return the seconds since the epoch of a timestamp; ``None`` where there is none, or for the year 1.

    >>> seconds("1970-01-01T00:00:01.500000000Z"), seconds("0001-01-01T00:00:00Z"), seconds(None)
    (1.5, None, None)
    """
    from datetime import datetime

    match = _TIMESTAMP.match(timestamp or "")  # Python 3.10 reads fractions of three or six digits only
    if not match or match[0].startswith("0001-"):
        return None
    whole, fraction, zone = match.groups()
    return datetime.fromisoformat(whole + (zone or "Z").replace("Z", "+00:00")).timestamp() + float(fraction or 0)
