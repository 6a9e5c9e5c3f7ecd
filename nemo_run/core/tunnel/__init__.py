"""Ways to the shells of other machines. Each name is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_run.lazy_names import lazy_names

if TYPE_CHECKING:
    from nemo_run.core.tunnel.client import LocalTunnel as LocalTunnel, SSHTunnel as SSHTunnel

_MODULE_OF = {
    "LocalTunnel": "client",
    "SSHTunnel": "client",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
