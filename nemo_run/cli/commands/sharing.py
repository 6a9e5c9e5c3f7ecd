"""Giving an experiment to a colleague, and taking one in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nemo_run.cli.commands.arguments import Needed
from nemo_run.cli.show import say, tell


def export(
    which: Needed, file: Annotated[Path, typer.Argument(help="File to write, such as train.tar.gz; it is replaced.")]
) -> None:
    """Write an experiment to one file, to give away: all that can be looked at, without credentials or environment."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.sharing import export as write

    store = find_experiment(which)
    for problem in write(store, file):
        tell(f"not in it: {problem}")
    say(f"{store.id} is in {file}; to look at it elsewhere: nemorun experiment import {file.name}")


def import_(file: Annotated[Path, typer.Argument(help="File that export has written.")]) -> None:
    """Take in an experiment that somebody has exported, to look at it. Nothing of it is run or connected to."""
    from nemo_run.run.receiving import receive

    store = receive(file)
    say(f"look at it: nemorun experiment show {store.id}")
