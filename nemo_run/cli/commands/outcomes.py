"""What tasks leave beside files: results and metrics."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_run.cli.commands.arguments import AsJson, OneJob, Which
from nemo_run.cli.show import print_csv, say, tell

if TYPE_CHECKING:
    from nemo_run.run.metrics import Metric, Metrics
    from nemo_run.run.records import Definition
    from nemo_run.run.store import ExperimentStore
    from nemo_run.run.sweep import Direction, Trial


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
        say(f"{name} ({one['state']}): {said.rstrip()}")


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
    from nemo_run.run.following import live_metrics

    store = find_experiment(which)
    definition = store.read_definition()
    jobs = definition.jobs if job is None else [find_job(definition, job)]
    found = {name: _chosen(one, only) for name, one in live_metrics(store, jobs).items()}
    rows = [(name, one) for name, of_job in found.items() for one in of_job.values()]
    if json:
        print_json({name: {one.name: vars(one) for one in of_job.values()} for name, of_job in found.items()})
    elif not rows:
        tell("no task has logged metrics: run.log_metrics({...}), or lines in $NEMO_RUN_METRICS")
    elif csv:
        print_csv(("job", "metric", "step", "time", "value"), _points(rows))
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


def _points(rows: Iterable[tuple[str, Metric]]) -> Iterator[tuple[object, ...]]:
    for name, one in rows:
        for step, time, value in zip(one.steps, one.times, one.values, strict=True):
            yield name, one.name, step, time, value


def _plot(title: str, steps: list[int], values: list[float]) -> None:
    from nemo_run.cli.plot import curve
    from nemo_run.run.terminal import columns_of

    room = (columns_of(sys.stdout) or 80) - 14
    say("\n".join((title, *curve(steps, values, max(10, room)), "")))


def compare(
    which: Which = None,
    objective: Annotated[
        str, typer.Option("--objective", "-o", help="Part of the result, or metric, to sort by; that of the sweep.")
    ] = "",
    minimize: Annotated[bool, typer.Option("--minimize", help="The smallest is the best.")] = False,
    maximize: Annotated[bool, typer.Option("--maximize", help="The largest is the best.")] = False,
    best: Annotated[bool, typer.Option("--best", help="Only the best.")] = False,
    to_yaml: Annotated[
        Path | None, typer.Option("--to-yaml", help="Write the configuration of the best to this file.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw parallel coordinates and importance into this SVG file.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare jobs: the parameters in which they differ, and what they returned, the best first."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.cli.show import print_json
    from nemo_run.run.sweep import trials_of

    store = find_experiment(which)
    definition = store.read_definition()
    direction: Direction | None = "minimize" if minimize else "maximize" if maximize else None
    found = trials_of(store, definition, objective=objective, direction=direction)
    if to_yaml is not None:
        _write_best(store, definition, found, to_yaml)
    if plot is not None:
        _draw(store, found, objective, plot)
    found = found[:1] if best else found
    if json:
        print_json([dataclasses.asdict(trial) for trial in found])
    else:
        _print_trials(found, print_csv if csv else _print_aligned)


def _draw(store: ExperimentStore, found: Sequence[Trial], objective: str, file: Path) -> None:
    from nemo_run.cli.pictures import picture
    from nemo_run.core.files import write_text
    from nemo_run.run.sweep import read_sweeps

    if file.suffix.lower() != ".svg":
        raise typer.BadParameter(f"{file}: the picture is SVG; name it {file.with_suffix('.svg').name}")
    name = objective or next((sweep.objective for sweep in read_sweeps(store)), "")
    drawn = picture([one.parameters for one in found], [one.objective for one in found], name, store.id)
    write_text(file.absolute(), drawn)
    tell(f"the picture is {file}")


def _write_best(store: ExperimentStore, definition: Definition, found: Sequence[Trial], file: Path) -> None:
    from nemo_run.config.export import write_document
    from nemo_run.errors import ExperimentError
    from nemo_run.run.sweep import configuration_of

    if not found or found[0].objective is None:
        raise ExperimentError(f"experiment {store.id!r} has no best job: none has a number to compare by")
    write_document(configuration_of(store, definition.job(found[0].job)), "yaml", file)
    tell(f"the configuration of {found[0].job} is in {file}")


def _print_trials(found: Sequence[Trial], write: Callable[[Sequence[str], Sequence[Sequence[str]]], None]) -> None:
    parameters = list(dict.fromkeys(path for trial in found for path in trial.parameters))
    results = list(dict.fromkeys(name for trial in found for name in trial.results))
    if not results and any(trial.objective is not None for trial in found):
        found, results = [_with_objective(trial) for trial in found], ["objective"]
    write(
        ("job", "state", *parameters, *results),
        [(trial.job, trial.state, *_cells(trial, parameters, results)) for trial in found],
    )


def _print_aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from nemo_run.cli.show import print_table

    print_table(columns, rows, right=columns[2:])


def _with_objective(trial: Trial) -> Trial:
    return dataclasses.replace(trial, results={} if trial.objective is None else {"objective": trial.objective})


def _cells(trial: Trial, parameters: Sequence[str], results: Sequence[str]) -> Iterator[str]:
    for given, names in ((trial.parameters, parameters), (trial.results, results)):
        for name in names:
            value = given.get(name, "")
            yield f"{value:.6g}" if isinstance(value, float) else str(value)
