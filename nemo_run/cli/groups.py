"""Groups of commands that name the nearest command where one is misspelt, with every version of Typer."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from nemo_run.config.suggest import did_you_mean


class CommandGroup(TyperGroup):
    """A group of commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that ``args`` begins with, or fail with the names of those that exist."""
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}{did_you_mean(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
