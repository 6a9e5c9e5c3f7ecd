"""What tasks leave beside files: results and metrics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_run.cli.commands.arguments import AsJson, OneJob, Which

if TYPE_CHECKING:
    from nemo_run.run.metrics import Metric, Metrics


def results(which: Which = None, job: OneJob = None, json: AsJson = False) -> None:
    """Show what the functions of jobs returned, and the exceptions of those that failed. Nothing is unpickled."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.cli.show import print_json
    from nemo_run.run.results import results_document

    store = find_experiment(which)
    definition = store.read_definition()
    found = results_document(store, definition.jobs if job is None else [find_job(definition, job)])
    if json:
        print_json(found)
        return
    for name, one in found.items():
        said = one["problem"] or (one["exception"] or {}).get("traceback") or one["shown"] or "no result"
        typer.echo(f"{name} ({one['state']}): {said.rstrip()}")


def metrics(
    which: Which = None,
    job: OneJob = None,
    only: Annotated[list[str] | None, typer.Option("--metric", "-m", help="Only this one; may be repeated.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw them.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every value, as CSV.")] = False,
    json: AsJson = False,
) -> None:
    """Show the metrics that jobs have logged: last, smallest and largest values, curves, or all values."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.run.metrics import job_metrics

    store = find_experiment(which)
    definition = store.read_definition()
    jobs = definition.jobs if job is None else [find_job(definition, job)]
    found = {one.id: _chosen(job_metrics(store, one), only) for one in jobs}
    rows = [(name, one) for name, of_job in found.items() for one in of_job.values()]
    if json:
        print_json({name: {one.name: vars(one) for one in of_job.values()} for name, of_job in found.items()})
    elif not rows:
        typer.echo("no task has logged metrics: run.log_metrics({...}), or lines in $NEMO_RUN_METRICS", err=True)
    elif csv:
        _print_csv(rows)
    elif plot:
        for name, one in rows:
            _plot(f"{name} {one.name}", one.steps, one.values)
    else:
        print_table(_COLUMNS, [_row(name, one) for name, one in rows], right=_COLUMNS[2:])


_COLUMNS = ("job", "metric", "last", "min", "max", "steps", "last step")


def _row(job: str, metric: Metric) -> tuple[str, ...]:
    numbers = [f"{number:.6g}" for number in (metric.last, metric.min, metric.max)]
    return (job, metric.name, *numbers, str(len(metric)), str(metric.steps[-1]))


def _chosen(found: Metrics, only: list[str] | None) -> dict[str, Metric]:
    return {name: one for name, one in found.items() if not only or name in only}


def _print_csv(rows: list[tuple[str, Metric]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("job", "metric", "step", "time", "value"))
    for name, one in rows:
        for step, time, value in zip(one.steps, one.times, one.values, strict=True):
            writer.writerow((name, one.name, step, time, value))


def _plot(title: str, steps: list[int], values: list[float]) -> None:
    from nemo_run.cli.plot import curve
    from nemo_run.run.terminal import columns_of

    room = (columns_of(sys.stdout) or 80) - 14
    typer.echo("\n".join((title, *curve(steps, values, max(10, room)), "")))
