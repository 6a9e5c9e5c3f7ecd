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
from nemo_run.run.ray import ends, records
from nemo_run.run.ray.records import StoredCluster, StoredRayJob
from nemo_run.run.ray.waiting import telling

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TAIL = 20  # lines of a log in an error
_SILENCE, _LONGEST_SILENCE = 30.0, 600.0  # seconds without output after which a log is asked for again
_UNREACHABLE = 100.0  # seconds in which a cluster that does not answer has to do so
_REASON = 4  # lines of a message that tell why
SETUP_FAILED = "RUNTIME_ENV_SETUP_FAILURE"
"""Ray's word for a job whose environment could not be made."""

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
        job = self._stored.submission_id
        if (end := ends.details(job)) is not None:
            return end
        found = self._ask(lambda api: api.details(job) or self._not_submitted()) or self._instead()
        if found["status"] in FINAL:
            with contextlib.suppress(ExecutorError):  # how it ended is known; it is asked for again
                ends.write(job, KeptJob(found, self.log()))
        return found

    def status(self) -> dict[str, Any]:
        """Return the same, as :meth:`RayJob.status` returns it."""
        return describe(self._stored, self.details())

    def log(self) -> str:
        """Return all that the job has written until now."""
        text = self._ask(lambda api: api.logs(self._stored.submission_id))
        if text is not None:
            return text
        kept = self._kept()
        return kept.log if kept else ends.log(self._stored.submission_id)

    def shown_log(self) -> str:
        """Return what the job has written; of one that never began, why, as there is nothing else to read."""
        details = self.details()
        text = self.log()
        if details.get("error_type") == SETUP_FAILED and not text.strip():
            return f"{str(details.get('message') or '').rstrip()}\n"
        return text

    # what it writes

    def last_lines(self, lines: int) -> str:
        """Return the last lines of what the job has written."""
        return _last_lines(self.shown_log(), lines)

    def follow(self, lines: int, timeout: float | None = None, patience: float = _UNREACHABLE) -> Iterator[str]:
        """Yield what a job has written and then writes, each character once, however often the connection breaks.

        Args:
            lines: How many lines of what is there already.
            timeout: Seconds in which the job has to begin; without end by default, as environments may take long.
            patience: Seconds in which a cluster that does not answer has to do so.

        Raises:
            EngineUnreachableError: Its cluster has not answered for a while.
            ExecutorError: It has not begun in time.
        """
        self._wait_for_begin(timeout, patience)
        text = self.log()
        yield _last_lines(text or self.shown_log(), lines)
        seen, silence, pauses = len(text), _SILENCE, Pauses(until=time.monotonic() + patience)
        while True:
            before = seen
            try:
                for piece in self._tail(seen, silence):
                    seen += len(piece)
                    yield piece
                details = self.details()
                if seen == before or is_final(details):  # Ray's way to follow fails for what is no UTF-8
                    text = self.log()[seen:]
                    seen += len(text)
                    yield text
                if is_final(details):
                    return
            except EngineUnreachableError as e:
                if pauses.over:
                    raise
                logger.warning("%s; the log goes on when it does", e)
                pauses.sleep()
                continue
            pauses = Pauses(until=time.monotonic() + patience)
            silence = _SILENCE if seen > before else min(2 * silence, _LONGEST_SILENCE)
            pauses.sleep()

    def _wait_for_begin(self, timeout: float | None, patience: float) -> None:
        """Wait until a job runs, or has ended, and tell what it waits for."""
        pauses = Pauses(until=None if timeout is None else time.monotonic() + timeout)
        begun = answered = time.monotonic()
        with telling() as tell:
            while True:
                try:
                    details = self.details()
                    if details["status"] != "PENDING":
                        return
                    answered, words = time.monotonic(), self._waits_for(details)
                except EngineUnreachableError as e:
                    if time.monotonic() > answered + patience:
                        raise
                    words = str(e)
                if pauses.over:
                    raise ExecutorError(
                        f"the Ray job {self._stored.name!r} has not begun within {timeout:g} s: {words}. It goes on; "
                        f"wait longer: nemorun ray logs {self._stored.name} --follow"
                    )
                waited = int((time.monotonic() - begun) / 10) * 10
                tell(f"{words}, for {waited} s" if waited else words)
                pauses.sleep()

    def _waits_for(self, details: dict[str, Any]) -> str:
        """Return in words what a job waits for; with the last line of the setup of its environment, if it has one."""
        words = in_words(describe(self._stored, details))
        if not details.get("runtime_env"):
            return words
        with contextlib.suppress(ExecutorError):
            if line := self._ask(lambda api: api.setup_words()):
                return f"{words} ({line})"
        return words

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
        log: list[str] = []
        with contextlib.suppress(ExecutorError):  # how it ended is what matters
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
        if status.state is ClusterState.STOPPING:
            return {"status": "RUNNING", "message": f"its cluster is {status.state}{why}"}
        if not status.state.is_final:
            return {"status": "PENDING", "message": f"its cluster is {status.state}{why}"}
        return {"status": UNKNOWN, "message": f"its cluster is {status.state} and has left nothing of it{why}"}

    def _kept(self) -> KeptJob | None:
        return self._engine.kept(self._stored.record, self._stored.submission_id)


def stop_cluster(stored: StoredCluster) -> None:
    """End a cluster; how the jobs there ended that were submitted from this machine is written down first."""
    jobs = [job for job in records.read_all(StoredRayJob) if job.record == stored.record]
    for job in jobs:
        if ends.details(job.submission_id) is None:
            with contextlib.suppress(ExecutorError), WatchedJob(job) as watched:
                watched.details()
    get_engine(stored.engine).stop(stored.record)


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
    message = str(details.get("message") or "")
    reason, _, _ = message.partition("\n")
    if details.get("error_type") == SETUP_FAILED:
        reason = "\n".join([reason, *_why_no_environment(message)])
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


def _why_no_environment(message: str) -> list[str]:
    r"""Return the lines of Ray's message that tell why an environment could not be made: what failed said them last.

    >>> _why_no_environment("setup failed:\nTraceback\n  File x\npip failed\n    Looking in\n    ERROR: no such\n")
    ['pip failed', 'Looking in', 'ERROR: no such']
    """
    lines = [line.strip() for line in message.splitlines()[1:] if line.strip()]
    return [line for line in lines if not line.startswith(("File ", "Traceback", "^"))][-_REASON:]


def _seconds(milliseconds: float | None) -> float | None:
    return None if not milliseconds else milliseconds / 1000


def _last_lines(text: str, lines: int) -> str:
    r"""Return the last lines of a text.

    >>> _last_lines("a\nb\nc\n", 2)
    'b\nc\n'
    """
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""
