"""``nemorun executors`` and ``nemorun doctor``: what works here, and what does not."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nemo_run.core.execution.shared.findings import Finding

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Executor

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def executors(
    named: Annotated[
        list[str] | None, typer.Argument(metavar="[@FILE...]", help="With --load: executors to look at.")
    ] = None,
    *,
    load: Annotated[
        bool, typer.Option("--load", help="How busy the engines of these are, and when a job would start.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the executors, which of them work here, and why the others do not."""
    from nemo_run.errors import CommandLineError

    if load != bool(named):
        raise CommandLineError("--load takes executors to look at, such as: nemorun executors --load @a.yaml @b.yaml")
    if named:
        _print_loads(named, json=json)
    else:
        _print_executors(json=json)


def _print_loads(named: list[str], *, json: bool) -> None:
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.core.execution.soonest import load_of

    loads = [(text, load_of(executor_of(text))) for text in named]
    if json:
        print_json([{"name": text, **load._asdict()} for text, load in loads])
        return
    rows = [
        (
            text,
            *("?" if count is None else str(count) for count in (load.free_nodes, load.free_gpus)),
            _moment(load.start),
            load.why,
        )
        for text, load in loads
    ]
    print_table(("executor", "free nodes", "free GPUs", "would start", "why not"), rows, below="why not")


def _moment(start: float | None) -> str:
    if start is None:
        return "?"
    return "now" if start <= time.time() + 1 else time.strftime("%Y-%m-%d %H:%M", time.localtime(start))


def _print_executors(*, json: bool) -> None:
    from nemo_run.cli.executors import executor_names, third_party_engines, why_not_usable
    from nemo_run.cli.show import print_json, print_table

    ours = [(name, f"run.{cls}", why_not_usable(name)) for name, (cls, _) in executor_names().items()]
    others = list(third_party_engines())
    if json:
        found = [*ours, *((name, cls, "") for name, cls in others)]
        print_json([{"name": name, "class": cls, "why_not": why} for name, cls, why in found])
        return
    rows = [(name, cls, "no" if why else "yes", why) for name, cls, why in ours]
    rows += [(name, cls, "", "an engine of another package") for name, cls in others]
    styles = {"yes": "green", "no": "yellow"}
    print_table(("executor", "class", "works here", "why not"), rows, styles=styles, below="why not")


def doctor(
    executor: Annotated[
        str, typer.Option("--executor", metavar="@FILE", help="Look at the engine of this one: a file or a factory.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Check what this machine, or a cluster, has of what is needed. Exits with 1 if something is broken."""
    from nemo_run.cli.show import print_json, print_table

    findings = _of_executor(executor) if executor else [*(check() for check in _CHECKS), *_executors()]
    if json:
        print_json([finding._asdict() for finding in findings])
    else:
        styles = {"ok": "green", "note": "yellow", "broken": "bold red"}
        print_table(("what", "state", "found"), findings, styles=styles, below="found")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _of_executor(text: str) -> list[Finding]:
    wanted = executor_of(text)
    why = type(wanted.backend()).why_not_usable()
    found = list(wanted.examine())
    if not found:
        return [Finding(wanted.info(), "broken" if why else "ok", why or "there is nothing more to look at")]
    return found


def executor_of(text: str) -> Executor:
    """Return the executor that is typed: ``@FILE``, or the name of a factory with its arguments.

    Raises:
        CommandLineError: There is none.
    """
    from nemo_run.cli.context import RunContext
    from nemo_run.errors import CommandLineError

    context = RunContext(name="doctor")
    context.parse_args([f"executor={text}"])
    if context.executor is None:
        raise CommandLineError(f"{text!r} is no executor; name a file, @cluster.yaml, or a factory")
    return context.executor


def _version() -> Finding:
    import nemo_run

    return Finding("nemo-run", "ok", f"{nemo_run.__version__} in {Path(nemo_run.__file__).parent}")


def _python() -> Finding:
    return Finding("python", "ok", f"{sys.version.split()[0]}, {sys.executable}")


def _home() -> Finding:
    from nemo_run.config.home import get_nemorun_home
    from nemo_run.core import files
    from nemo_run.errors import StoreError

    home = Path(get_nemorun_home())
    probe = home / f".doctor-{os.getpid()}"
    try:
        files.make_folder(home)
        files.write_text(probe, "")
        probe.unlink()
    except (StoreError, OSError) as error:
        return Finding("home", "broken", f"{error}; set NEMORUN_HOME to a folder that you can write to")
    free = shutil.disk_usage(home).free
    return Finding("home", "ok" if free > 1 << 30 else "note", f"{home}, {free >> 20:,} MB free")


def _others_cannot_read() -> Finding:
    from nemo_run.config.home import get_nemorun_home

    home = Path(get_nemorun_home())
    loose = home.is_dir() and home.stat().st_mode & 0o077
    return Finding(
        "privacy", "note" if loose else "ok", f"others can look into {home}: chmod 700" if loose else "only you"
    )


def _locks() -> Finding:
    import tempfile

    from nemo_run.config.home import get_nemorun_home
    from nemo_run.core.files import try_lock

    try:
        with tempfile.TemporaryFile(dir=get_nemorun_home()) as file:
            try_lock(file.fileno())
    except OSError as error:
        return Finding(
            "locks", "broken", f"the file system of the home has no locks: {error}; set NEMORUN_HOME elsewhere"
        )
    return Finding("locks", "ok", "the file system of the home has them")


def _local_tasks() -> Finding:
    from nemo_run.core.execution.local import lacks

    lacking = "; ".join(lacks())
    return Finding("local tasks", "note" if lacking else "ok", lacking or "with all that their executor offers")


def _git() -> Finding:
    path = shutil.which("git")
    return Finding("git", "ok" if path else "note", path or "not installed; GitArchivePackager needs it")


def _ssh() -> Finding:
    path = shutil.which("ssh")
    return Finding("ssh", "ok" if path else "note", path or "not installed; SSHTunnel needs it")


def _workspace() -> Finding:
    from nemo_run.cli import registry
    from nemo_run.errors import CommandLineError

    try:
        registry.load_workspace()
    except CommandLineError as error:
        return Finding("workspace", "broken", str(error))
    return Finding("workspace", "ok", str(registry.workspace_file() or "no workspace.py here or above"))


def _commands() -> Finding:
    from nemo_run.cli import registry

    found = registry.packages()
    names = ", ".join(f"{name} ({point.value})" for name, point in found.items())
    return Finding("commands", "ok", names or "no installed package adds commands")


def _executors() -> Iterator[Finding]:
    from nemo_run.cli.executors import executor_names, why_not_usable

    for name in executor_names():
        why = why_not_usable(name)
        yield Finding(f"run on {name}", "note" if why else "ok", f"no: {why}" if why else "yes")


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _version, _python, _home, _others_cannot_read, _locks, _local_tasks, _git, _ssh, _workspace, _commands,
)  # fmt: skip
