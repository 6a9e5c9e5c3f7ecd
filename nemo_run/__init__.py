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

if TYPE_CHECKING:
    from nemo_run.run.api import run as run

__version__ = "0.1.0"

# Where each public name lives: "module" (under the same name there), or "module:other_name".
_PUBLIC: dict[str, str] = {}


def __getattr__(name: str) -> object:
    where = _PUBLIC.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, _, attribute = where.partition(":")
    module = importlib.import_module(module_name)
    value = module if module_name.endswith(f".{name}") else getattr(module, attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
