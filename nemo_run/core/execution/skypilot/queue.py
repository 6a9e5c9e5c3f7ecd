"""The queue of a SkyPilot cluster: what jobs it has, and how they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.core.execution.sky.backend import SkyJob
from nemo_run.core.execution.sky.client import is_a, plain
from nemo_run.errors import EngineUnreachableError

_STATES = {
    "INIT": JobState.SUBMITTED,
    "PENDING": JobState.PENDING,
    "SETTING_UP": JobState.RUNNING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "FAILED_SETUP": JobState.FAILED,
    "FAILED_DRIVER": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
_REASONS = {
    "SETTING_UP": "its setup runs",
    "FAILED_SETUP": "its setup failed",
    "FAILED_DRIVER": "what SkyPilot runs beside the task failed, perhaps for want of memory",
}


def records(sky: Any, cluster: str) -> list[Any] | None:
    """Return what SkyPilot says of the jobs of a cluster; ``None`` where there is no such cluster, or it is stopped."""
    try:
        return list(sky.get(sky.queue(cluster, all_users=True)))
    except Exception as e:
        if is_a(e, "ClusterDoesNotExist"):
            return None
        if is_a(e, "ClusterNotUpError"):
            if getattr(getattr(e, "cluster_status", None), "value", "") == "STOPPED":
                return None
            raise EngineUnreachableError(f"the cluster {cluster!r} is not up now: {plain(e)}") from e
        raise


def job_of(record: Mapping[str, Any], cluster: str) -> SkyJob:
    """Return the job that a record describes."""
    state = record["status"].value
    status = TaskStatus(
        _STATES[state],
        reason=_REASONS.get(state, ""),
        started=record["start_at"] or None,
        ended=record["end_at"] or None,
        node=cluster,
    )
    return SkyJob(record["job_id"], status)
