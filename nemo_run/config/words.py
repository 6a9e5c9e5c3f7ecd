"""Words of a configuration file that may be read in two ways."""

from __future__ import annotations


class Switchable(str):
    """A word that YAML takes for true or false, and that may also be a name: ``on``, ``off``, ``yes``, ``no``.

    Attributes:
        meant: True or false.
    """

    __slots__ = ("meant",)

    meant: bool
