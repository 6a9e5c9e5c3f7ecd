"""Words of a configuration file that may be read in two ways."""

from __future__ import annotations

from typing import Any


class Switchable(str):
    """A word that YAML takes for something else: ``off`` for false, ``4:00:00`` for 14400, ``2024-01-01`` for a date.

    Attributes:
        meant: What YAML takes it for.
    """

    __slots__ = ("meant",)

    meant: Any
