"""What is different between two past experiments: configuration, code and environment. Imports none of their code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemo_run.run.records import JobDefinition, TaskDefinition
from nemo_run.run.store import ExperimentStore

if TYPE_CHECKING:
    from nemo_run.config.diff import ConfigDiff

_ENVIRONMENT = ("python", "platform", "host", "user", "nemo_run", "packages")
_CODE = ("kind", "commit", "branch", "remote", "patch_sha256", "omitted")


def compare(new: ExperimentStore, old: ExperimentStore) -> ConfigDiff:
    """Return the differences that lead from ``old`` to ``new``."""
    from nemo_run.config.diff import diff

    return diff(_description(new), _description(old))


def _description(store: ExperimentStore) -> dict[str, Any]:
    """Return an experiment as one plain document."""
    definition, provenance = store.read_definition(), store.read_provenance()
    jobs = {job.id: _job(store, job) for job in definition.jobs}
    code = {
        entry["root"]: {name: entry[name] for name in _CODE if entry.get(name)} for entry in provenance.get("code", [])
    }
    environment = {name: provenance[name] for name in _ENVIRONMENT if name in provenance}
    return {"jobs": jobs, "code": code, "environment": environment}


def _job(store: ExperimentStore, job: JobDefinition) -> dict[str, Any]:
    tasks = [_task(store, task) for task in job.tasks]
    return {"dependencies": list(job.dependencies), **({"tasks": tasks} if job.group else tasks[0])}


def _task(store: ExperimentStore, task: TaskDefinition) -> dict[str, Any]:
    document = store.read_task(task)
    # Where the experiment put the executor is no difference that a user made.
    own = ("experiment_id", "job_dir", "experiment_dir")
    executor = {name: value for name, value in document["executor"].items() if name not in own}
    if isinstance(executor.get("tunnel"), dict):
        executor["tunnel"] = {name: value for name, value in executor["tunnel"].items() if name != "packaging_jobs"}
    return {"config": document["config"], "executor": executor}
