"""Ways to the shells of other machines. Each name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import LocalTunnel as LocalTunnel, SSHTunnel as SSHTunnel

_MODULE_OF = {
    "LocalTunnel": "client",
    "SSHTunnel": "client",
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
