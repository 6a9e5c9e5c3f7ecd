"""``nemorun``: its commands, and those of packages and of the workspace file."""

from __future__ import annotations

import itertools
import shlex
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import nemo_run
from nemo_run.cli import registry
from nemo_run.cli.context import RunContext
from nemo_run.cli.groups import CommandGroup
from nemo_run.cli.running import app_options
from nemo_run.cli.show import print_warning
from nemo_run.errors import NemoRunError


def nemorun(args: list[str]) -> Any:
    """Run the command that was typed; with ``--lazy``, without importing its code here."""
    app = lazy_cli(args) if "--lazy" in args else create_cli()
    return app(args=args)


def create_cli(
    add_verbose_callback: bool = False,  # noqa: ARG001
    nested_entrypoints_creation: bool = True,  # noqa: ARG001
) -> typer.Typer:
    """Return the ``nemorun`` command, as a Typer app.

    Args:
        add_verbose_callback: Accepted for compatibility.
        nested_entrypoints_creation: Accepted for compatibility; what other packages add is loaded when it is used.
    """
    from nemo_run.cli.commands import (
        configs,
        devspace,
        doctor,
        experiment,
        page,
        ray,  # a script of yours does without them
    )

    app = typer.Typer(
        name="nemorun",
        no_args_is_help=True,
        cls=CommandsOfOthers,
        callback=_nemorun,
        **app_options(),
    )
    app.add_typer(experiment.create(), name="experiment", help="Look at experiments, and manage them.")
    app.add_typer(configs.create(), name="config", help="Look at configuration files, compare, convert, check them.")
    app.add_typer(ray.create(), name="ray", help="Start Ray clusters, and run jobs on them.")
    app.add_typer(devspace.create(), name="devspace", help="Start development spaces, and connect to them.")
    app.command("executors")(doctor.executors)
    app.command("doctor")(doctor.doctor)
    app.command("ui")(page.ui)
    return app


def _print_version(asked: bool) -> None:
    """Print the version and end, where it is asked for."""
    if asked:
        typer.echo(f"nemo-run {nemo_run.__version__}")
        raise typer.Exit


def _nemorun(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Configure, launch and manage machine-learning experiments."""


def lazy_cli(args: list[str]) -> typer.Typer:
    """Return an app whose only command is the one that was typed, whose code is not imported here.

    Args:
        args: What was typed; the words of the command are taken out of it.
    """
    from nemo_run.cli.lazy import LazyEntrypoint

    words = list(itertools.takewhile(lambda arg: "=" not in arg, (arg for arg in args if not arg.startswith("-"))))
    for word in words:
        args.remove(word)
    app = typer.Typer(name="nemorun", **app_options())
    RunContext.cli_command(app, words[-1] if words else "lazy", LazyEntrypoint(shlex.join(["nemorun", *words])))
    return app


class CommandsOfOthers(CommandGroup):
    """Our commands, and those of packages and of the workspace file, which are loaded when one of them is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands; nothing is loaded."""
        known = {*registry.packages(), *registry.known_entrypoints()}
        return [*super().list_commands(ctx), *sorted(known - self.commands.keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name; for one that is not loaded, something to show. None if there is none."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in self.list_commands(ctx):
            return TyperGroup(name=cmd_name, help=_about(cmd_name))
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Help that has the commands of the workspace file, too; one that cannot be loaded is told, and passed over."""
        try:
            registry.load_workspace()
        except NemoRunError as error:
            print_warning(str(error))
        super().format_help(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant; it is loaded now."""
        name = args[0]
        if name not in self.commands:
            self._load(name)
        return super().resolve_command(ctx, args)

    def _load(self, name: str) -> None:
        if name in registry.packages():
            registry.load_packages(name)
        else:
            registry.load_everything()
        found = registry.known_entrypoints().get(name)
        if found is not None:
            self.add_command(typer.main.get_command(_app_of(name, found)), name)


def _about(name: str) -> str:
    """What is known of commands of others without loading a package."""
    found = registry.known_entrypoints().get(name)
    if isinstance(found, dict):
        return f"Your commands: {', '.join(sorted(found))}."
    return found.summary if found is not None else "Commands of a package."


def _app_of(name: str, found: Any) -> typer.Typer:
    """Return a Typer app of entrypoints, nested as their dicts are."""
    app = typer.Typer(name=name, cls=CommandGroup, no_args_is_help=isinstance(found, dict), **app_options())
    if not isinstance(found, dict):
        found.cli(app)
        return app
    for inner, value in found.items():
        if isinstance(value, dict):
            app.add_typer(_app_of(inner, value), name=inner)
        else:
            value.cli(app)
    if not any(isinstance(value, dict) for value in found.values()):
        app.callback()(lambda: None)  # so that a single command keeps its name
    return app
