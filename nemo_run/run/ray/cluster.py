"""Ray clusters, as users hold them."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nemo_run.config.escaping import escaped
from nemo_run.core import extras
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.core.execution.shared.units import parse_size
from nemo_run.core.ray.engine import (
    CLIENT_PORT,
    DASHBOARD_PORT,
    ClusterSpec,
    ClusterState,
    ClusterStatus,
    RayEngine,
    get_engine,
)
from nemo_run.errors import EngineUnreachableError, ExecutorError
from nemo_run.run.catalog import check_title
from nemo_run.run.ray import connecting, records
from nemo_run.run.ray.records import StoredCluster
from nemo_run.run.ray.waiting import telling
from nemo_run.run.ray.watching import stop_cluster

logger = logging.getLogger(__name__)

_ENDING = 180.0  # seconds in which a cluster that is stopped ends
_TAIL = 30  # lines of a log in an error


@dataclass
class RayCluster:
    """A Ray cluster by its name: it goes on when this process ends, and is found again from another one.

    Example:
        >>> import nemo_run as run
        >>> from nemo_run.run.ray import RayCluster
        >>> cluster = RayCluster(name="laptop", executor=run.LocalExecutor(nodes=2))
        >>> cluster.status(display=False)["state"]
        'unknown'

    Attributes:
        name: Its name, unique where the executor has it run.
        executor: Where it runs, and how large it is.
        log_level: Least level of the messages that are logged.
    """

    name: str
    executor: Executor
    log_level: str = "INFO"
    _addresses: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _forwards: dict[int, contextlib.ExitStack] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_title(self.name)
        set_log_level(self.log_level)

    # starting

    def start(
        self,
        wait_until_ready: bool = True,
        timeout: int = 1000,
        dryrun: bool = False,
        pre_ray_start_commands: list[str] | None = None,
        *,
        resources: Mapping[str, int] | None = None,
        object_store_memory: int | str | None = None,
        idle_timeout: float | None = None,
    ) -> None:
        """Start the cluster, unless one of that name is running.

        Args:
            wait_until_ready: Wait until all nodes have joined and jobs are accepted.
            timeout: Seconds to wait.
            dryrun: Only show what would be launched.
            pre_ray_start_commands: Shell commands that each node runs before it starts Ray.
            resources: Custom resources of all nodes together, on this machine and on Slurm.
            object_store_memory: Memory for objects of all nodes together, in bytes or as ``"4GB"``, there too.
            idle_timeout: Seconds after which it ends when nothing runs on it, there too; by default it never does.

        Raises:
            ExecutorError: It cannot be started, or is not ready in time; the message says what it waited for, with the
                end of its log. In the second case it goes on.
        """
        spec = ClusterSpec(
            self.name,
            self.executor,
            tuple(pre_ray_start_commands or ()),
            resources=_whole(resources or {}),
            object_store_memory=parse_size(object_store_memory) or 0,
            idle_timeout=idle_timeout or 0.0,
        )
        if dryrun:
            print(self.describe(spec))  # noqa: T201  what was asked for
            return
        began = time.time()
        stored = self.launch(spec)
        if not wait_until_ready:
            return
        try:
            self.wait_until_ready(stored, timeout)
        except ExecutorError:
            if stored.created >= began or not self._engine.status(stored.record).state.is_final:
                raise
            logger.info("the Ray cluster %r, which ran already, has just ended", self.name)
            self.wait_until_ready(self.launch(spec), timeout)

    def describe(self, spec: ClusterSpec) -> str:
        """Return what would be launched."""
        self.executor.check()
        return self._engine.describe(spec)

    def launch(self, spec: ClusterSpec, *, new: bool = False) -> StoredCluster:
        """Start a cluster, or find the one of that name that is running; does not wait for it.

        Args:
            spec: The cluster.
            new: One that is running will not do.
        """
        self.describe(spec)  # finds what is wrong
        with records.starting(self.executor.engine, self._place, self.name):
            found = self.find()
            if found is not None and new:
                raise ExecutorError(
                    f"a Ray cluster {self.name!r} is running already; give the job another name, or run it there: "
                    f"RayJob(…, cluster_name={self.name!r})"
                )
            if found is not None:
                logger.info("the Ray cluster %r runs already%s; it is left as it is", self.name, self._size(found))
                return found
            logger.info("starting the Ray cluster %r", self.name)
            return self._remember(self._engine.start(spec), spec.until_job)

    def find(self) -> StoredCluster | None:
        """Return the living cluster of that name, also one that this machine has no record of."""
        stored = self.stored()
        if stored is not None and not self._wait_while_stopping(stored).state.is_final:
            return stored
        record = self._engine.find(ClusterSpec(self.name, self.executor))
        return None if record is None else self._remember(record)

    def _wait_while_stopping(self, stored: StoredCluster) -> ClusterStatus:
        """Return the status of a cluster; of one that is just ending, how it has ended."""
        pauses = Pauses(until=time.monotonic() + _ENDING)
        with telling() as tell:
            while True:
                status = self._engine.status(stored.record)
                if status.state is not ClusterState.STOPPING or pauses.over:
                    return status
                tell(f"Ray cluster {self.name!r}: {_in_words(status)}")
                pauses.sleep()

    def _size(self, stored: StoredCluster) -> str:
        """Return how large a cluster is, as text; empty where it is not known now."""
        with contextlib.suppress(EngineUnreachableError):
            nodes = self._engine.status(stored.record).nodes_wanted
            return f", with {nodes} node{'s' if nodes > 1 else ''}" if nodes else ""
        return ""

    def stored(self) -> StoredCluster | None:
        """Return what is remembered of the cluster of that name that was started last."""
        return records.read(StoredCluster, self.executor.engine, self._place, self.name)

    def _remember(self, record: dict[str, Any], until_job: str = "") -> StoredCluster:
        stored = StoredCluster(self.name, self.executor.engine, self._place, record, time.time(), until_job)
        records.write(stored)
        return stored

    @property
    def _engine(self) -> RayEngine:
        return get_engine(self.executor.engine)

    @property
    def _place(self) -> str:
        return self._engine.place(self.executor)

    def wait_until_ready(self, stored: StoredCluster, timeout: float) -> None:
        """Wait until all nodes have joined and jobs are accepted.

        Raises:
            ExecutorError: It failed, ended, or is not ready in time.
        """
        engine, pauses = self._engine, Pauses(until=time.monotonic() + timeout)
        with telling() as tell:
            while True:
                try:
                    status = engine.status(stored.record)
                except EngineUnreachableError as e:
                    status = ClusterStatus(ClusterState.STARTING, str(e))
                if status.state is ClusterState.READY:
                    logger.info("the Ray cluster %r is ready", self.name)
                    return
                if status.state.is_final or pauses.over:
                    break
                tell(f"Ray cluster {self.name!r}: {_in_words(status)}")
                pauses.sleep()
        raise ExecutorError(self._not_ready(engine, stored, status, timeout))

    def _not_ready(self, engine: RayEngine, stored: StoredCluster, status: ClusterStatus, timeout: float) -> str:
        if status.state.is_final:
            text = f"the Ray cluster {self.name!r} did not come up: {_in_words(status)}"
        else:
            text = (
                f"the Ray cluster {self.name!r} is not ready after {timeout:g} s: {_in_words(status)}. It goes on: "
                f"wait longer (start it again with a larger timeout), or end it: nemorun ray stop {self.name}"
            )
        with contextlib.suppress(ExecutorError):  # what matters is said already
            if tail := engine.tail(stored.record, _TAIL).strip("\n"):
                return "\n".join([text, "last lines of its log:", *(f"  {line}" for line in tail.splitlines())])
        return text

    # looking at it

    def status(self, display: bool = True) -> dict[str, Any]:
        """Return the state of the cluster.

        Args:
            display: Print it, too.

        Returns:
            ``state`` (``unknown``, ``starting``, ``ready``, ``stopping``, ``failed`` or ``stopped``), ``ray_ready``,
            ``reason``, ``nodes_ready``, ``nodes_wanted``, and what else the engine knows.
        """
        stored = self.find() or self.stored()
        if stored is None:
            status = ClusterStatus(ClusterState.UNKNOWN, "no cluster of that name is known here")
        else:
            status = self._engine.status(stored.record)
        if display:
            print(escaped(f"Ray cluster {self.name!r} ({self.executor.info()}): {_in_words(status)}"))  # noqa: T201
        return status_document(self.name, self.executor.engine, status)

    def running(self) -> StoredCluster:
        """Return the living cluster of that name.

        Raises:
            ExecutorError: There is none.
        """
        stored = self.find()
        if stored is None:
            raise ExecutorError(
                f"there is no Ray cluster {self.name!r} that runs; start it first: RayCluster(…).start()"
            )
        return stored

    # reaching it

    def __enter__(self) -> RayCluster:
        """Start the cluster, and wait until it is ready."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the cluster."""
        self.stop()

    @property
    def address(self) -> str:
        """Address for ``ray.init(address=…)`` in this process, which is let in from now on.

        A cluster on this machine is joined directly, one elsewhere through Ray Client and a forwarded port.
        """
        stored = self.running()
        details = self._engine.status(stored.record).details
        with self._engine.dashboard(stored.record) as dashboard:
            headers = dict(dashboard.headers)
        direct = str(details.get("address") or "")
        connecting.let_in(headers, direct)
        if direct:
            return direct
        if CLIENT_PORT not in self._addresses:
            self._addresses[CLIENT_PORT] = self.port_forward(0, CLIENT_PORT).replace("http://", "ray://")
        return self._addresses[CLIENT_PORT]

    def connect(self, **options: Any) -> Any:
        """Connect this process to the cluster: ``ray.init`` with its address.

        Args:
            options: Further arguments of ``ray.init``, such as ``runtime_env``.

        Returns:
            What ``ray.init`` returns.
        """
        ray = extras.load("ray", "ray", "a connection to a Ray cluster")
        return ray.init(address=self.address, **options)

    def port_forward(self, port: int = DASHBOARD_PORT, target_port: int = DASHBOARD_PORT, wait: bool = False) -> str:
        """Make a port of the head, by default that of the dashboard, reachable as ``127.0.0.1:port``.

        Args:
            port: The port here; 0 for a free one.
            target_port: The port of the head; 8265 is the dashboard, also where that has another one.
            wait: Stay until Ctrl-C. Without it the port is forwarded until :meth:`stop`, or the end of this process.

        Returns:
            The address, such as ``http://127.0.0.1:8265``. On some services it has a path, which is a secret then.
        """
        stored = self.running()
        self._close_forward(port)
        stack = contextlib.ExitStack()
        address = stack.enter_context(self._engine.forward(stored.record, port, target_port))
        address = address or f"http://127.0.0.1:{port}"  # an engine of another package may give none
        port = urlsplit(address).port or port
        self._forwards[port] = stack
        atexit.register(self._close_forward, port)
        logger.info("port %d of the Ray cluster %r is here: %s", target_port, self.name, address)
        if wait:
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            self._close_forward(port)
        return address

    def _close_forward(self, port: int) -> None:
        if port in self._forwards:
            self._forwards.pop(port).close()

    # ending it

    def stop(self) -> None:
        """End the cluster, with the jobs that run there; nothing else. One that does not run is left as it is."""
        for port in list(self._forwards):
            self._close_forward(port)
        self._addresses.clear()
        engine, stored = self._engine, self.stored()
        if stored is not None:
            stop_cluster(stored)
        if (record := engine.find(ClusterSpec(self.name, self.executor))) is not None:
            engine.stop(record)
        logger.info("the Ray cluster %r does not run any more", self.name)


