"""The seam between Ray clusters and the engines that they run on.

A :class:`ClusterSpec` is what is wanted.  A :class:`RayEngine` starts it and returns a *record*: plain JSON values,
enough for any later process on this machine to find the cluster, reach it and stop it.  Everything else (names and
records, waiting, jobs and their logs through Ray's own REST API) is the same for all engines and does not belong here.

An engine is found by the ``engine`` name of the executor; one of another package registers under the entry-point group
``nemo_run.ray_engines``.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from nemo_run.errors import ExecutorError

Record = dict[str, Any]
"""What an engine remembers of a cluster; JSON values only, and no secrets."""

DASHBOARD_PORT = 8265
"""By this number a dashboard is meant, wherever a cluster really has it."""

CLIENT_PORT = 10001
"""By this number the server for Ray Client is meant, wherever a cluster really has it."""


class ClusterState(str, enum.Enum):
    """State of a cluster. ``UNKNOWN`` means that the engine was asked and does not know."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether the cluster has ended."""
        return self in (ClusterState.FAILED, ClusterState.STOPPED)

    def __str__(self) -> str:
        return self.value


class ClusterExecutor(Protocol):
    """What the seam asks of an executor; an engine checks that it is one of its own kind."""

    def nnodes(self) -> int:
        """Return the number of nodes."""
        ...


@dataclass(frozen=True)
class ClusterSpec:
    """A cluster that is wanted.

    Attributes:
        name: Its name, unique in the :meth:`RayEngine.place` where it is.
        executor: Where it runs, and how large it is.
        pre_ray_start_commands: Shell commands that every node runs before it starts Ray; Ray sees what they export.
        until_job: Submission id of the one job that the cluster is for, which is submitted once the cluster is ready.
            When that has ended, the engine itself ends the cluster, also when nobody watches, and keeps what
            :meth:`RayEngine.kept` returns.  Empty: the cluster runs until it is stopped.
        resources: Custom resources of all nodes together, beside what Ray finds out for itself.
        object_store_memory: Bytes that objects on all nodes together may use; 0 for a share of the memory.
        idle_timeout: Seconds after which the cluster ends when nothing runs on it; 0 for never.
    """

    name: str
    executor: ClusterExecutor
    pre_ray_start_commands: tuple[str, ...] = ()
    until_job: str = ""
    resources: Mapping[str, int] = field(default_factory=dict)
    object_store_memory: int = 0
    idle_timeout: float = 0.0

    def refuse_sizes(self, instead: str) -> None:
        """Raise where sizes are given that the engine has another way for.

        Raises:
            ExecutorError: They are; the message says what to use instead.
        """
        if self.resources or self.object_store_memory or self.idle_timeout:
            raise ExecutorError(
                f"Ray cluster {self.name!r}: resources, object_store_memory and idle_timeout are not for this engine; "
                f"{instead}"
            )


