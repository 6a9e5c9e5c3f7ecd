"""An experiment in one line, and its status as a document."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from nemo_run.errors import NemoRunError
from nemo_run.run.display import status_document
from nemo_run.run.progress import current_progress, with_reasons
from nemo_run.run.records import Definition, JobProgress, summary
from nemo_run.run.store import ExperimentStore
from nemo_run.run.terminal import duration


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
    """

    id: str
    title: str = ""
    state: str = ""
    jobs: dict[str, int] = dataclasses.field(default_factory=dict)
    created: float | None = None
    ended: float | None = None
    directory: str = ""
    problem: str = ""

    def row(self) -> tuple[str, ...]:
        """The cells of :data:`COLUMNS`."""
        jobs = ", ".join(f"{count} {state.lower()}" for state, count in self.jobs.items())
        created = "" if self.created is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created))
        took = "" if self.created is None or self.ended is None else duration(self.ended - self.created)
        return (self.id, self.state, jobs, created, took, self.problem)


COLUMNS = ("experiment", "state", "jobs", "created", "took", "problem")


def overview(store: ExperimentStore) -> Overview:
    """An experiment in one line; never fails for damaged files, but says so."""
    try:
        definition = store.read_definition()
        found = store.read_summary() or summary(definition, current_progress(store, definition))
        return Overview(
            id=store.id,
            title=definition.title,
            state=found["state"],
            jobs=found["counts"],
            created=definition.created,
            ended=found["ended"] if found["state"] in _FINAL else None,
            directory=str(store.path),
        )
    except (NemoRunError, KeyError) as error:
        return Overview(id=store.id, directory=str(store.path), problem=str(error))


_FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


def true_progress(store: ExperimentStore, definition: Definition) -> dict[str, JobProgress]:
    """The progress of all jobs now, with reasons where nothing goes on."""
    return with_reasons(store, definition, current_progress(store, definition))


def experiment_document(store: ExperimentStore, definition: Definition, progress: dict[str, JobProgress]) -> Any:
    """The status of an experiment for programs; states by their names."""
    jobs = status_document(store, definition, progress)
    return {
        "id": store.id,
        "title": definition.title,
        "state": summary(definition, progress)["state"],
        "created": definition.created,
        "directory": str(store.path),
        "jobs": {name: {**job, "status": job["status"].name} for name, job in jobs.items()},
    }
