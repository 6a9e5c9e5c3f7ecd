"""Development spaces: jobs in which one works with an editor of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_run.lazy_names import lazy_names

if TYPE_CHECKING:
    from nemo_run.devspace.base import DevSpace as DevSpace

_MODULE_OF = {
    "DevSpace": "base",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
