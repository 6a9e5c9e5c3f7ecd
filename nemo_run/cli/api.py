"""Names that existing code imports from here."""

from __future__ import annotations

from nemo_run.cli.app import create_cli
from nemo_run.cli.context import RunContext
from nemo_run.cli.entrypoints import CommandDefaults, Entrypoint, entrypoint, main
from nemo_run.cli.registry import factory, list_entrypoints, list_factories, resolve_factory

__all__ = [
    "CommandDefaults", "Entrypoint", "RunContext", "create_cli", "entrypoint", "factory", "list_entrypoints",
    "list_factories", "main", "resolve_factory",
]  # fmt: skip
