"""The queue of SkyPilot's managed jobs: what jobs there are, and how they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.core.execution.sky.backend import SkyJob
from nemo_run.core.execution.sky.client import is_a

_STATES = {
    "PENDING": JobState.PENDING,
    "SUBMITTED": JobState.PENDING,
    "STARTING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "WINDING_DOWN": JobState.RUNNING,
    "RECOVERING": JobState.RUNNING,
    "CANCELLING": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "CANCELLED": JobState.CANCELLED,
}  # the others are kinds of failure
_REASONS = {
    "PENDING": "it waits for SkyPilot's jobs controller",
    "STARTING": "SkyPilot makes a machine ready for it",
    "RECOVERING": "SkyPilot recovers it from a machine that was lost",
    "CANCELLING": "it is being cancelled",
    "FAILED_SETUP": "its setup failed",
    "FAILED_PRECHECKS": "SkyPilot could not launch it",
    "FAILED_NO_RESOURCE": "SkyPilot found no machine for it",
    "FAILED_CONTROLLER": "SkyPilot's jobs controller failed",
}
_FIELDS = ["job_id", "job_name", "status", "start_at", "end_at", "failure_reason", "recovery_count"]


def records(sky: Any, numbers: list[int] | None) -> list[Any]:
    """Return what SkyPilot says of the managed jobs with these numbers, or of all."""
    try:
        return list(sky.get(sky.jobs.queue_v2(refresh=False, job_ids=numbers, fields=_FIELDS))[0])
    except Exception as e:
        if is_a(e, "ClusterNotUpError"):  # there is no controller yet, so there are no jobs
            return []
        raise


def job_of(record: Mapping[str, Any]) -> SkyJob:
    """Return the job that a record describes."""
    state = record["status"].value
    reason = _REASONS.get(state, "")
    if detail := record.get("failure_reason"):
        reason = f"{reason}: {detail}" if reason else ""
    status = TaskStatus(
        _STATES.get(state, JobState.FAILED),
        reason=reason,
        started=record.get("start_at") or None,
        ended=record.get("end_at") or None,
    )
    return SkyJob(record["job_id"], status)
