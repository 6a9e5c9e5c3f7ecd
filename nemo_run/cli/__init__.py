"""The command line: ``nemorun``, and command lines for your own functions.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import nemo_run.config  # noqa: F401  # before anything here imports fiddle
from nemo_run.lazy_names import lazy_names

if TYPE_CHECKING:
    from nemo_run.cli.app import create_cli as create_cli
    from nemo_run.cli.context import RunContext as RunContext
    from nemo_run.cli.entrypoints import Entrypoint as Entrypoint, entrypoint as entrypoint, main as main
    from nemo_run.cli.overriding.arguments import (
        parse_cli_args as parse_cli_args,
        parse_config as parse_config,
        parse_partial as parse_partial,
    )
    from nemo_run.cli.registry import (
        factory as factory,
        list_entrypoints as list_entrypoints,
        list_factories as list_factories,
        resolve_factory as resolve_factory,
    )

_MODULE_OF = {
    "Entrypoint": "entrypoints",
    "RunContext": "context",
    "create_cli": "app",
    "entrypoint": "entrypoints",
    "factory": "registry",
    "list_entrypoints": "registry",
    "list_factories": "registry",
    "main": "entrypoints",
    "parse_cli_args": "overriding.arguments",
    "parse_config": "overriding.arguments",
    "parse_partial": "overriding.arguments",
    "resolve_factory": "registry",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
