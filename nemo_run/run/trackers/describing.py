"""A task as trackers show it: its name, configuration and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nemo_run.core.masking import masked
from nemo_run.run.labels import read_labels
from nemo_run.run.records import Definition, JobDefinition, TaskDefinition
from nemo_run.run.sharing import without_secrets
from nemo_run.run.store import ExperimentStore
from nemo_run.run.sweep import configuration_of, values_by_path
from nemo_run.run.trackers.sink import RunDescription


def description(
    store: ExperimentStore,
    definition: Definition,
    job: JobDefinition,
    task: TaskDefinition,
    settings: Mapping[str, Any],
) -> RunDescription:
    """Return what a tracker is told of a task."""
    configuration = without_secrets(configuration_of(store, job, job.tasks.index(task)))
    parameters = {
        path: masked({path: value})[path] if isinstance(value, str) else value
        for path, value in values_by_path(configuration).items()
    }
    labels = read_labels(store)
    tags = {
        "nemo_run.experiment": store.id,
        "nemo_run.title": definition.title,
        "nemo_run.task": task.name,
        "nemo_run.executor": task.executor,
        "nemo_run.folder": str(store.path / task.directory),
        "nemo_run.show": f"nemorun experiment show {store.id}",
        "nemo_run.commit": _commit(store),
        "nemo_run.tags": ", ".join(labels.tags),
        "nemo_run.note": labels.note,
        **settings["tags"],
    }
    name = f"{store.id}/{task.name}"
    return RunDescription(
        id=name,
        title=definition.title,
        name=settings["name"] or name,
        parameters=parameters,
        tags={key: value for key, value in tags.items() if value},
        created=definition.created,
    )


def _commit(store: ExperimentStore) -> str:
    commits = (entry.get("commit") for entry in store.read_provenance().get("code", []))
    return next((commit for commit in commits if isinstance(commit, str) and commit), "")
