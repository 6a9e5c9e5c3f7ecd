"""``nemorun experiment``: look at experiments, and manage them. Only ``rerun --today`` imports code of their tasks."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_run.cli.commands import completing
from nemo_run.cli.commands.arguments import AsJson, Needed, OneJob, Which
from nemo_run.cli.commands.finding import archive, du, list_, note, rename, show, tag
from nemo_run.cli.commands.inside import shell
from nemo_run.cli.commands.outcomes import compare, metrics, results
from nemo_run.cli.commands.sharing import export, import_
from nemo_run.cli.groups import CommandGroup
from nemo_run.cli.show import say, tell

if TYPE_CHECKING:
    from nemo_run.run.experiment import Experiment


def _regex(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from None
    return text


Detach = Annotated[bool, typer.Option("--detach", help="Return at once; it goes on by itself.")]
TailLogs = Annotated[bool, typer.Option(help="Show the logs of all jobs as they grow.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def create() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)
    looking = (list_, show, status, logs, results, metrics, compare, artifacts, diff, du)
    labelling = (tag, note, rename, archive, export, import_)
    for command in (*looking, *labelling, attach, forward, shell, cancel, resume, rerun, adopt, delete, prune):
        app.command(command.__name__.rstrip("_"))(command)
    return app


def status(
    which: Which = None,
    json: AsJson = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 unless every job succeeded.")] = False,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every job, also where there are many.")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Hours of tasks and of GPUs.")] = False,
    price: Annotated[float, typer.Option(min=0, help="With --usage: what an hour of a GPU costs.")] = 0.0,
) -> None:
    """Show the state of an experiment's jobs; of many, of those that failed or run."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.cli.commands.usage import print_usage, usage_document
    from nemo_run.cli.show import print_json
    from nemo_run.core.execution.jobs import JobState
    from nemo_run.run.display import print_status
    from nemo_run.run.overview import experiment_document
    from nemo_run.run.progress import current_progress, interruption

    store = find_experiment(which)
    definition = store.read_definition()
    progress = current_progress(store, definition)
    if json:
        document = experiment_document(store, definition, progress)
        print_json({**document, "usage": usage_document(store, definition, progress, price)} if usage else document)
    elif usage:
        print_usage(store, definition, progress, price)
    else:
        print_status(definition, progress, every=every, hint=interruption(store, progress))
        if store.is_received:
            tell(f"received, and not yours: nemorun experiment adopt {store.id}")
    if exit_code and any(job.state is not JobState.SUCCEEDED for job in progress.values()):
        raise typer.Exit(1)


def logs(
    which: Which = None,
    job: OneJob = None,
    follow: Annotated[bool, typer.Option(help="Go on until the jobs have ended.")] = True,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, help="Begin with the last so many lines.")] = None,
    regex: Annotated[
        str | None,
        typer.Option("--regex", "-e", help="Only lines in which this regular expression is found.", callback=_regex),
    ] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Only the log of this rank.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print every line as JSON, for programs.")] = False,
) -> None:
    """Print the logs of one job or of all; of jobs that run, as they grow."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.run.logs import LogFollower, LogRequest

    store = find_experiment(which)
    definition = store.read_definition()
    jobs = () if job is None else (find_job(definition, job).id,)
    request = LogRequest(jobs, regex=regex, tail=tail, rank=rank, follow=follow, json=json)
    LogFollower(store, definition, request).show()


def cancel(
    which: Which = None,
    job: OneJob = None,
    every: Annotated[bool, typer.Option("--all", help="All jobs, as without JOB.")] = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", "-d", help="Also the jobs that this one depends on.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask which is meant where ID is left out.")] = False,
    json: AsJson = False,
) -> None:
    """Cancel one job, or all that have not ended. What depends on a cancelled job does not run."""
    from nemo_run.cli.commands.selection import dependencies_of, find_experiment, find_job
    from nemo_run.cli.show import confirm, print_json
    from nemo_run.run.experiment import Experiment

    store = find_experiment(which)
    if which is None and not confirm(f"Cancel what has not ended of the newest, {store.id}?", yes=yes):
        return
    definition = store.read_definition()
    jobs = list(definition.jobs)
    if job is not None and not every:
        jobs = [find_job(definition, job)]
        jobs += dependencies_of(definition, jobs[0]) if dependencies else []
    names = [one.id for one in jobs]
    experiment = Experiment.from_id(store.id)
    before = experiment.progress(names)
    experiment.cancel_jobs(names)
    after = experiment.progress(names)
    if json:
        print_json({name: progress.state.name for name, progress in after.items()})
        return
    for name, progress in after.items():
        say(f"{name}: {progress.state}" + (", as it was before" if before[name].state.is_final else ""))


def artifacts(
    which: Which = None,
    job: OneJob = None,
    copy_to: Annotated[Path | None, typer.Option("--copy-to", help="Copy them into this folder.")] = None,
    json: AsJson = False,
) -> None:
    """List the files that tasks left, with size and SHA-256, and copy them."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.run.artifacts import copy_out, listing

    store = find_experiment(which)
    definition = store.read_definition()
    found = listing(store, definition, None if job is None else find_job(definition, job).id)
    if json:
        print_json([dataclasses.asdict(artifact) for artifact in found])
    elif found:
        rows = [(one.task, one.path, str(one.size), one.sha256) for one in found]
        print_table(("job", "file", "bytes", "sha256"), rows, right=("bytes",))
        for top in dict.fromkeys(one.copy.removesuffix(f"/{one.task}/{one.path}") for one in found if one.copy):
            tell(f"copies are in {top}")
    else:
        tell("no task left files in $NEMO_RUN_ARTIFACTS")
    if copy_to is not None:
        copies = copy_out(found, copy_to)
        tell(f"{len(copies)} files copied to {copy_to}")


