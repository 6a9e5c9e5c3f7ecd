"""Groups of commands that name the nearest command where one is misspelt; commands that start fast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from nemo_run.config.suggest import did_you_mean


class CommandGroup(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return with_plain_values(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name; None if there is none."""
        command = super().get_command(ctx, cmd_name)
        if isinstance(command, TyperCommand):
            command.get_params = functools.partial(_plain_params, type(command), command)  # type: ignore[method-assign]
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that ``args`` begins with, or fail with the names of those that exist."""
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}{did_you_mean(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def _plain_params(kind: type[TyperCommand], command: TyperCommand, ctx: Any) -> list[Any]:
    return with_plain_values(kind.get_params(command, ctx))


def with_plain_values(parameters: list[Any]) -> list[Any]:
    """Return parameters of a command; what is text already, or was not given, is taken as it is.

    Typer has Pydantic turn text into text: importing that takes longer than all else that most commands do. Versions of
    Typer that do without are left alone.
    """
    for parameter in parameters:
        if _is_plain(parameter) and not isinstance(parameter.get_runtime_param, functools.partial):
            parameter.get_runtime_param = functools.partial(_AsItIs, parameter.get_runtime_param)
    return parameters


def _is_plain(parameter: Any) -> bool:
    """Check that a parameter is text, texts, a number or a flag, of which no more is asked than how large it is."""
    kind = getattr(parameter, "type_descriptor", None)
    if kind is None or not hasattr(parameter, "get_runtime_param"):
        return False
    more = kind.is_path or kind.is_choice or kind.is_file or kind.parameter_info.parser is not None
    return kind.annotation in (str, list[str], bool, int, float) and not more


class _AsItIs:
    """Stands for Typer's conversion of a parameter."""

    def __init__(self, typers: Callable[[], Any]) -> None:
        self._typers = typers

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value, if it needs no conversion; any other is Typer's to convert."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several and isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
            return list(value)
        fits = not several and param.type_descriptor.annotation is type(value)
        if fits and (isinstance(value, str) or value == param.default):
            return value
        return self._typers().coerce(value, param=param, ctx=ctx)
