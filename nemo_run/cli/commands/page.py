"""``nemorun ui``: a page to look at experiments, served to this machine or written as files."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def ui(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="With --export: only these.")] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; a free one by default.")] = 0,
    home: Annotated[Path | None, typer.Option("--home", help="In place of $NEMORUN_HOME.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Only look: nothing can be changed.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Name of a proxy under which the page is asked for.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the pages as files into this folder, and end.")
    ] = None,
) -> None:
    """Look at experiments in a browser; the page is for you alone, on this machine."""
    from nemo_run.config.home import set_nemorun_home
    from nemo_run.core import extras

    if home is not None:
        set_nemorun_home(str(home))
    if export is not None:
        _export(export, ids or [])
        return
    extras.require(("starlette", "uvicorn", "websockets"), "ui", "nemorun ui")
    from nemo_run.errors import CommandLineError
    from nemo_run.ui.server import serve

    def tell(address: str) -> None:
        typer.echo(f"open {address}\nCtrl-C ends it.")
        if browser and _has_display():
            webbrowser.open(address)

    try:
        serve(port, read_only=read_only, hosts=allow_host or (), tell=tell)
    except OSError as error:
        raise CommandLineError(f"port {port} cannot be used: {error.strerror}; without --port a free one is") from None


def _export(folder: Path, ids: list[str]) -> None:
    from nemo_run.ui.exporting import export

    written = export(folder, ids)
    typer.echo(f"{len(written)} experiments are in {folder}; open {folder / 'index.html'}")


def _has_display() -> bool:
    """Check whether there is a browser to open for a person: not at the other end of an SSH connection."""
    import os
    import sys

    if "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
