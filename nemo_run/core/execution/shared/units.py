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
    except (ValueError, OverflowError):
        size = 0
    if not 0 < size < 1 << 63:
        raise ExecutorError(f"memory={str(value)[:40]!r} is not a size; give bytes, or '500M', '2GB'")
    return size


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(where: str, value: float | str | None) -> float | None:
    """Return the seconds of a duration given as a number or as ``"90m"``, ``"12h"``, ``"2d"``, ``"HH:MM:SS"``.

    >>> parse_duration("timeout", "1.5h"), parse_duration("timeout", "01:30:00"), parse_duration("timeout", None)
    (5400.0, 5400.0, None)
    """
    if value is None:
        return None
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d*\.?\d+)([smhd]?)", str(value).strip())
    length = 0.0
    if match and not (match[2] and match[4]):
        hours, minutes, rest = (float(part or 0) for part in match.group(1, 2, 3))
        length = hours * 3600 + minutes * 60 + rest * _SECONDS[match[4]]
    if not 0 < length < float("inf"):
        raise ExecutorError(f"{where}={value!r} is not a duration; give seconds, or '90m', '12h', '2d', 'HH:MM:SS'")
    return length


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
