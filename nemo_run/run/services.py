"""Services that tasks have announced: finding them, and connecting to them from this machine.

A task announces a service by a file ``$NEMO_RUN_SERVICES/NAME`` with its address: ``host:port``, or only the port where
it runs on the machine that the engine's way leads to.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nemo_run.core.execution.backends import Backends
from nemo_run.core.execution.base import Backend
from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.core.tunnel.answers import posix
from nemo_run.errors import ExperimentError
from nemo_run.run.progress import current_progress
from nemo_run.run.records import Definition, JobDefinition
from nemo_run.run.store import ExperimentStore

_PAUSE = 0.5  # seconds between two looks for a service that is not there yet
_LIST = """\
cd -- "$1/services" 2>/dev/null || exit 0
for f in *; do [ -s "$f" ] && echo "$f $(head -n 1 "$f")"; done
true"""
_ADDRESS = re.compile(r"(?:(?P<host>[^\s:]+|\[[0-9A-Fa-f:]+\]):)?(?P<port>\d{1,5})\Z")


@dataclass(frozen=True)
class Service:
    """A service as its task has announced it.

    Attributes:
        name: Its name.
        host: Host that it listens on, as it is called where the job runs.
        port: Its port.
    """

    name: str
    host: str
    port: int


def announced(store: ExperimentStore, job: JobDefinition) -> dict[str, Service]:
    """Return the services that the tasks of a job have announced, by their names.

    Raises:
        ExecutorError: The job's engine has no way to its services.
    """
    with Backends() as backends:
        found: dict[str, Service] = {}
        for plan in (store.read_plan(task) for task in job.tasks):
            found |= _announced(backends.of(plan), plan)
        return found


def _announced(backend: Backend, plan: Plan) -> dict[str, Service]:
    tunnel, folder = backend.reach(plan)
    lines = tunnel.execute(posix(_LIST, folder)).decode("utf-8", "replace").splitlines()
    services = (parse(*line.rpartition(" ")[::2]) for line in lines)
    return {service.name: service for service in services if service}


def parse(name: str, address: str) -> Service | None:
    """Return a service from its file; ``None`` where that has no address.

    >>> parse("notebook", "node7:8888")
    Service(name='notebook', host='node7', port=8888)
    """
    match = _ADDRESS.match(address.strip())
    return Service(name, (match["host"] or "localhost").strip("[]"), int(match["port"])) if match else None


@contextlib.contextmanager
def forwarded(
    store: ExperimentStore,
    definition: Definition,
    job_id: str,
    name: str,
    local_port: int | None = None,
    timeout: float | None = None,
) -> Iterator[int]:
    """Forward a port of this machine to a service of a job; the port. Waits until the service is announced.

    Raises:
        ExperimentError: The job has ended, or has not announced it in time.
    """
    job = definition.job(job_id)
    with Backends() as backends:
        plan, service = _find(store, definition, job, name, backends, timeout)
        tunnel, _ = backends.of(plan).reach(plan)
        with tunnel.forward(service.port, service.host, local_port) as port:
            yield port


def run_beside(
    store: ExperimentStore, definition: Definition, job: JobDefinition, argv: Sequence[str], *, rank: int, member: int
) -> int:
    """Run a program, or a shell, where a task of a job runs, and return its exit code.

    Raises:
        ExperimentError: The task does not run, or there is no such task.
    """
    if member >= len(job.tasks):
        raise ExperimentError(f"job {job.id!r} has {len(job.tasks)} tasks; there is no task {member}")
    task = current_progress(store, definition, [job.id])[job.id].tasks[member]
    if task.state is not JobState.RUNNING or not task.handle:
        raise ExperimentError(f"job {job.id!r} does not run: it is {task.state}; a shell is opened where one runs")
    with Backends() as backends:
        plan = store.read_plan(job.tasks[member])
        return backends.of(plan).run_beside(plan, task.handle, argv, rank)


def _find(
    store: ExperimentStore,
    definition: Definition,
    job: JobDefinition,
    name: str,
    backends: Backends,
    timeout: float | None,
) -> tuple[Plan, Service]:
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    plans = [store.read_plan(task) for task in job.tasks]
    while True:
        seen: list[str] = []
        for plan in plans:
            services = _announced(backends.of(plan), plan)
            if name in services and not has_ended(store, definition, job):
                return plan, services[name]
            seen += services
        there = f"; it has announced: {', '.join(seen)}" if seen else ""
        if has_ended(store, definition, job):
            raise ExperimentError(f"job {job.id!r} has ended, so its service {name!r} cannot be reached{there}")
        if time.monotonic() > deadline:
            raise ExperimentError(f"job {job.id!r} has announced no service {name!r} within {timeout:g} s{there}")
        time.sleep(_PAUSE)


def has_ended(store: ExperimentStore, definition: Definition, job: JobDefinition) -> bool:
    """Check whether a job has ended."""
    return current_progress(store, definition, [job.id])[job.id].state.is_final
