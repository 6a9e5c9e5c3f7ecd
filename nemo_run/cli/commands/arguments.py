"""Arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from nemo_run.cli.commands import completing

Which = Annotated[
    str | None,
    typer.Argument(
        metavar="ID",
        help="Id of an experiment, its beginning, or a title; 'newest', which is the default.",
        autocompletion=completing.experiments,
    ),
]
Needed = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Id of an experiment, its beginning, a title, or 'newest'.",
        autocompletion=completing.experiments,
    ),
]
OneJob = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB",
        help="Name of the job, or its number in the status, from 0; all by default.",
        autocompletion=completing.jobs,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
