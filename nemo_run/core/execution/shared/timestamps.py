"""Timestamps, as services write them."""

from __future__ import annotations

import re
from datetime import datetime

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?\Z")


def seconds(timestamp: str | None) -> float | None:
    """Return the seconds since the epoch of a timestamp; ``None`` where there is none, or for the year 1.

    >>> seconds("1970-01-01T00:00:01.500000000Z"), seconds("0001-01-01T00:00:00Z"), seconds(None)
    (1.5, None, None)
    """
    match = _TIMESTAMP.match(timestamp or "")  # Python 3.10 reads fractions of three or six digits only
    if not match or match[0].startswith("0001-"):
        return None
    whole, fraction, zone = match.groups()
    return datetime.fromisoformat(whole + (zone or "Z").replace("Z", "+00:00")).timestamp() + float(fraction or 0)