@dataclass(frozen=True)
class ClusterStatus:
    """What an engine says of a cluster.

    Attributes:
        state: ``READY`` once the dashboard answers and every node has joined.
        reason: What it waits for, or why it failed; empty where there is nothing to add.
        nodes_ready: Nodes that have joined, the head among them.
        nodes_wanted: Nodes that it is to have, the head among them.
        details: What else the engine knows (job id, namespace, …); JSON values.
    """

    state: ClusterState
    reason: str = ""
    nodes_ready: int = 0
    nodes_wanted: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dashboard:
    """Where the REST API of a cluster is reached from here.

    Attributes:
        url: Its base, without a slash at the end: ``{url}/api/jobs/`` lists the jobs.
        headers: To be sent with every request, the handshake of a websocket among them.
        token: Gives a bearer token that is good now, where one is wanted that does not last.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    token: Callable[[], str] | None = None


@dataclass(frozen=True)
class KeptJob:
    """What is left of a job whose cluster has ended.

    Attributes:
        details: The job as Ray's REST API described it last (``status``, ``message``, ``driver_exit_code``, …).
        log: All that its entrypoint wrote.
    """

    details: dict[str, Any]
    log: str


class RayEngine(Protocol):
    """Behaviour of Ray on one engine. Implementations hold no state that a new process would miss.

    A method that cannot reach the engine raises :class:`~nemo_run.errors.EngineUnreachableError`; any other trouble is
    another :class:`~nemo_run.errors.ExecutorError`.  Before a call with a spec, its executor's ``check()`` has passed.
    """

    def place(self, executor: ClusterExecutor) -> str:
        """Return where the clusters of this executor are: names are unique in one place. Pure.

        A namespace with its context, ``user@host``, a workspace; empty for this machine.
        """
        ...

    def describe(self, spec: ClusterSpec) -> str:
        """Return what would be launched, in a form that can be read and copied; secrets masked.

        Pure but for looking at this machine. Whatever is wrong with the spec is found here.
        """
        ...

    def start(self, spec: ClusterSpec) -> Record:
        """Have the engine start a cluster, and return without waiting for it.

        Called when there is no record of a living cluster of that name and :meth:`find` found none, and never twice at
        a time for one name on this machine.  What a failure leaves behind is removed before the error is raised.
        """
        ...

    def find(self, spec: ClusterSpec) -> Record | None:
        """Ask the engine itself for a living cluster of that name, which this machine has no record of.

        ``None`` also where the engine keeps no names.
        """
        ...

    def status(self, record: Record) -> ClusterStatus:
        """Return the state of the cluster. One that is gone is ``STOPPED``, or ``FAILED`` where nobody stopped it.

        :func:`nemo_run.core.ray.jobs_api.alive_nodes` counts the nodes that have joined.
        """
        ...

    def dashboard(self, record: Record) -> AbstractContextManager[Dashboard]:
        """Reach the REST API of a cluster whose head runs: directly, through a tunnel, a forwarded port or a proxy."""
        ...

    def forward(self, record: Record, port: int, target_port: int) -> AbstractContextManager[str]:
        """Make a port of the head reachable as ``127.0.0.1:port`` while the context is open; gives its address.

        Port 0 stands for a free one.  ``DASHBOARD_PORT`` as target means the dashboard, also where that has another
        port; its address may have a path, which is a secret then.

        Raises:
            ExecutorError: The port is in use here; the message names it.
        """
        ...

    def tail(self, record: Record, lines: int) -> str:
        """Return the last lines of the log that best explains why a cluster does not start; empty where none does."""
        ...

    def kept(self, record: Record, job: str) -> KeptJob | None:
        """Return what is left of a job, by its submission id, when the cluster has ended; ``None`` where nothing is."""
        ...

    def stop(self, record: Record) -> None:
        """End what :meth:`start` started, nothing else, and return when it is gone. Ended ones are left as they are."""
        ...


_BUILT_IN = {
    "dgxcloud": "nemo_run.core.execution.dgxcloud.ray:DGXCloudRay",
    "kuberay": "nemo_run.core.execution.kuberay.ray:KubeRay",
    "lepton": "nemo_run.core.execution.lepton.ray:LeptonRay",
    "local": "nemo_run.core.execution.local.ray:LocalRay",
    "ray_address": "nemo_run.core.execution.ray_address.ray:RayByAddress",
    "slurm": "nemo_run.core.execution.slurm.ray:RayOnSlurm",
}
_ENTRY_POINTS = "nemo_run.ray_engines"


def get_engine(engine: str) -> RayEngine:
    """Return the Ray engine of an executor, by that one's ``engine`` name.

    Raises:
        ExecutorError: Ray clusters cannot be had on this engine.

    Example:
        >>> type(get_engine("local")).__name__
        'LocalRay'
    """
    from importlib.metadata import entry_points

    others = entry_points(group=_ENTRY_POINTS)
    if engine in _BUILT_IN:
        module, _, name = _BUILT_IN[engine].partition(":")
        factory = getattr(importlib.import_module(module), name)
    elif engine in others.names:
        factory = others[engine].load()
    else:
        known = ", ".join(sorted({*_BUILT_IN, *others.names}))
        raise ExecutorError(
            f"there are no Ray clusters on the engine {engine!r}, only on: {known}. "
            f"A package that brings them registers under the entry-point group {_ENTRY_POINTS!r}"
        )
    return cast("RayEngine", factory())
