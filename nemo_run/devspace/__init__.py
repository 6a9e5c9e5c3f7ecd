"""Development spaces: jobs in which one works with an editor of this machine."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_run.devspace.base import DevSpace as DevSpace

_MODULE_OF = {
    "DevSpace": "base",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings

if not TYPE_CHECKING:  # so that type checkers find misspelt names

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