def diff(
    old: Needed,
    new: Annotated[str, typer.Argument(help="The same of another one.", autocompletion=completing.experiments)],
    json: AsJson = False,
) -> None:
    """Show what is different between two experiments: configuration, code and environment."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.cli.show import print_diff, print_differences
    from nemo_run.run.compare import compare

    found = compare(find_experiment(new), find_experiment(old))
    if json:
        print_differences(found)
    else:
        print_diff(found)


def attach(which: Which = None, tail_logs: TailLogs = True) -> None:
    """Follow an experiment until all of its jobs have ended. Exits with 1 where one failed, or will never run."""
    experiment = _open(which)
    experiment.attach(tail_logs=tail_logs)
    experiment.raise_for_failure()
    if not all(result.state.is_final for result in experiment.results().values()):
        raise typer.Exit(1)


def forward(
    which: Needed,
    job: Annotated[str, typer.Argument(help="Name of the job, or its number in the status, from 0.")],
    service: Annotated[str, typer.Argument(help="Name that the task announced: a file in $NEMO_RUN_SERVICES.")],
    port: Annotated[int | None, typer.Option("--port", "-p", help="Port here; a free one by default.")] = None,
) -> None:
    """Forward a port of this machine to a service of a job, until that ends, or Ctrl-C."""
    from nemo_run.cli.commands.selection import find_experiment, find_job
    from nemo_run.run.services import forwarded, has_ended

    store = find_experiment(which)
    definition = store.read_definition()
    its_job = find_job(definition, job)
    with forwarded(store, definition, its_job.id, service, port) as here:
        say(f"{service}: localhost:{here}")
        while not has_ended(store, definition, its_job):
            time.sleep(2)
    tell(f"job {its_job.id!r} has ended")


def resume(which: Which = None, detach: Detach = False, tail_logs: TailLogs = False) -> None:
    """Go on with an experiment whose launcher is gone. What has run is not run again."""
    experiment = _open(which)
    experiment.resume(detach=detach, tail_logs=tail_logs)
    _report(experiment, detach)


def rerun(
    which: Which = None,
    detach: Detach = False,
    tail_logs: TailLogs = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only what has not succeeded; the rest stays.")] = False,
    today: Annotated[bool, typer.Option("--today", help="With the code as it is now, in the current folder.")] = False,
) -> None:
    """Run an experiment again, with the configuration and the code of its day, under a new id."""
    _report(_open(which).rerun(detach, tail_logs, failed=failed, today=today), detach)


def _open(which: str | None) -> Experiment:
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.experiment import Experiment

    return Experiment.from_id(find_experiment(which).id)


def _report(experiment: Experiment, detached: bool) -> None:
    if detached:
        say(experiment.id)
        return
    experiment.status()
    experiment.raise_for_failure()


def adopt(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Ids, in full.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are not yours yet.")] = False,
    yes: Yes = False,
) -> None:
    """Make experiments yours that were received, after showing what they would connect to and run."""
    from nemo_run.cli.commands.adoption import adopt_all, show
    from nemo_run.cli.show import confirm
    from nemo_run.errors import CommandLineError
    from nemo_run.run import adopting, catalog

    if bool(ids) == every:
        raise CommandLineError("name the experiments to adopt, or say --all; see them: nemorun experiment list")
    if every:
        adopt_all(yes=yes)
        return
    adoptions = [adopting.prepare(catalog.find(one)) for one in ids or []]
    for adoption in adoptions:
        show(adoption)
    if confirm("Do you trust all of this, and is it yours from now on?", yes=yes):
        for adoption in adoptions:
            adopting.adopt(adoption)


def delete(ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, in full.")], yes: Yes = False) -> None:
    """Delete experiments, with their logs and artifacts; never one that runs."""
    from nemo_run.cli.show import confirm
    from nemo_run.errors import ExperimentError
    from nemo_run.run import catalog, housekeeping

    for one in ids:
        catalog.find(one)  # it is there
    if confirm(f"Delete {', '.join(ids)} with logs and artifacts?", yes=yes):
        _, kept = housekeeping.delete_all(ids)
        if kept:
            raise ExperimentError("; ".join(kept.values()))


def prune(
    older_than: Annotated[str, typer.Option("--older-than", help="Age, such as 12h, 30d or 8w.")],
    title: Annotated[str, typer.Option("--title", help="Only experiments with this title.")] = "",
    dryrun: Annotated[bool, typer.Option("--dryrun", help="Only tell which.")] = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Delete the experiments that were launched long ago; never one that runs."""
    from nemo_run.cli.commands.selection import parse_age
    from nemo_run.cli.show import confirm, print_json
    from nemo_run.run import housekeeping

    old, unreadable = housekeeping.launched_before(time.time() - parse_age(older_than), title)
    print_old = tell if json else say
    print_old("\n".join(old) if old else f"no experiment is older than {older_than}")
    deleted: list[str] = []
    kept: dict[str, str] = {}
    if not dryrun and old and confirm(f"Delete these {len(old)} with logs and artifacts?", yes=yes):
        deleted, kept = housekeeping.delete_all(old)  # just those that were shown
        tell(f"{len(deleted)} deleted")
    for reason in (unreadable | kept).values():
        tell(f"kept: {reason}")
    if json:
        print_json({"older": old, "deleted": deleted, "kept": unreadable | kept})
