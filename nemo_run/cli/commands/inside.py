"""``nemorun experiment shell``: a terminal where a job runs."""

from __future__ import annotations

from typing import Annotated

import typer

from nemo_run.cli.commands.arguments import Needed


def shell(
    which: Needed,
    job: Annotated[str, typer.Argument(help="Name of the job, or its number in the status, from 0.")],
    program: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PROGRAM...]", help="A program in place of a shell.")
    ] = None,
    rank: Annotated[int, typer.Option(min=0, help="Beside this process of a task, on its node.")] = 0,
    member: Annotated[int, typer.Option(min=0, help="Which task of a group.")] = 0,
) -> None:
    """Open a shell where a job runs: with its variables and in its folder, on the node, in the container or pod."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.run.services import run_beside

    store = find_experiment(which)
    definition = store.read_definition()
    code = run_beside(store, definition, find_job(definition, job), program or [], rank=rank, member=member)
    if code:
        raise typer.Exit(code)
