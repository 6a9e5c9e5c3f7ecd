"""The objects of an attempt on its cluster at one moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nemo_run.core.execution.jobs import JobState, TaskStatus
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.client import Object
from nemo_run.core.execution.pods.objects import ATTEMPT_LABEL, KEEP, NODE_LABEL, START_TIMEOUT, field_of
from nemo_run.core.execution.pods.spec import TASK
from nemo_run.core.execution.pods.status import Pod, broken, combined, is_gone, lacks_claim, pod_status, since_scheduled
from nemo_run.core.execution.shared.units import seconds

_QUIET = 5.0  # seconds in which a cluster creates the pod of a Job, and a node makes its containers
_QUOTA = "exceeded quota"
_KILL_TIME = 15.0  # seconds after the grace in which a node has ended a pod


@dataclass(frozen=True)
class Snapshot:
    """The pods and Jobs of an attempt, by the rank of their nodes.

    Attributes:
        attempt: The attempt.
        pods: Its pods.
        jobs: Its Jobs, if they were queried.
    """

    attempt: PodHandle
    pods: Mapping[int, Pod]
    jobs: Mapping[int, Object]

    @property
    def statuses(self) -> dict[int, TaskStatus]:
        """Statuses of its pods."""
        return {rank: pod_status(pod, TASK) for rank, pod in self.pods.items()}

    @property
    def status(self) -> TaskStatus:
        """Status of the attempt, from those of its pods."""
        statuses = self.statuses
        return combined([statuses.get(rank) for rank in range(self.attempt.nodes)])

    def has_ended(self, status: TaskStatus, over: Mapping[int, bool]) -> bool:
        """Return whether every scheduled pod has ended, and the others need not start or are scheduled too.

        Args:
            status: The status of the attempt.
            over: For each pod, whether it has ended.
        """
        if not self.started or not all(over[rank] or self.is_hopeless(rank) for rank in self.started):
            return False
        return len(self.started) == self.attempt.nodes or self.cancelled or status.state is JobState.FAILED

    @property
    def cancelled(self) -> bool:
        """Whether its cancellation was requested."""
        return self.attempt.journal.is_cancelled

    @property
    def deleted(self) -> bool:
        """Whether one of its pods is being deleted, or was, also because its Job is held back again."""
        if any((self.attempt.folder / f"pod-{rank}").exists() for rank in self.suspended):
            return True
        return any(is_gone(pod) or pod["metadata"]["uid"] != self._first(rank, pod) for rank, pod in self.pods.items())

    @property
    def suspended(self) -> dict[int, Object]:
        """Jobs that are held back, as those in a queue are."""
        return {rank: job for rank, job in self.jobs.items() if job["spec"].get("suspend")}

    def _first(self, rank: int, pod: Pod) -> str:
        """Return the identity of the first pod that was observed for a node."""
        file = self.attempt.folder / f"pod-{rank}"
        try:
            return file.read_text()
        except FileNotFoundError:
            file.write_text(pod["metadata"]["uid"])
            return str(pod["metadata"]["uid"])

    @property
    def started(self) -> list[int]:
        """Ranks whose pods are scheduled."""
        return [rank for rank, pod in self.pods.items() if pod["spec"].get("nodeName")]

    @property
    def kept(self) -> bool:
        """Whether its objects stay when it has ended."""
        return any(KEEP in (pod["metadata"].get("annotations") or {}) for pod in self.pods.values())

    def hindrance(self, warning_of: Callable[[str], str]) -> tuple[str, bool]:
        """Return why a pod of the attempt cannot start, and whether its time to start is over; empty if it may.

        Args:
            warning_of: Returns the last warning for the pod or Job of a name.
        """
        for rank in range(self.attempt.nodes):
            reason, since, annotations = self._hindrance(rank, warning_of)
            if reason:
                late = time.time() - since >= float(annotations.get(START_TIMEOUT, 0))
                named = reason if self.attempt.nodes == 1 else f"node {rank}: {reason}"
                return named, late and _QUOTA not in reason  # a quota is waited for, like a node
        return "", False

    def _hindrance(self, rank: int, warning_of: Callable[[str], str]) -> tuple[str, float, Mapping[str, str]]:
        pod, job = self.pods.get(rank), self.jobs.get(rank)
        if pod is not None:
            since, reason = since_scheduled(pod), broken(pod) or lacks_claim(pod)
            if not reason and self._waits_on_node(pod) and time.time() - since > _QUIET:
                reason = warning_of(pod["metadata"]["name"])
            return reason, since, pod["metadata"].get("annotations") or {}
        if job is not None:
            since = seconds(job["metadata"]["creationTimestamp"]) or 0.0
            reason = warning_of(job["metadata"]["name"]) if time.time() - since > _QUIET else ""
            return reason, since, field_of(job, "spec", "template", "metadata", "annotations") or {}
        return "", 0.0, {}

    @staticmethod
    def _waits_on_node(pod: Pod) -> bool:
        return bool(pod["spec"].get("nodeName")) and pod_status(pod, TASK).state is JobState.PENDING

    def note_end_request(self) -> None:
        """Write down when its pods were first requested to end."""
        with contextlib.suppress(FileExistsError):
            (self.attempt.folder / "ending").touch(mode=0o600, exist_ok=False)

    def is_hopeless(self, rank: int) -> bool:
        """Return whether a pod has not ended long after it was requested to, as its node does not answer."""
        try:
            told = (self.attempt.folder / "ending").stat().st_mtime
        except FileNotFoundError:
            return False
        grace = float(self.pods[rank]["spec"].get("terminationGracePeriodSeconds") or 30)
        return time.time() > told + grace + _KILL_TIME


def by_attempt(objects: Iterable[Object]) -> dict[str, dict[int, Object]]:
    """Return pods or Jobs by the name of their attempt and the rank of their node; the oldest of each."""
    found: dict[str, dict[int, Object]] = {}
    for obj in sorted(objects, key=lambda obj: str(obj["metadata"]["creationTimestamp"]), reverse=True):
        labels = obj["metadata"]["labels"]
        found.setdefault(labels[ATTEMPT_LABEL], {})[int(labels[NODE_LABEL])] = obj
    return found
