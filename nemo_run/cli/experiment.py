"""``nemorun experiment``: look at experiments, and manage them. None of it imports the code of their tasks."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

Which = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="Id of an experiment, its beginning, or a title; the newest by default."),
]
Needed = Annotated[
    str, typer.Argument(metavar="ID", help="Id of an experiment, its beginning, or a title: its newest one.")
]
OneJob = Annotated[
    str | None,
    typer.Argument(metavar="[JOB]", help="Name of the job, or its number in the status, from 0; all by default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def create() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.command("list")(list_)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("cancel")(cancel)
    return app


def list_(
    title: Annotated[str | None, typer.Argument(help="Only those with this title.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Only the newest so many; 0 for all.")] = 0,
    json: AsJson = False,
) -> None:
    """List experiments, the newest last."""
    from nemo_run.cli.overview import COLUMNS, overview
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.run import store as stores
    from nemo_run.run.display import _STYLES

    ids = stores.ids(title or "")
    found = [overview(stores.find(one)) for one in ids[-limit:]]
    if json:
        print_json([dataclasses.asdict(entry) for entry in found])
        return
    if found:
        print_table(
            COLUMNS,
            [entry.row() for entry in found],
            right=("took",),
            styles={state.name: style for state, style in _STYLES.items()},
        )
    if not found:
        typer.echo(_nothing(title), err=True)
    elif len(ids) > len(found):
        typer.echo(f"and {len(ids) - len(found)} older ones", err=True)


def _nothing(title: str | None) -> str:
    from nemo_run.config.suggest import did_you_mean
    from nemo_run.run import store as stores

    titles = sorted({stores.find(one).path.parent.name for one in stores.ids()})
    if title is None or not titles:
        return "there are no experiments yet"
    return f"there is no experiment with the title {title!r}{did_you_mean(title, titles)}"


def status(
    which: Which = None,
    json: AsJson = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 unless every job succeeded.")] = False,
) -> None:
    """Show the state of an experiment's jobs."""
    from nemo_run.cli.overview import experiment_document, true_progress
    from nemo_run.cli.selection import find_experiment
    from nemo_run.cli.show import print_json
    from nemo_run.core.execution.base import JobState
    from nemo_run.run.display import print_status

    store = find_experiment(which)
    definition = store.read_definition()
    progress = true_progress(store, definition)
    if json:
        print_json(experiment_document(store, definition, progress))
    else:
        print_status(definition, progress)
    if exit_code and any(job.state is not JobState.SUCCEEDED for job in progress.values()):
        raise typer.Exit(1)


def logs(
    which: Needed,
    job: OneJob = None,
    follow: Annotated[bool, typer.Option(help="Go on until the jobs have ended.")] = True,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Begin with the last so many lines.")] = None,
    regex: Annotated[
        str | None,
        typer.Option("--regex", "-e", help="Only lines in which this regular expression is found."),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Only the log of this rank.")] = None,
) -> None:
    """Print the logs of one job or of all; of jobs that run, as they grow."""
    from nemo_run.cli.selection import find_experiment, find_job
    from nemo_run.run.logs import LogFollower, LogRequest

    store = find_experiment(which)
    definition = store.read_definition()
    jobs = () if job is None else (find_job(definition, job).id,)
    request = LogRequest(jobs, regex=regex, tail=tail, rank=rank, follow=follow)
    LogFollower(store, definition, request).show()


def cancel(
    which: Needed,
    job: OneJob = None,
    every: Annotated[bool, typer.Option("--all", help="All jobs, as without JOB.")] = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", "-d", help="Also the jobs that this one depends on.")
    ] = False,
) -> None:
    """Cancel one job, or all that have not ended. What depends on a cancelled job does not run."""
    from nemo_run.cli.selection import dependencies_of, find_experiment, find_job
    from nemo_run.run.experiment import Experiment

    store = find_experiment(which)
    definition = store.read_definition()
    jobs = list(definition.jobs)
    if job is not None and not every:
        jobs = [find_job(definition, job)]
        jobs += dependencies_of(definition, jobs[0]) if dependencies else []
    names = [one.id for one in jobs]
    experiment = Experiment.from_id(store.id)
    before = experiment.progress(names)
    experiment.cancel_jobs(names)
    for name, progress in experiment.progress(names).items():
        typer.echo(f"{name}: {progress.state}" + (", as it was before" if before[name].state.is_final else ""))
