"""Finding experiments again: the list and its filters, tags and notes, and all that is known of one."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nemo_run.cli.commands.arguments import AsJson, Needed, Which
from nemo_run.cli.show import say, tell

if TYPE_CHECKING:
    from nemo_run.run.overview import Overview
    from nemo_run.run.store import ExperimentStore
    from nemo_run.run.terminal import TableRow


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
    sort: Annotated[
        str | None, typer.Option("--sort", help="Sort by a column, a parameter or a result, the largest last.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", "-c", help="Further columns: parameters or results, with commas between.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Also those that were archived.")] = False,
    json: AsJson = False,
) -> None:
    """List experiments, the newest last."""
    from nemo_run.cli.show import print_json
    from nemo_run.run import catalog

    launched = catalog.launched(title or "")
    wanted = _wanted(state, tag, since, archived=archived)
    further = _names(columns)
    found = _found(_with_jobs(launched, where), wanted, 0 if sort else limit)
    values = {entry.id: _values(entry, [*further, *_names(sort)]) for entry in found}
    found = _sorted(found, sort, values, limit)
    if json:
        print_json([_document(entry, further, values) for entry in found])
    elif found:
        _print(found, further, values)
        if not (where or any(wanted)) and len(launched) > len(found):
            tell(f"and {len(launched) - len(found)} older ones")
    else:
        tell("none of the experiments is so" if launched else _nothing(title))


def _wanted(state: list[str] | None, tag: list[str] | None, since: str | None, *, archived: bool) -> _Wanted:
    from nemo_run.cli.commands.selection import parse_age

    begin = None if since is None else time.time() - parse_age(since)
    return _Wanted(_states(state), tuple(tag or ()), begin, archived)


def _names(typed: str | None) -> list[str]:
    return [name.strip() for name in (typed or "").split(",") if name.strip()]


def _sorted(
    found: Sequence[Overview], sort: str | None, values: Mapping[str, Mapping[str, Any]], limit: int
) -> Sequence[Overview]:
    if not sort:
        return found
    return sorted(found, key=lambda entry: _order(values[entry.id].get(sort)))[-limit:]


def _document(entry: Overview, names: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    columns = {"columns": {name: values[entry.id][name] for name in names}} if names else {}
    return {**dataclasses.asdict(entry), **columns}


class _Wanted(NamedTuple):
    states: set[str]
    tags: tuple[str, ...]
    begin: float | None
    archived: bool

    def fits(self, entry: Overview) -> bool:
        """Whether an experiment is wanted."""
        if entry.archived and not self.archived:
            return False
        if self.states and (entry.state or "DAMAGED") not in self.states:
            return False
        return set(self.tags) <= set(entry.tags) and (self.begin is None or (entry.created or 0.0) >= self.begin)


def _found(stores: Sequence[ExperimentStore], wanted: _Wanted, limit: int) -> Sequence[Overview]:
    from nemo_run.run.overview import overview

    found: list[Overview] = []
    for one in reversed(stores):
        if limit and len(found) == limit:  # the older ones need not be read
            break
        if wanted.fits(entry := overview(one)):
            found.append(entry)
    return found[::-1]


def _values(entry: Overview, names: Sequence[str]) -> dict[str, Any]:
    """Return what an experiment has under these names: its own columns, or parameters and results of its best job."""
    from nemo_run.errors import NemoRunError
    from nemo_run.run import catalog
    from nemo_run.run.sweep import parameters_of, trials_of

    own = {**dataclasses.asdict(entry), "jobs": sum(entry.jobs.values()), "launched": entry.created,
           "took": entry.ended - entry.created if entry.ended and entry.created else None}  # fmt: skip
    if set(names) <= own.keys():
        return {name: own[name] for name in names}
    found: dict[str, Any] = {}
    with contextlib.suppress(NemoRunError, IndexError):
        store = catalog.find(entry.id)
        definition = store.read_definition()
        best = trials_of(store, definition)[0]
        found = {**parameters_of(store, definition.job(best.job)), **best.parameters, **best.results}
        found["objective"] = best.objective
    return {name: own.get(name, found.get(name)) for name in names}


def _order(value: Any) -> tuple[int, Any]:
    """Return what sorts values of all kinds: what is missing, then texts, then numbers."""
    if isinstance(value, int | float):
        return (2, value)
    return (0, "") if value is None else (1, str(value))


def _states(given: list[str] | None) -> set[str]:
    from nemo_run.core.execution.jobs import JobState

    known = {*JobState.__members__, "INTERRUPTED", "DAMAGED"}
    if unknown := [name for name in given or [] if name.upper() not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is no state; there are: {', '.join(sorted(known)).lower()}")
    return {name.upper() for name in given or []}


def _with_jobs(stores: Sequence[ExperimentStore], where: str | None) -> Sequence[ExperimentStore]:
    """Return the experiments with a job for which a condition on its parameters holds; all without a condition."""
    if not where:
        return stores
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


def _print(found: Sequence[Overview], further: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> None:
    from nemo_run.run.display import print_lines
    from nemo_run.run.overview import COLUMNS
    from nemo_run.run.terminal import columns_of, table

    rows = [_with_columns(entry.row(time.time()), values[entry.id], further) for entry in found]
    names = (*COLUMNS[:-1], *further, COLUMNS[-1])
    print_lines(table(names, rows, columns_of(sys.stdout), right=("took", "jobs", *further)), sys.stdout)
    if interrupted := [entry.id for entry in found if entry.state == "INTERRUPTED"]:
        tell(f"INTERRUPTED: the controller is gone; go on: nemorun experiment resume {interrupted[-1]}")


def _with_columns(row: TableRow, values: Mapping[str, Any], names: Sequence[str]) -> TableRow:
    shown = [values[name] for name in names]
    texts = ["" if one is None else f"{one:.6g}" if isinstance(one, float) else str(one) for one in shown]
    return dataclasses.replace(row, cells=(*row.cells[:-1], *texts, row.cells[-1]))


def _nothing(title: str | None) -> str:
    from nemo_run.config.suggest import did_you_mean
    from nemo_run.run import catalog

    titles = catalog.titles()
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
    say(f"{store.id}: {', '.join(labels.tags) or 'no tags'}")


def note(which: Needed, text: Annotated[str, typer.Argument(help="The note; empty to take it away.")]) -> None:
    """Write a note to an experiment; it takes the place of an earlier one."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.labels import change_labels

    store = find_experiment(which)
    change_labels(store, note=text)
    say(f"{store.id}: {text or 'no note'}")


