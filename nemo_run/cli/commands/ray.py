"""``nemorun ray``: Ray clusters and their jobs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer.core import TyperCommand

from nemo_run.cli.groups import CommandGroup
from nemo_run.cli.show import print_error, say, tell
from nemo_run.errors import CommandLineError, ExecutorError, JobNotFoundError

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Executor
    from nemo_run.run.ray.records import Stored, StoredCluster, StoredRayJob

_WORDS = "--words"
_ALL = sys.maxsize  # lines of a log

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
Env = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="Variable of the command; NAME alone: as it is here. Repeatable."),
]
Words = Annotated[str, typer.Option(_WORDS, hidden=True)]
Patience = Annotated[
    int | None, typer.Option("--timeout", min=1, help="Seconds in which the job has to begin; no limit by default.")
]


class CommandLine(TyperCommand):
    """A command that runs what follows ``--``, word by word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words after ``--`` as one shell command."""
        if "--" in args:
            at = args.index("--")
            words = args[at + 1 :]
            text = words[0] if len(words) == 1 else shlex.join(words)  # one word is a shell command
            args = [*args[:at], f"{_WORDS}={text}"]
        return super().parse_args(ctx, args)


def create() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)
    for command in (start, status, jobs, logs, stop, dashboard):
        app.command(command.__name__)(command)
    app.command("submit", cls=CommandLine)(submit)
    app.command("exec", cls=CommandLine)(execute)
    return app


def start(
    name: Name,
    options: Options = None,
    pre: Pre = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds to wait.")] = 1000,
    idle_timeout: Annotated[
        float | None, typer.Option("--idle-timeout", min=1, help="Seconds without a job after which it ends by itself.")
    ] = None,
    dryrun: Dryrun = False,
    json: AsJson = False,
) -> None:
    """Start a cluster, on this machine if nothing else is said. It runs until it is stopped."""
    from nemo_run.cli.show import print_json
    from nemo_run.run.ray import RayCluster

    cluster = RayCluster(name, _executor(options))
    cluster.start(wait, timeout, dryrun, pre, idle_timeout=idle_timeout)
    if not dryrun:
        found = cluster.status(display=not json)
        if json:
            print_json(found)


def submit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the job.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND [executor=...]...",
            help="Shell command, as one argument, or last, after --, as it would be typed; and where it runs.",
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="A cluster that runs; by default the job gets one of its own.")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="A cluster of somebody else, by its dashboard; $RAY_AUTH_TOKEN is for it.")
    ] = "",
    workdir: Annotated[str, typer.Option("--workdir", help="Folder to send along.")] = "",
    runtime_env: Annotated[
        str | None, typer.Option("--runtime-env", metavar="FILE", help="YAML file with a runtime environment.")
    ] = None,
    env: Env = None,
    num_cpus: Annotated[
        float | None, typer.Option("--num-cpus", min=0, help="CPU cores kept for the command itself.")
    ] = None,
    num_gpus: Annotated[
        float | None, typer.Option("--num-gpus", min=0, help="GPUs kept for the command itself.")
    ] = None,
    pre: Pre = None,
    follow: Annotated[bool, typer.Option(help="Print its log until it has ended.")] = True,
    timeout: Patience = None,
    dryrun: Dryrun = False,
    json: AsJson = False,
    words: Words = "",
) -> None:
    """Run a job, and exit with its exit code. With --json its log goes to stderr, and how it is, to stdout."""
    from nemo_run.cli.show import print_json
    from nemo_run.run.ray import RayJob

    entrypoint, options = (words, command or []) if words else _split(command or [])
    token = os.environ.get("RAY_AUTH_TOKEN", "") if address else ""
    job = RayJob(name, _executor(options, env), cluster_name=cluster, address=address, token=token)
    job.start(
        entrypoint,
        workdir,
        runtime_env,
        pre_ray_start_commands=pre,
        dryrun=dryrun,
        entrypoint_num_cpus=num_cpus,
        entrypoint_num_gpus=num_gpus,
    )
    if follow and not dryrun:
        _tell(_follow(job.known(), _ALL, timeout, sys.stderr if json else sys.stdout), print_json if json else None)
    elif json and not dryrun:
        print_json(job.status(display=False))


def execute(
    cluster: Name,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Shell command, as one argument, or last, after --.")
    ] = None,
    on: On = "",
    workdir: Annotated[str, typer.Option("--workdir", help="Folder to send along.")] = "",
    env: Env = None,
    json: AsJson = False,
    words: Words = "",
) -> None:
    """Run a command on a cluster, print what it writes, and exit with its exit code. Ctrl-C ends it."""
    from nemo_run.cli.show import print_json
    from nemo_run.run.ray.job import run_once
    from nemo_run.run.ray.watching import WatchedJob

    entrypoint, others = (words, command or []) if words else _split(command or [])
    if others:
        raise CommandLineError(f"{others[0]!r} is not understood; give the command last, after --, or as one argument")
    stored = run_once(_cluster(cluster, on), entrypoint, workdir, _variables(env))
    try:
        end = _follow(stored, _ALL, None, sys.stderr if json else sys.stdout)
    except KeyboardInterrupt:
        with WatchedJob(stored) as job:
            job.stop()
        raise
    _tell(end, print_json if json else None)


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
        tell(f"no Ray cluster runs{hint}")
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
        print_table(columns, rows, right=("exit", "took"), styles=styles, below="reason")
    else:
        tell("there are no Ray jobs" + (f" of the cluster {name!r}" if name else ""))


def logs(
    name: Annotated[str, typer.Argument(metavar="JOB", help="Name of the job.")],
    on: On = "",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on until it has ended.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Begin with the last so many lines.")] = 100,
    timeout: Patience = None,
    json: AsJson = False,
) -> None:
    """Print the log of a job. With --follow, exits with the exit code of the job."""
    from nemo_run.cli.show import print_json
    from nemo_run.run.ray.watching import WatchedJob

    stored = _job(name, on)
    if follow:
        _tell(_follow(stored, tail, timeout, sys.stderr if json else sys.stdout), print_json if json else None)
        return
    with WatchedJob(stored) as job:
        text = job.last_lines(tail)
        if json:
            print_json({**job.status(), "log": text})
        else:
            typer.echo(text, nl=False)


def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster, or with --job of a job.")],
    on: On = "",
    job: Annotated[bool, typer.Option("--job", help="Stop the job of that name, not a cluster.")] = False,
    json: AsJson = False,
) -> None:
    """Stop a cluster with all that runs there, or one job; returns when it has ended."""
    from nemo_run.cli.show import print_json
    from nemo_run.run.ray.watching import WatchedJob, in_words, stop_cluster

    if job:
        with WatchedJob(_job(name, on)) as watched:
            watched.stop(wait=True)
            found = watched.status()
    else:
        stored = _cluster(name, on)
        stop_cluster(stored)
        found = _status(stored)
    if json:
        print_json(found)
    else:
        say(in_words(found) if job else f"Ray cluster {name!r}: {found['state']}")


def dashboard(
    name: Name,
    on: On = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port here; 0 for a free one.")] = 8265,
    target_port: Annotated[
        int, typer.Option("--target-port", min=1, max=65535, help="The port of the head; 8265 is its dashboard.")
    ] = 8265,
    json: AsJson = False,
) -> None:
    """Make the dashboard of a cluster reachable from this machine, until Ctrl-C."""
    import threading

    from nemo_run.cli.show import print_json
    from nemo_run.core.ray.engine import get_engine

    stored = _cluster(name, on)
    with get_engine(stored.engine).forward(stored.record, port, target_port) as address:
        if json:
            print_json({"name": name, "address": address})
        else:
            say(f"{address} until Ctrl-C")
        sys.stdout.flush()
        threading.Event().wait()


def _follow(stored: StoredRayJob, lines: int, timeout: float | None, out: TextIO) -> dict[str, Any]:
    """Print what a job writes until it has ended; return how it ended."""
    from nemo_run.run.ray.watching import WatchedJob

    with WatchedJob(stored) as job:
        for text in job.follow(lines, timeout):
            typer.echo(text, file=out, nl=False)
        return job.wait()


def _tell(end: dict[str, Any], show: Callable[[Any], None] | None) -> None:
    """Tell how a job ended, and exit with its exit code where it did not succeed."""
    from nemo_run.run.ray.watching import in_words

    if show is not None:
        show(end)
    if end["state"] != "SUCCEEDED":
        print_error(in_words(end))
        raise typer.Exit(_code_of(end))


def _code_of(end: dict[str, Any]) -> int:
    """Return the exit code of a job that did not succeed; as shells have it, where a signal ended it.

    >>> _code_of({"exit_code": 3}), _code_of({"exit_code": -9}), _code_of({"exit_code": None})
    (3, 137, 1)
    """
    code = int(end["exit_code"] or 1)
    return 128 - code if code < 0 else code


def _has_ended(cluster: dict[str, Any]) -> bool:
    return cluster["state"] in ("stopped", "failed")


def _print_clusters(shown: list[dict[str, Any]]) -> None:
    from nemo_run.cli.show import print_table

    rows = [
        (one["name"], one["where"], one["state"], f"{one['nodes_ready']}/{one['nodes_wanted']}", one["reason"])
        for one in shown
    ]
    styles = {"ready": "green", "failed": "bold red", "unknown": "magenta", "starting": "cyan"}
    print_table(("cluster", "where", "state", "nodes", "reason"), rows, right=("nodes",), styles=styles, below="reason")


# --- what is meant -----------------------------------------------------------------------------------------------


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Return the shell command, which is the first argument, and the others."""
    if not words:
        raise CommandLineError("there is no command; give it as one argument, or last, after --")
    return words[0], words[1:]


def _variables(env: list[str] | None) -> dict[str, str]:
    """Return the variables that were asked for; a name alone stands for the value that it has here."""
    found = {}
    for text in env or []:
        name, given, value = text.partition("=")
        if not given and name not in os.environ:
            raise CommandLineError(f"--env {name}: there is no such variable here; give it as {name}=VALUE")
        found[name] = value if given else os.environ[name]
    return found


def _executor(options: list[str] | None, env: list[str] | None = None) -> Executor:
    from nemo_run.cli.context import RunContext
    from nemo_run.core.execution.local import LocalExecutor

    context = RunContext(name="ray")
    context.parse_args(_executor_options(options or []))
    executor = context.executor or LocalExecutor()
    executor.env_vars = {**executor.env_vars, **_variables(env)}
    return executor


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
    """Describe where a cluster or a job is."""
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
