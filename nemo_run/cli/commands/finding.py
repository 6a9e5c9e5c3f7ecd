"""Finding experiments again: the list and its filters, tags and notes, and all that is known of one."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nemo_run.cli.commands.arguments import AsJson, Needed, Which

if TYPE_CHECKING:
    from nemo_run.run.overview import Overview
    from nemo_run.run.store import ExperimentStore


def list_(
    title: Annotated[str | None, typer.Argument(help="Only those with this title.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Only the newest so many; 0 for all.")] = 0,
    state: Annotated[
        list[str] | None, typer.Option("--state", "-s", help="Only those in this state; may be repeated.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="Only those with this tag; all of several.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only those launched since: 90m, 12h, 7d, 2w.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only those with such a job: \"model.layers > 8 and kind == 'a'\".")
    ] = None,
    json: AsJson = False,
) -> None:
    """List experiments, the newest last."""
    from nemo_run.cli.commands.selection import parse_age
    from nemo_run.cli.show import print_json
    from nemo_run.run import catalog

    launched = catalog.launched(title or "")
    wanted = _Wanted(_states(state), tuple(tag or ()), None if since is None else time.time() - parse_age(since))
    found = list(_found(_with_jobs(launched, where) if where else launched, wanted, limit))
    if json:
        print_json([dataclasses.asdict(entry) for entry in found])
    elif found:
        _print(found)
        if not (where or any(wanted)) and len(launched) > len(found):
            typer.echo(f"and {len(launched) - len(found)} older ones", err=True)
    else:
        typer.echo("none of the experiments is so" if launched else _nothing(title), err=True)


class _Wanted(NamedTuple):
    states: set[str]
    tags: tuple[str, ...]
    begin: float | None

    def fits(self, entry: Overview) -> bool:
        """Whether an experiment is wanted."""
        if self.states and (entry.state or "DAMAGED") not in self.states:
            return False
        return set(self.tags) <= set(entry.tags) and (self.begin is None or (entry.created or 0.0) >= self.begin)


def _found(stores: Sequence[ExperimentStore], wanted: _Wanted, limit: int) -> Sequence[Overview]:
    from nemo_run.run.overview import overview

    if not any(wanted):  # the older ones need not be read
        return [overview(one) for one in stores[-limit:]]
    return [entry for one in stores if wanted.fits(entry := overview(one))][-limit:]


def _states(given: list[str] | None) -> set[str]:
    from nemo_run.core.execution.jobs import JobState

    known = {*JobState.__members__, "INTERRUPTED", "DAMAGED"}
    if unknown := [name for name in given or [] if name.upper() not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is no state; there are: {', '.join(sorted(known)).lower()}")
    return {name.upper() for name in given or []}


def _with_jobs(stores: Sequence[ExperimentStore], where: str) -> list[ExperimentStore]:
    """Return the experiments with a job for which a condition on its parameters holds."""
    from nemo_run.errors import NemoRunError
    from nemo_run.run.sweep import parameters_of
    from nemo_run.run.where import condition

    holds = condition(where)
    found = []
    for store in stores:
        with contextlib.suppress(NemoRunError):
            if any(holds(parameters_of(store, job)) for job in store.read_definition().jobs):
                found.append(store)
    return found


def _print(found: Sequence[Overview]) -> None:
    from nemo_run.run.display import print_lines
    from nemo_run.run.overview import COLUMNS
    from nemo_run.run.terminal import columns_of, table

    rows = [entry.row(time.time()) for entry in found]
    print_lines(table(COLUMNS, rows, columns_of(sys.stdout), right=("took", "jobs")), sys.stdout)
    if interrupted := [entry.id for entry in found if entry.state == "INTERRUPTED"]:
        typer.echo(f"INTERRUPTED: the controller is gone; go on: nemorun experiment resume {interrupted[-1]}", err=True)


def _nothing(title: str | None) -> str:
    from nemo_run.config.suggest import did_you_mean
    from nemo_run.run import catalog

    titles = sorted({one.path.parent.name for one in catalog.launched()})
    if title is None or not titles:
        return "there are no experiments yet"
    return f"there is no experiment with the title {title!r}{did_you_mean(title, titles)}"


def tag(
    which: Needed,
    tags: Annotated[list[str], typer.Argument(help="Tags, such as paper or baseline.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take them away.")] = False,
) -> None:
    """Give tags to an experiment, to find it again: list --tag paper."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.labels import change_labels

    store = find_experiment(which)
    labels = change_labels(store, remove=tags) if remove else change_labels(store, add=tags)
    typer.echo(f"{store.id}: {', '.join(labels.tags) or 'no tags'}")


def note(which: Needed, text: Annotated[str, typer.Argument(help="The note; empty to take it away.")]) -> None:
    """Write a note to an experiment; it takes the place of an earlier one."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.labels import change_labels

    store = find_experiment(which)
    change_labels(store, note=text)
    typer.echo(f"{store.id}: {text or 'no note'}")


def show(which: Which = None, json: AsJson = False) -> None:
    """Show what is known of an experiment: who launched what and when, code, jobs, configurations, files."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.cli.show import print_json, print_yaml
    from nemo_run.config.export import write_document
    from nemo_run.run.labels import read_labels

    store = find_experiment(which)
    document = _known(store) | dataclasses.asdict(read_labels(store))
    if json:
        print_json(document)
    else:
        filled = {name: value for name, value in document.items() if value not in ("", [], (), {}, None)}
        filled["tags"] = list(filled.pop("tags", ())) or None
        print_yaml(write_document({k: v for k, v in filled.items() if v is not None}, "yaml").rstrip())


def _known(store: ExperimentStore) -> dict[str, Any]:
    from nemo_run.run.artifacts import listing
    from nemo_run.run.overview import overview

    definition, provenance, line = store.read_definition(), store.read_provenance(), overview(store)
    names = ("user", "host", "cwd", "argv", "python", "executable", "nemo_run", "rerun_of")
    left = listing(store, definition)
    return {
        "id": store.id,
        "title": definition.title,
        "state": line.state,
        "problem": line.problem,
        "launched": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(definition.created)),
        "directory": str(store.path),
        **{name: provenance[name] for name in names if provenance.get(name)},
        "code": [{k: one[k] for k in ("root", "kind", "commit", "branch", "patch") if one.get(k)}
                 for one in provenance.get("code", [])],
        "artifacts": {"files": len(left), "bytes": sum(one.size for one in left)} if left else {},
        "jobs": dict(_jobs(store)),
    }  # fmt: skip


def _jobs(store: ExperimentStore) -> Iterator[tuple[str, Any]]:
    for job in store.read_definition().jobs:
        progress = store.read_progress(job)
        tasks = [store.read_task(task)["config"] for task in job.tasks]
        said = {"state": progress.state.name, "exit_code": progress.exit_code, "reason": progress.reason}
        named = {name: value for name, value in said.items() if value not in (None, "")}
        after = {"dependencies": list(job.dependencies)} if job.dependencies else {}
        yield job.id, {**named, **after, "executor": job.tasks[0].executor,
                       **({"tasks": tasks} if job.group else {"task": tasks[0]})}  # fmt: skip
