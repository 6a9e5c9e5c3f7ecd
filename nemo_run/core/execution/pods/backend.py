"""Base of the backends whose tasks run in pods: ends are read from folders, everything else from the cluster."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

from nemo_run.core.execution.base import Backend, Submission, TaskRequest, one_by_one
from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.pods import attempt as attempts, shipping
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.client import KubernetesClient, Object, default_connection, why_not_usable
from nemo_run.core.execution.pods.objects import NAME, placeholders_of, secret_object
from nemo_run.core.execution.pods.shipping import VolumeClaim
from nemo_run.core.execution.shared.attempt_files import attempt_folder
from nemo_run.core.execution.shared.door import door
from nemo_run.core.execution.shared.log_reader import LogReader
from nemo_run.errors import EngineUnreachableError, ExecutorError, MissingExtraError

A = TypeVar("A", bound=PodHandle)


class PodInputs(NamedTuple):
    """The objects that an attempt needs on the cluster before its pods are created.

    Attributes:
        placeholders: Values of the placeholders in its objects.
        pieces: Without a volume, the Secrets that hold its packages, each with its path in the inbox.
        secrets: These Secrets, and the one with its secret variables.
    """

    placeholders: dict[str, str]
    pieces: list[tuple[str, Object]]
    secrets: list[Object]

    @classmethod
    def of(cls, plan: Plan, attempt: int) -> PodInputs:
        """Return those of an attempt."""
        placeholders, found = placeholders_of(plan, attempt), shipping.contents(plan)
        pieces: list[tuple[str, Object]] = []
        if plan.spec["volume"]:
            placeholders |= shipping.paths_on(VolumeClaim.from_json(plan.spec["volume"]), found)
        else:
            pieces = shipping.piece_secrets(plan.spec["namespace"], found)
        secrets = [secret for _, secret in pieces]
        if plan.spec["secrets"]:
            secrets.append(secret_object(plan, placeholders, plan.spec["secrets"]))
        return cls(placeholders, pieces, secrets)


@contextlib.contextmanager
def refusals_naming(job_id: str) -> Iterator[None]:
    """Yield the name a job in the error with which the cluster refuses it."""
    try:
        yield
    except (EngineUnreachableError, MissingExtraError):
        raise
    except ExecutorError as e:
        raise ExecutorError(f"job {job_id!r}: {e}") from e


@door("Kubernetes")
class PodBackend(Backend, Generic[A]):
    """The part of a backend that does not depend on what creates the pods."""

    kind_of_attempt: type[A]
    what_makes_pods: ClassVar[str]
    """The kind of its objects, for messages."""

    def __init__(self, **connection: str) -> None:
        """Keep how to connect; nothing is asked for yet."""
        self._client = KubernetesClient(connection or default_connection())
        self._sent: set[tuple[str, str]] = set()  # Secrets that are on the cluster

    @staticmethod
    def why_not_usable() -> str:
        """Return why no pod can be made: the client is not installed, or no cluster is named; empty if one can."""
        return why_not_usable()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # describing and submitting

    def render(self, requests: Sequence[TaskRequest]) -> list[Plan]:
        """Describe tasks, each for itself."""
        return [self._render(request) for request in requests]

    def run_beside(self, plan: Plan, handle: str, argv: Sequence[str], rank: int = 0) -> int:
        """Run a program in the pod of a task, or of one of its processes."""
        from nemo_run.core.execution.pods.shell import run_inside

        this = self.kind_of_attempt.parse(handle)
        node = rank // max(int(self.environment(plan).get("NPROC_PER_NODE", "1")), 1)
        for pod in self._client.pods(this.namespace, this.selector):
            if this.node_of(pod) == node and pod["status"].get("phase") == "Running":
                return run_inside(self._client, this.namespace, pod["metadata"]["name"], this.container, argv)
        raise ExecutorError(f"job {plan.job_id!r}: no pod of node {node} runs now")

    @abstractmethod
    def _render(self, request: TaskRequest) -> Plan:
        """Describe a task."""

    def submit(self, submissions: Sequence[Submission]) -> list[str | ExecutorError]:
        """Start attempts, one after the other."""
        return one_by_one(submissions, self._start)

    @abstractmethod
    def _start(self, plan: Plan, attempt: int) -> str:
        """Create the objects of an attempt."""

    def expected_handle(self, plan: Plan, attempt: int) -> str:
        """Return the handle that the attempt will have."""
        return self._attempt(plan, attempt).handle

    def _attempt(self, plan: Plan, attempt: int) -> A:
        name = placeholders_of(plan, attempt)[NAME]
        return self.kind_of_attempt(plan.spec["namespace"], name, plan.spec["nodes"], attempt_folder(plan, attempt))

    @contextlib.contextmanager
    def _provided(self, secrets: Sequence[Object]) -> Iterator[None]:
        """Create Secrets; where the cluster refuses one of them, or what follows, none of the new ones is left."""
        new = []
        try:
            for secret in secrets:
                key = (secret["metadata"]["namespace"], secret["metadata"]["name"])
                if key not in self._sent and self._client.provide(secret):
                    new.append(secret)
                self._sent.add(key)
            yield
        except EngineUnreachableError:
            raise
        except Exception:  # an answer that is none, too
            self._sent -= {(secret["metadata"]["namespace"], secret["metadata"]["name"]) for secret in secrets}
            with contextlib.suppress(ExecutorError):
                shipping.discard(self._client, new)
            raise

    # following

    def states(self, handles: Sequence[str]) -> dict[str, TaskStatus]:
        """Return the status of attempts: of those that have ended from their folders, of others from the cluster."""
        found: dict[str, TaskStatus] = {}
        open_: dict[str, list[A]] = {}
        for this in map(self.kind_of_attempt.parse, handles):
            if status := this.journal.recorded():
                found[this.handle] = status
            else:
                open_.setdefault(this.namespace, []).append(this)
        for namespace, those in open_.items():
            found |= self._states_in(namespace, those)
        return {handle: found[handle] for handle in handles}

    @abstractmethod
    def _states_in(self, namespace: str, those: Sequence[A]) -> dict[str, TaskStatus]:
        """Return the status of attempts of one namespace, by their handles."""
        raise NotImplementedError

    def _missing(self, this: PodHandle) -> TaskStatus:
        """Return the status of an attempt that the cluster does not have."""
        if not (this.folder / "submitted").exists():
            return TaskStatus(JobState.UNKNOWN, reason="the cluster has not heard of it")
        if self._exists(this):  # another process has submitted it after the cluster was asked
            return TaskStatus(JobState.SUBMITTED)
        with this.journal.locked():
            return this.journal.recorded() or attempts.record(this, self._lost(this))

    @abstractmethod
    def _exists(self, this: PodHandle) -> bool:
        """Return whether the cluster has an attempt now."""

    def _lost(self, this: PodHandle) -> TaskStatus:
        reason = f"its {self.what_makes_pods} was deleted; how the task ended is not known"
        return TaskStatus(JobState.FAILED, None, reason, lost=True)

    # logs and files

    def ranks(self, handle: str) -> list[int]:
        """Return the ranks that have a log of their own."""
        this = self.kind_of_attempt.parse(handle)
        return list(range(this.nodes)) if this.nodes > 1 else []

    def open_log(self, handle: str, rank: int | None = None, tail: int | None = None) -> LogReader:
        """Return the log of an attempt, or of one node of it."""
        return attempts.open_log(self._client, self.kind_of_attempt.parse(handle), rank, tail)
