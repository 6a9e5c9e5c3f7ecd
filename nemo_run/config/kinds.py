"""The classes of configurations that a document stands for.

Their methods write documents, so they are defined above the modules that read and write these, and register here.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection

import fiddle as fdl

_BY_PARTIAL: dict[bool, type[fdl.Buildable[object]]] = {}


def register(config: type[fdl.Buildable[object]], partial: type[fdl.Buildable[object]]) -> None:
    """Set what a node without ``_partial_`` is read as, and one with it."""
    _BY_PARTIAL.update({False: config, True: partial})


def registered() -> Collection[type[fdl.Buildable[object]]]:
    """Return the classes that are registered by now."""
    return _BY_PARTIAL.values()


def kind_for(*, partial: bool) -> type[fdl.Buildable[object]]:
    """Return the class that a node is read as."""
    if not _BY_PARTIAL:
        importlib.import_module("nemo_run.config.buildable")  # by name, as every class that a document needs
    return _BY_PARTIAL[partial]
