"""Configure, launch and manage machine-learning experiments.

Every public name is reached as ``run.NAME`` after ``import nemo_run as run``; its module is imported when the name is
first used, so the import itself loads nothing heavy.

Example:
    >>> import nemo_run as run
    >>> run.Config(dict, a=1).build()
    {'a': 1}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what the tables below say, for type checkers
    from nemo_run import errors as errors
    from nemo_run.errors import JobFailedError as JobFailedError, NemoRunError as NemoRunError

__version__ = "0.1.0"

# Where each public name lives. "A as B" is called B here.
_NAMES = {
    "nemo_run.errors": ("JobFailedError", "NemoRunError"),
}
_MODULES = {"errors": "nemo_run.errors"}

_WHERE = {
    entry.rpartition(" as ")[2]: (module, entry.partition(" as ")[0])
    for module, entries in _NAMES.items()
    for entry in entries
}

__all__ = ["__version__", *_WHERE, *_MODULES]  # noqa: PLE0604 (all of them are strings)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
