"""Names that existing code imports from here."""

from __future__ import annotations

from nemo_run.cli.app import create_cli
from nemo_run.cli.command import EntrypointCommand
from nemo_run.cli.context import RunContext
from nemo_run.cli.entrypoints import CommandDefaults, Entrypoint, entrypoint, main
from nemo_run.cli.overriding.arguments import parse_cli_args
from nemo_run.cli.registry import (
    Factory as FactoryRegistration,
    factory,
    list_entrypoints,
    list_factories,
    resolve_factory,
)
from nemo_run.core.frontend.console.api import configure_logging as _configure_logging
from nemo_run.errors import CommandLineError as RunContextError

InvalidOptionError = MissingRequiredOptionError = RunContextError


def configure_logging(verbose: bool) -> None:
    """Show what this package logs; with ``verbose``, all of it."""
    _configure_logging("DEBUG" if verbose else "INFO")


__all__ = [
    "CommandDefaults", "Entrypoint", "EntrypointCommand", "FactoryRegistration", "InvalidOptionError",
    "MissingRequiredOptionError", "RunContext", "RunContextError", "configure_logging", "create_cli", "entrypoint",
    "factory", "list_entrypoints", "list_factories", "main", "parse_cli_args", "resolve_factory",
]  # fmt: skip
