"""One job on a Ray cluster, looked at from here, while its cluster runs and afterwards."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.ray.engine import ClusterState, KeptJob, get_engine
from nemo_run.core.ray.jobs_api import FINAL, PATIENCE, UNKNOWN, JobsApi
from nemo_run.errors import EngineUnreachableError, ExecutorError, RayJobFailedError
from nemo_run.run.ray.records import StoredRayJob
from nemo_run.run.ray.waiting import telling

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TAIL = 20  # lines of a log in an error
_SILENCE, _LONGEST_SILENCE = 30.0, 600.0  # seconds without output after which a log is asked for again
_ENDING = 120.0  # seconds in which a cluster ends after its job


class WatchedJob:
    """Answers for a job: its cluster is asked while that runs, and then what it has left.

    The way to the cluster stays open from one question to the next, and is opened again where it broke.
    """

    def __init__(self, stored: StoredRayJob) -> None:
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
        """Return what Ray says of the job (``status``, ``message``, ``driver_exit_code``, …).

        Raises:
            EngineUnreachableError: Its cluster does not answer, though it runs.
        """
        found = self._ask(lambda api: api.details(self._stored.submission_id) or self._not_submitted())
        return found or self._instead()

    def status(self) -> dict[str, Any]:
        """Return the same, as :meth:`RayJob.status` returns it."""
        return describe(self._stored, self.details())

    def log(self) -> str:
        """Return all that the job has written until now."""
        text = self._ask(lambda api: api.logs(self._stored.submission_id))
        if text is None:
            kept = self._kept()
            return kept.log if kept else ""
        return text

    # what it writes

    def last_lines(self, lines: int) -> str:
        """Return the last lines of what the job has written."""
        return _last_lines(self.log(), lines)

    def follow(self, lines: int, timeout: float) -> Iterator[str]:
        """Yield what a job has written and then writes, each character once, however often the connection breaks.

        Args:
            lines: How many lines of what is there already.
            timeout: Seconds in which the job has to begin, and in which a cluster that does not answer has to do so.
        """
        seen, silence, pauses = -1, _SILENCE, Pauses(until=time.monotonic() + timeout)
        while True:
            try:
                if seen < 0:
                    text = self.log()
                    yield _last_lines(text, lines)
                    seen = len(text)
                before = seen
                for piece in self._tail(seen, silence):
                    seen += len(piece)
                    yield piece
                details = self.details()
                if is_final(details):
                    yield self.log()[seen:]
                    return
            except EngineUnreachableError as e:
                if pauses.over:
                    raise
                logger.warning("%s; the log goes on when it does", e)
                pauses.sleep()
                continue
            if details["status"] != "PENDING":
                pauses = Pauses(until=time.monotonic() + timeout)
            elif pauses.over:
                why = f"{details['status']} ({details.get('message')})"
                raise ExecutorError(f"the Ray job {self._stored.name!r} has not begun within {timeout:g} s: {why}")
            silence = _SILENCE if seen > before else min(2 * silence, _LONGEST_SILENCE)
            pauses.sleep()

    # its end

    def wait_for_success(self, timeout: float | None) -> dict[str, Any]:
        """Wait for the end of the job.

        Raises:
            RayJobFailedError: It did not succeed.
            ExecutorError: It has not ended in time.
        """
        status = self.wait(timeout)
        if status["state"] == "SUCCEEDED":
            return status
        log = self.last_lines(_TAIL).splitlines()
        raise RayJobFailedError(
            self._stored.name, self._stored.cluster, status["state"], status["exit_code"], status["reason"], log
        )

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end of the job, however it ends.

        Raises:
            ExecutorError: It has not ended in time.
        """
        pauses = Pauses(until=None if timeout is None else time.monotonic() + timeout)
        answered, words = time.monotonic(), ""
        with telling() as tell:
            while True:
                try:
                    status = self.status()
                    answered, words = time.monotonic(), in_words(status)
                    if is_final({"status": status["state"]}):
                        return status
                except EngineUnreachableError as e:
                    if pauses.over or time.monotonic() > answered + PATIENCE:
                        raise
                    words = str(e)
                if pauses.over:
                    raise ExecutorError(f"{words} after {timeout:g} s; it goes on")
                tell(words)
                pauses.sleep()

    def stop(self, *, wait: bool = False) -> None:
        """End the job, and the cluster of its own if it has one. One that has ended is left as it is."""
        details = self.details()
        if self._stored.own_cluster and details["status"] in ("PENDING", UNKNOWN):  # perhaps it is not submitted yet
            self._engine.stop(self._stored.record)
        elif not is_final(details):
            self._ask(lambda api: api.stop(self._stored.submission_id))
        if wait:
            self.wait()
            self.wait_for_own_cluster()

    def wait_for_own_cluster(self) -> None:
        """Wait for the end of the job's own cluster, if it has one; one that does not end by itself is stopped."""
        pauses = Pauses(until=time.monotonic() + _ENDING)
        with telling() as tell:
            while self._stored.own_cluster and not self._engine.status(self._stored.record).state.is_final:
                if pauses.over:
                    self._engine.stop(self._stored.record)
                    return
                tell(f"Ray cluster {self._stored.cluster!r}: its job has ended, and so does it")
                pauses.sleep()

    # asking

    def _tail(self, skip: int, patience: float) -> Iterator[str]:
        """Yield what the job writes, as it comes; end as :meth:`JobsApi.tail` does, at once without a cluster."""
        api = self._reach()
        if api is not None:
            yield from api.tail(self._stored.submission_id, skip, patience)

    def _ask(self, question: Callable[[JobsApi], T]) -> T | None:
        """Ask the cluster; ``None`` where it has ended, or is not ready yet."""
        try:
            api = self._reach()
            return None if api is None else question(api)
        except ExecutorError:
            self.close()
            if self._engine.status(self._stored.record).state is ClusterState.READY:
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
        if self._engine.status(self._stored.record).state.is_final:  # a proxy answers for a cluster that is gone
            self.close()
            return self._instead()
        if time.time() - self._stored.created < PATIENCE:
            return {"status": "PENDING", "message": "it is not submitted yet"}
        return {"status": UNKNOWN, "message": "Ray does not know it; the process that started it was interrupted"}

    def _instead(self) -> dict[str, Any]:
        """Return what is to be said of a job whose cluster cannot be asked."""
        kept = self._kept()
        if kept is not None:
            return kept.details
        status = self._engine.status(self._stored.record)
        why = f": {status.reason}" if status.reason else ""
        if not status.state.is_final:
            return {"status": "PENDING", "message": f"its cluster is {status.state}{why}"}
        return {"status": UNKNOWN, "message": f"its cluster is {status.state} and has left nothing of it{why}"}

    def _kept(self) -> KeptJob | None:
        return self._engine.kept(self._stored.record, self._stored.submission_id)


def is_final(details: dict[str, Any]) -> bool:
    """Check whether a job has ended, or whether that cannot be known any more."""
    return details["status"] in (*FINAL, UNKNOWN)


def in_words(status: dict[str, Any]) -> str:
    """Return the status of a job in one line.

    >>> in_words({"name": "train", "state": "FAILED", "exit_code": 3, "reason": "out of luck"})
    "Ray job 'train': FAILED with exit code 3: out of luck"
    """
    code = "" if status["exit_code"] is None else f" with exit code {status['exit_code']}"
    why = f": {status['reason']}" if status["reason"] else ""
    return f"Ray job {status['name']!r}: {status['state']}{code}{why}"


def describe(stored: StoredRayJob, details: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a job, for programs."""
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


def _last_lines(text: str, lines: int) -> str:
    r"""Return the last lines of a text.

    >>> _last_lines("a\nb\nc\n", 2)
    'b\nc\n'
    """
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""
