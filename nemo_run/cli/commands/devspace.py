"""``nemorun devspace``: start development spaces, and connect to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nemo_run.cli.running import app_options

if TYPE_CHECKING:
    from nemo_run.devspace.base import DevSpace


def create() -> typer.Typer:
    """Return the app."""
    from nemo_run.cli.entrypoints import Entrypoint

    app = typer.Typer(name="devspace", no_args_is_help=True, **app_options())
    app.callback()(_load)
    Entrypoint(launch, "devspace", enable_executor=False).cli(app)
    app.command("connect")(connect)
    app.command("sshserver")(sshserver)
    return app


def _load() -> None:
    """Import the class that ``launch`` configures, which other commands do without."""
    from nemo_run.devspace.base import DevSpace

    launch.__annotations__["space"] = DevSpace


def launch(space: DevSpace) -> None:
    """Start a development space, and stay with it until it ends."""
    space.launch()


def connect(
    host: Annotated[str, typer.Argument(help="user@host of the cluster's login node.")],
    path: Annotated[str, typer.Argument(help="The folder of the space there.")],
) -> None:
    """Say how to connect to a space that runs, and wait until it has ended."""
    from nemo_run.devspace.base import DevSpace

    DevSpace.connect(host, path)


def sshserver(
    space_zlib: Annotated[str, typer.Argument(help="The space, as ZlibJSONSerializer writes it.")],
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the server says.")] = False,
) -> None:
    """Run an SSH server for a development space, inside of its job."""
    from nemo_run.devspace.server import serve

    serve(space_zlib, verbose=verbose)
