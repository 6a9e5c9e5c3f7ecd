"""``nemorun ray``: Ray clusters and their jobs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nemo_run.cli.groups import CommandGroup
from nemo_run.cli.show import print_error
from nemo_run.errors import CommandLineError, ExecutorError, JobNotFoundError

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.ray.records import Stored, StoredCluster, StoredRayJob

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster.")]
Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="[executor=...]...", help="Where, such as executor=local executor.nodes=2."),
]
Pre = Annotated[
    list[str] | None, typer.Option("--pre", help="Shell command that each node runs before it starts Ray; repeatable.")
]
Dryrun = Annotated[bool, typer.Option("--dryrun", help="Only show what would be done.")]
On = Annotated[
    str, typer.Option("--on", help="Part of where it is, as the status shows it, if several have that name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def create() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)
    for command in (start, submit, status, jobs, logs, stop, dashboard):
        app.command(command.__name__)(command)
    return app


def start(
    name: Name,
    options: Options = None,
    pre: Pre = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds to wait.")] = 1000,
    dryrun: Dryrun = False,
) -> None:
    """Start a cluster, on this machine if nothing else is said. It runs until it is stopped."""
    from nemo_run.run.ray import RayCluster

    cluster = RayCluster(name, _executor(options))
    cluster.start(wait_until_ready=wait, timeout=timeout, dryrun=dryrun, pre_ray_start_commands=pre)
    if not dryrun:
        cluster.status()


def submit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the job.")],
    command: Annotated[str, typer.Argument(help="Shell command to run, as one argument.")],
    options: Options = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="A cluster that runs; by default the job gets one of its own.")
    ] = None,
    workdir: Annotated[str, typer.Option("--workdir", help="Folder to send along.")] = "",
    runtime_env: Annotated[
        str | None, typer.Option("--runtime-env", metavar="FILE", help="YAML file with a runtime environment.")
    ] = None,
    pre: Pre = None,
    follow: Annotated[bool, typer.Option(help="Print its log until it has ended.")] = True,
    dryrun: Dryrun = False,
) -> None:
    """Run a job. Exits with 1 where it fails."""
    from nemo_run.run.ray import RayJob

    job = RayJob(name, _executor(options), cluster_name=cluster)
    job.start(command, workdir, runtime_env, pre_ray_start_commands=pre, dryrun=dryrun)
    if follow and not dryrun:
        _follow(job.known(), 100, 100)


def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of the cluster; all by default.")] = None,
    on: On = "",
    ended: Annotated[bool, typer.Option("--all", help="Also clusters that have ended.")] = False,
    json: AsJson = False,
) -> None:
    """Show clusters. With a name, exits with 1 unless that one is ready."""
    from nemo_run.cli.show import print_json

    found = _statuses(name, on)
    shown = found if name or ended else [one for one in found if not _has_ended(one)]
    if json:
        print_json(shown[0] if name else shown)
    elif shown:
        _print_clusters(shown)
    else:
        hint = "; those that have ended: nemorun ray status --all" if found else ""
        typer.echo(f"no Ray cluster runs{hint}", err=True)
    if name and shown[0]["state"] != "ready":
        raise typer.Exit(1)


def jobs(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only those of this cluster.")] = None,
    json: AsJson = False,
) -> None:
    """List the jobs that were submitted from this machine, the newest last."""
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.run.ray import records

    stored = [job for job in records.read_all(records.StoredRayJob) if name in (None, job.cluster)]
    found = [_job_status(job) for job in stored]
    if json:
        print_json(found)
    elif found:
        rows = [
            (one["name"], one["cluster"], one["state"], _exit_code(one), _took(one), one["reason"]) for one in found
        ]
        styles = {"SUCCEEDED": "green", "FAILED": "bold red", "STOPPED": "yellow", "RUNNING": "cyan"}
        columns = ("job", "cluster", "state", "exit", "took", "reason")
        print_table(columns, rows, right=("exit", "took"), styles=styles)
    else:
        typer.echo("there are no Ray jobs" + (f" of the cluster {name!r}" if name else ""), err=True)


def logs(
    name: Annotated[str, typer.Argument(metavar="JOB", help="Name of the job.")],
    on: On = "",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on until it has ended.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Begin with the last so many lines.")] = 100,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds in which the job has to begin.")] = 100,
) -> None:
    """Print the log of a job. With --follow, exits with 1 where the job did not succeed."""
    from nemo_run.run.ray.watching import WatchedJob

    stored = _job(name, on)
    if follow:
        _follow(stored, tail, timeout)
        return
    with WatchedJob(stored) as job:
        typer.echo(job.last_lines(tail), nl=False)


def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster, or with --job of a job.")],
    on: On = "",
    job: Annotated[bool, typer.Option("--job", help="Stop the job of that name, not a cluster.")] = False,
) -> None:
    """Stop a cluster with all that runs there, or one job; returns when it has ended."""
    from nemo_run.core.ray.engine import get_engine
    from nemo_run.run.ray.watching import WatchedJob, in_words

    if job:
        with WatchedJob(_job(name, on)) as watched:
            watched.stop(wait=True)
            typer.echo(in_words(watched.status()))
        return
    stored = _cluster(name, on)
    get_engine(stored.engine).stop(stored.record)
    typer.echo(f"Ray cluster {name!r}: {_status(stored)['state']}")


def dashboard(
    name: Name,
    on: On = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port here.")] = 8265,
    target_port: Annotated[
        int, typer.Option("--target-port", min=1, max=65535, help="The port of the head; 8265 is its dashboard.")
    ] = 8265,
) -> None:
    """Make the dashboard of a cluster reachable from this machine, until Ctrl-C."""
    import threading

    from nemo_run.core.ray.engine import get_engine

    stored = _cluster(name, on)
    with get_engine(stored.engine).forward(stored.record, port, target_port):
        typer.echo(f"http://127.0.0.1:{port} until Ctrl-C")
        sys.stdout.flush()
        threading.Event().wait()


def _follow(stored: StoredRayJob, lines: int, timeout: float) -> None:
    from nemo_run.run.ray.watching import WatchedJob, in_words

    with WatchedJob(stored) as job:
        for text in job.follow(lines, timeout):
            typer.echo(text, nl=False)
        end = job.wait()
    if end["state"] != "SUCCEEDED":
        print_error(in_words(end))
        raise typer.Exit(1)


def _has_ended(cluster: dict[str, Any]) -> bool:
    return cluster["state"] in ("stopped", "failed")


def _print_clusters(shown: list[dict[str, Any]]) -> None:
    from nemo_run.cli.show import print_table

    rows = [
        (one["name"], one["where"], one["state"], f"{one['nodes_ready']}/{one['nodes_wanted']}", one["reason"])
        for one in shown
    ]
    styles = {"ready": "green", "failed": "bold red", "unknown": "magenta", "starting": "cyan"}
    print_table(("cluster", "where", "state", "nodes", "reason"), rows, right=("nodes",), styles=styles)


# --- what is meant -----------------------------------------------------------------------------------------------


def _executor(options: list[str] | None) -> Executor:
    from nemo_run.cli.context import RunContext
    from nemo_run.core.execution.local import LocalExecutor

    context = RunContext(name="ray")
    context.parse_args(_executor_options(options or []))
    return context.executor or LocalExecutor()


def _executor_options(options: list[str]) -> list[str]:
    given = [option.removeprefix("run.") for option in options]
    for option in given:
        if not option.startswith(("executor=", "executor.", "executor[")):
            raise CommandLineError(f"{option!r} is not understood; say where, such as executor=local executor.nodes=2")
    if given and not any(option.startswith("executor=") for option in given):
        given.insert(0, "executor=local")
    return given


def _cluster(name: str, on: str) -> StoredCluster:
    from nemo_run.run.ray.records import StoredCluster

    return _the_one(StoredCluster, "cluster", name, on)


def _job(name: str, on: str) -> StoredRayJob:
    from nemo_run.run.ray.records import StoredRayJob

    return _the_one(StoredRayJob, "job", name, on)


def _the_one(kind: type[Stored], what: str, name: str, on: str) -> Stored:
    from nemo_run.config.suggest import did_you_mean
    from nemo_run.run.ray import records

    found = [one for one in records.read_all(kind, name) if on in where(one)]
    if not found:
        known = sorted({one.name for one in records.read_all(kind)})
        raise JobNotFoundError(f"no Ray {what} {name!r} is known to this machine{did_you_mean(name, known)}")
    if len(found) > 1:
        places = ", ".join(map(where, found))
        raise CommandLineError(f"there are several Ray {what}s {name!r}: {places}; say which with --on")
    return found[0]


def where(one: StoredCluster | StoredRayJob) -> str:
    """Where a cluster or a job is, in words."""
    return f"{one.engine} {one.place}".strip()


# --- how it is ---------------------------------------------------------------------------------------------------


def _statuses(name: str | None, on: str) -> list[dict[str, Any]]:
    """Return the status of the one cluster that is meant, or of all."""
    from nemo_run.run.ray import records

    clusters = [_cluster(name, on)] if name else records.read_all(records.StoredCluster)
    return [_status(one) for one in clusters]


def _status(stored: StoredCluster) -> dict[str, Any]:
    from nemo_run.core.ray.engine import ClusterState, ClusterStatus, get_engine
    from nemo_run.run.ray.cluster import status_document

    try:
        found = get_engine(stored.engine).status(stored.record)
    except ExecutorError as e:  # one that cannot be reached does not hide the others
        found = ClusterStatus(ClusterState.UNKNOWN, str(e))
    return {**status_document(stored.name, stored.engine, found), "where": where(stored)}


def _job_status(stored: StoredRayJob) -> dict[str, Any]:
    from nemo_run.core.ray.jobs_api import UNKNOWN
    from nemo_run.run.ray.watching import WatchedJob, describe

    with WatchedJob(stored) as job:
        try:
            return job.status()
        except ExecutorError as e:
            return describe(stored, {"status": UNKNOWN, "message": str(e)})


def _exit_code(job: dict[str, Any]) -> str:
    return "" if job["exit_code"] is None else str(job["exit_code"])


def _took(job: dict[str, Any]) -> str:
    from nemo_run.run.terminal import duration

    return "" if job["started"] is None else duration((job["ended"] or time.time()) - job["started"])