def _whole(resources: Mapping[str, int]) -> dict[str, int]:
    for name, amount in resources.items():
        if not isinstance(amount, int) or amount < 0:
            raise ExecutorError(f"resources[{name!r}]={amount!r}: Ray counts in whole numbers what its nodes have")
    return dict(resources)


def status_document(name: str, engine: str, status: ClusterStatus) -> dict[str, Any]:
    """Return the status of a cluster, for programs."""
    known = asdict(status)
    details = known.pop("details")
    ready = status.state is ClusterState.READY
    return {**details, **known, "name": name, "engine": engine, "state": status.state.value, "ray_ready": ready}


def _in_words(status: ClusterStatus) -> str:
    """Return the status of a cluster in one line.

    >>> _in_words(ClusterStatus(ClusterState.STARTING, "the dashboard is started", 1, 2))
    'starting (the dashboard is started), 1 of 2 nodes'
    """
    reason = f" ({status.reason})" if status.reason else ""
    nodes = f", {status.nodes_ready} of {status.nodes_wanted} nodes" if not status.state.is_final else ""
    return f"{status.state}{reason}{nodes if status.nodes_wanted else ''}"


def set_log_level(level: str) -> None:
    """Log what happens to clusters and jobs from this level on."""
    try:
        logging.getLogger(__package__).setLevel(level.upper())
    except (ValueError, AttributeError):
        raise ExecutorError(f"log_level={level!r} is no level; use DEBUG, INFO, WARNING or ERROR") from None