def rename(which: Needed, name: Annotated[str, typer.Argument(help="The name; empty to take it away.")]) -> None:
    """Give an experiment a name that lists show; its id and its title stay as they are."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.labels import change_labels

    store = find_experiment(which)
    change_labels(store, name=name)
    say(f"{store.id}: {name or 'no name'}")


def archive(
    which: Annotated[list[str], typer.Argument(help="Ids or titles of experiments.")],
    undo: Annotated[bool, typer.Option("--undo", help="Show them in lists again.")] = False,
) -> None:
    """Leave experiments out of lists; nothing of them is deleted or changed."""
    from nemo_run.cli.commands.selection import find_experiment
    from nemo_run.run.labels import change_labels

    for one in which:
        store = find_experiment(one)
        change_labels(store, archived=not undo)
        say(f"{store.id}: {'back in lists' if undo else 'archived; list --archived shows it'}")


def du(
    title: Annotated[str | None, typer.Argument(help="Only those with this title.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Only the largest so many; 0 for all.")] = 20,
    json: AsJson = False,
) -> None:
    """Show how much room experiments take on the disk, the largest first."""
    from nemo_run.cli.show import print_json, print_table
    from nemo_run.run import catalog
    from nemo_run.run.housekeeping import size_of

    stores = catalog.launched(title or "")
    sizes = sorted(((size_of(one.path), size_of(one.path / "packages"), one.id) for one in stores), reverse=True)
    found = sizes[:limit] if limit else sizes
    if json:
        print_json([{"id": name, "bytes": size, "code": code} for size, code, name in found])
        return
    rows = [(_megabytes(size), _megabytes(code), name) for size, code, name in found]
    total = (_megabytes(sum(size for size, _, _ in sizes)), "", f"all {len(sizes)}")
    print_table(("MB", "of code", "experiment"), [*rows, total], right=("MB", "of code"))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


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
