"""TrainJobs without an experiment, for programs that call the methods of an executor themselves."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from nemo_run.core.execution.kubeflow.options import KubeflowOptions
from nemo_run.core.execution.kubeflow.train_job import API_VERSION, CONTAINER, KIND
from nemo_run.core.execution.pods.client import KubernetesClient, Object
from nemo_run.core.execution.pods.log import ContainerLog
from nemo_run.core.execution.pods.objects import field_of
from nemo_run.core.execution.shared.pauses import Pauses
from nemo_run.errors import ExecutorError

_TRAIN_JOB = (API_VERSION, KIND)
_PAUSE = 1.0  # seconds between two reads of the logs


class KubeflowJobState(Enum):
    """State of a TrainJob."""

    CREATED = "Created"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


_ENDS = {"Complete": KubeflowJobState.SUCCEEDED, "Failed": KubeflowJobState.FAILED}
OVER = tuple(_ENDS.values())


@contextlib.contextmanager
def connected(executor: KubeflowOptions) -> Iterator[KubernetesClient]:
    """Yield a client of the cluster of an executor, and close it at the end."""
    with contextlib.closing(KubernetesClient(executor.connection())) as client:
        yield client


def create(executor: KubeflowOptions, job: Object) -> KubeflowJobState:
    """Create a TrainJob.

    Raises:
        ExecutorError: There is one of that name.
    """
    name = job["metadata"]["name"]
    with connected(executor) as client:
        if client.get(*_TRAIN_JOB, executor.namespace, name):
            raise ExecutorError(f"there is a TrainJob {name!r} in {executor.namespace!r} already; cancel it first")
        client.create(job)
    return KubeflowJobState.CREATED


def wait_until_running(executor: KubeflowOptions, name: str, timeout: float, pause: float) -> KubeflowJobState:
    """Wait until a TrainJob runs or has ended, and return its state.

    Raises:
        ExecutorError: It does not in time.
    """
    pauses = Pauses(pause, pause, until=time.monotonic() + timeout)
    with connected(executor) as client:
        while True:
            state = state_of(client.get(*_TRAIN_JOB, executor.namespace, name)) or KubeflowJobState.UNKNOWN
            if state in (*OVER, KubeflowJobState.RUNNING):
                return state
            if pauses.over:
                raise ExecutorError(f"TrainJob {name!r} does not run after {timeout:g} s: {state.value}")
            pauses.sleep()


def state_of(job: Object | None) -> KubeflowJobState | None:
    """Return the state of a TrainJob; ``None`` if there is none."""
    if job is None:
        return None
    for condition in field_of(job, "status", "conditions") or []:
        if condition["status"] == "True" and condition["type"] in _ENDS:
            return _ENDS[condition["type"]]
    return KubeflowJobState.RUNNING if _is_active(job) else KubeflowJobState.UNKNOWN


def _is_active(job: Object) -> bool:
    counts = field_of(job, "status", "jobsStatus") or []
    return any(entry.get("active") or entry.get("ready") for entry in counts)


def delete(executor: KubeflowOptions, name: str) -> bool:
    """Delete a TrainJob, and return whether there was one."""
    with connected(executor) as client:
        return client.delete(*_TRAIN_JOB, executor.namespace, name)


def is_gone_within(executor: KubeflowOptions, name: str, timeout: float, pause: float) -> bool:
    """Wait until a TrainJob and its pods are gone, and return whether they are in time."""
    pauses = Pauses(pause, pause, until=time.monotonic() + timeout)
    with connected(executor) as client:
        while client.get(*_TRAIN_JOB, executor.namespace, name) or _pods(client, executor, name):
            if pauses.over:
                return False
            pauses.sleep()
    return True


def last_lines(executor: KubeflowOptions, name: str, count: int) -> Iterator[str]:
    """Yield the last lines of every pod of a TrainJob."""
    with connected(executor) as client:
        for pod in _pods(client, executor, name):
            with contextlib.closing(ContainerLog(client, executor.namespace, pod, CONTAINER, count)) as log:
                *lines, rest = b"".join(iter(log.read, b"")).split(b"\n")
            yield from map(_text, [*lines, rest] if rest else lines)


def follow(executor: KubeflowOptions, name: str) -> Iterator[str]:
    """Yield the lines of all pods of a TrainJob as they come, until it has ended."""
    with connected(executor) as client, contextlib.ExitStack() as stack:
        logs: dict[str, ContainerLog] = {}
        rests: dict[str, bytes] = {}
        over = False
        while not over:
            over = state_of(client.get(*_TRAIN_JOB, executor.namespace, name)) in (*OVER, None)
            for pod in set(_pods(client, executor, name)) - set(logs):
                logs[pod] = stack.enter_context(
                    contextlib.closing(ContainerLog(client, executor.namespace, pod, CONTAINER))
                )
            for pod, log in sorted(logs.items()):
                *lines, rests[pod] = b"".join([rests.get(pod, b""), *iter(log.read, b"")]).split(b"\n")
                yield from map(_text, lines)
            if not over:
                time.sleep(_PAUSE)
        yield from (_text(rest) for rest in rests.values() if rest)


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def _pods(client: KubernetesClient, executor: KubeflowOptions, name: str) -> list[str]:
    pods = client.pods(executor.namespace, f"jobset.sigs.k8s.io/jobset-name={name}")
    return sorted(pod["metadata"]["name"] for pod in pods)


def write_launch_script(executor: KubeflowOptions, command: list[str], max_retries: int) -> None:
    """Write ``launch.sh`` into the job's folder: the command, with the executor's variables and retries."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in executor.env_vars.items()]
    tries = max_retries + 1
    text = "\n".join(
        [
            "#!/bin/bash",
            *exports,
            f"cd {shlex.quote(executor.code_dir)} 2>/dev/null",
            f"for try in $(seq {tries}); do",
            f"  {' '.join(command)} && exit 0",
            "  code=$?",
            "done",
            "exit $code",
            "",
        ]
    )
    executor.create_job_dir()
    path = Path(executor.job_dir, "launch.sh")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
    with os.fdopen(fd, "w") as file:
        file.write(text)
