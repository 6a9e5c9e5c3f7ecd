"""An experiment in one line, and its status as a document."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from nemo_run.errors import NemoRunError
from nemo_run.run.display import status_document
from nemo_run.run.labels import read_labels
from nemo_run.run.ownership import NOT_ASKED
from nemo_run.run.progress import current_progress, interruption, with_reasons
from nemo_run.run.records import Definition, JobProgress, summary
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import TableRow, ago, duration


@dataclass(frozen=True)
class Overview:
    """One experiment of a list.

    Attributes:
        id: Its id.
        title: Its title.
        state: Its state as a whole; empty where its files are damaged.
        jobs: How many jobs are in which state.
        created: When it was launched.
        ended: When its last job ended; ``None`` before that.
        directory: Its folder.
        problem: What is wrong with its files; empty if nothing is.
        received: Whether it is not this user's on this home, so that nothing was asked.
        tags: Its tags.
        name: What it is called beside its id.
        archived: Whether it is left out of lists.
        hours: Hours for which its tasks ran, by their times; ``None`` before its last job ended, as for ``ended``.
        gpu_hours: The same, times the GPUs that they had.
    """

    id: str
    title: str = ""
    state: str = ""
    jobs: dict[str, int] = dataclasses.field(default_factory=dict)
    created: float | None = None
    ended: float | None = None
    directory: str = ""
    problem: str = ""
    received: bool = False
    tags: tuple[str, ...] = ()
    name: str = ""
    archived: bool = False
    hours: float | None = None
    gpu_hours: float | None = None

    def row(self, now: float) -> TableRow:
        """Return the cells of :data:`COLUMNS`, and what is wrong."""
        mixed = ", ".join(f"{count} {state.lower()}" for state, count in self.jobs.items())
        jobs = str(sum(self.jobs.values()) or "")
        created = "" if self.created is None else ago(self.created, now)
        took = "" if self.created is None or self.ended is None else duration(self.ended - self.created)
        said = self.problem or ("" if list(self.jobs) == [self.state] else mixed)
        tags = f"tags: {', '.join(self.tags)}" if self.tags else ""
        note = "; ".join(filter(None, [self.name, said, tags, "archived" if self.archived else ""]))
        return TableRow((self.state or "DAMAGED", created, took, jobs, self.id), note)


COLUMNS = ("state", "launched", "took", "jobs", "experiment")


def overview(store: ExperimentStore) -> Overview:
    """Return an experiment in one line; never fails for damaged files, but says so."""
    try:
        definition, labels = store.read_definition(), read_labels(store)
        received = store.is_received
        found = store.read_summary() or _summed_up(store, definition, current_progress(store, definition))
        has_ended = found["state"] in _FINAL
        problem = "" if has_ended or not received else NOT_ASKED
        return Overview(
            id=store.id,
            title=definition.title,
            state=found["state"],
            jobs=found["counts"],
            created=definition.created,
            ended=found["ended"] if has_ended else None,
            directory=str(store.path),
            problem=problem,
            received=received,
            tags=labels.tags,
            name=labels.name,
            archived=labels.archived,
            hours=_hours(found, "seconds") if has_ended else None,
            gpu_hours=_hours(found, "gpu_seconds") if has_ended else None,
        )
    except (NemoRunError, KeyError) as error:
        return Overview(id=store.id, directory=str(store.path), problem=str(error))


_FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


def _hours(found: dict[str, Any], name: str) -> float | None:
    return round(found[name] / 3600, 4) if name in found else None


def _summed_up(store: ExperimentStore, definition: Definition, progress: dict[str, JobProgress]) -> dict[str, Any]:
    """Return an experiment in a few words, as it is now."""
    found = summary(definition, progress)
    return {**found, "state": "INTERRUPTED"} if interruption(store, progress) else found


def experiment_document(store: ExperimentStore, definition: Definition, progress: dict[str, JobProgress]) -> Any:
    """Return the status of an experiment for programs; states by their names."""
    state = _summed_up(store, definition, progress)["state"]
    jobs = status_document(store, definition, with_reasons(store, progress))
    return {
        "id": store.id,
        "title": definition.title,
        "state": state,
        "created": definition.created,
        "directory": str(store.path),
        "received": store.is_received,
        "jobs": {name: {**job, "status": job["status"].name} for name, job in jobs.items()},
    }
