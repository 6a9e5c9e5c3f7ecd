"""One job on a Ray cluster, looked at from here, while its cluster runs and afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from nemo_run.errors import EngineUnreachableError
from nemo_run.run.ray.engine import ClusterState, KeptJob, get_engine
from nemo_run.run.ray.jobs_api import FINAL, PATIENCE, JobsApi
from nemo_run.run.ray.records import StoredJob

T = TypeVar("T")

UNKNOWN = "UNKNOWN"
"""State of a job of which nobody can tell what became of it."""


class WatchedJob:
    """Answers for a job: its cluster is asked while that runs, and then what it has left.

    The way to the cluster stays open from one question to the next, and is opened again where it broke.
    """

    def __init__(self, stored: StoredJob) -> None:
        self._stored = stored
        self._engine = get_engine(stored.engine)
        self._open = contextlib.ExitStack()
        self._api: JobsApi | None = None

    def close(self) -> None:
        """Close the way to the cluster."""
        self._api = None
        self._open.close()

    def __enter__(self) -> WatchedJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def details(self) -> dict[str, Any]:
        """What Ray says of the job (``status``, ``message``, ``driver_exit_code``, …).

        Raises:
            EngineUnreachableError: Its cluster does not answer, though it runs.
        """
        found = self._ask(lambda api: api.details(self._stored.submission_id) or self._not_submitted())
        return found or self._instead()

    def log(self) -> str:
        """All that the job has written until now."""
        text = self._ask(lambda api: api.logs(self._stored.submission_id))
        if text is None:
            kept = self._kept()
            return kept.log if kept else ""
        return text

    def tail(self, skip: int, patience: float) -> Iterator[str]:
        """What the job writes, as it comes; ends as :meth:`JobsApi.tail` does, at once where there is no cluster."""
        api = self._reach()
        if api is not None:
            yield from api.tail(self._stored.submission_id, skip, patience)

    def stop(self) -> None:
        """Ask Ray to end the job, if its cluster runs."""
        self._ask(lambda api: api.stop(self._stored.submission_id))

    def _ask(self, question: Callable[[JobsApi], T]) -> T | None:
        """Ask the cluster; ``None`` where it has ended, or is not ready yet."""
        try:
            api = self._reach()
            return None if api is None else question(api)
        except EngineUnreachableError:
            self.close()
            if not self._engine.status(self._stored.record).state.is_final:
                raise
            return None

    def _reach(self) -> JobsApi | None:
        if self._api is None:
            if self._engine.status(self._stored.record).state is not ClusterState.READY:
                return None
            dashboard = self._open.enter_context(self._engine.dashboard(self._stored.record))
            self._api = self._open.enter_context(JobsApi(dashboard))
        return self._api

    def _not_submitted(self) -> dict[str, Any]:
        if time.time() - self._stored.created < PATIENCE:
            return {"status": "PENDING", "message": "it is not submitted yet"}
        return {"status": UNKNOWN, "message": "Ray does not know it; whoever started it was interrupted"}

    def _instead(self) -> dict[str, Any]:
        """What is to be said of a job whose cluster cannot be asked."""
        status = self._engine.status(self._stored.record)
        why = f": {status.reason}" if status.reason else ""
        if not status.state.is_final:
            return {"status": "PENDING", "message": f"its cluster is {status.state}{why}"}
        kept = self._kept()
        if kept is not None:
            return kept.details
        return {"status": UNKNOWN, "message": f"its cluster is {status.state} and has left nothing of it{why}"}

    def _kept(self) -> KeptJob | None:
        return self._engine.kept(self._stored.record, self._stored.submission_id)


def is_final(details: dict[str, Any]) -> bool:
    """Whether a job has ended, or nobody can tell."""
    return details["status"] in (*FINAL, UNKNOWN)


def describe(stored: StoredJob, details: dict[str, Any]) -> dict[str, Any]:
    """The status of a job, for programs."""
    reason, _, _ = str(details.get("message") or "").partition("\n")
    return {
        "name": stored.name,
        "cluster": stored.cluster,
        "engine": stored.engine,
        "state": details["status"],
        "exit_code": details.get("driver_exit_code"),
        "reason": reason.partition(", last available logs")[0],
        "submission_id": stored.submission_id,
        "job_id": stored.submission_id,
        "jobStatus": details["status"],
        "started": _seconds(details.get("start_time")),
        "ended": _seconds(details.get("end_time")),
    }


def _seconds(milliseconds: float | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000
