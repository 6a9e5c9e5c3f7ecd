"""TrainJobs without an experiment: for programs that call the methods of an executor themselves."""

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
from nemo_run.core.execution.pods.log import PodLog
from nemo_run.errors import ExecutorError

_TRAIN_JOB = (API_VERSION, KIND)
_PAUSE = 1.0  # seconds between two looks at logs


class KubeflowJobState(Enum):
    """State of a TrainJob."""

    CREATED = "Created"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


OVER = (KubeflowJobState.SUCCEEDED, KubeflowJobState.FAILED)


@contextlib.contextmanager
def connected(executor: KubeflowOptions) -> Iterator[KubernetesClient]:
    """Give a client of the cluster of an executor; close it at the end."""
    with contextlib.closing(KubernetesClient(executor.connection())) as client:
        yield client


def launch(executor: KubeflowOptions, job: Object, *, wait: bool, timeout: float, pause: float) -> KubeflowJobState:
    """Create a TrainJob and, if asked for, wait until it runs or has ended."""
    name = job["metadata"]["name"]
    with connected(executor) as client:
        if client.get(*_TRAIN_JOB, executor.namespace, name):
            raise ExecutorError(f"there is a TrainJob {name!r} in {executor.namespace!r} already; cancel it first")
        client.create(job)
        state, end = KubeflowJobState.CREATED, time.monotonic() + timeout
        while wait and state not in (*OVER, KubeflowJobState.RUNNING):
            if time.monotonic() > end:
                raise ExecutorError(f"TrainJob {name!r} does not run after {timeout:g} s: {state.value}")
            time.sleep(pause)
            state = state_of(client.get(*_TRAIN_JOB, executor.namespace, name)) or KubeflowJobState.UNKNOWN
    return state


def state_of(job: Object | None) -> KubeflowJobState | None:
    """State of a TrainJob; ``None`` where there is none."""
    if job is None:
        return None
    status = job.get("status") or {}
    held = {entry["type"] for entry in status.get("conditions") or [] if entry["status"] == "True"}
    if "Complete" in held:
        return KubeflowJobState.SUCCEEDED
    if "Failed" in held:
        return KubeflowJobState.FAILED
    counts = status.get("jobsStatus") or []
    running = any(entry.get("active", 0) or entry.get("ready", 0) for entry in counts)
    return KubeflowJobState.RUNNING if running else KubeflowJobState.UNKNOWN


def cancel(executor: KubeflowOptions, name: str, *, wait: bool, timeout: float, pause: float) -> bool | None:
    """Delete a TrainJob; whether it and its pods are gone, ``None`` if that was not waited for."""
    with connected(executor) as client:
        there = client.delete(*_TRAIN_JOB, executor.namespace, name)
        if not there or not wait:
            return None
        end = time.monotonic() + timeout
        while client.get(*_TRAIN_JOB, executor.namespace, name) or _pods(client, executor, name):
            if time.monotonic() > end:
                return False
            time.sleep(pause)
    return True


def lines(executor: KubeflowOptions, name: str, *, follow: bool, count: int) -> Iterator[str]:
    """Lines of all pods of a TrainJob: the last ones, or as they come until it has ended."""
    with connected(executor) as client, contextlib.ExitStack() as stack:
        readers: dict[str, PodLog] = {}
        rests: dict[str, bytes] = {}
        while True:
            over = not follow or state_of(client.get(*_TRAIN_JOB, executor.namespace, name)) in (*OVER, None)
            for pod in _pods(client, executor, name):
                if pod not in readers:
                    tail = None if follow else count
                    readers[pod] = PodLog(client, executor.namespace, pod, CONTAINER, tail)
                    stack.callback(readers[pod].close)
            for pod, reader in readers.items():
                data = rests.pop(pod, b"") + b"".join(iter(reader.read, b""))
                *whole, rests[pod] = data.split(b"\n")
                if over and rests[pod]:
                    whole.append(rests[pod])
                yield from (line.decode(errors="replace") for line in whole)
            if over:
                return
            time.sleep(_PAUSE)


def _pods(client: KubernetesClient, executor: KubeflowOptions, name: str) -> list[str]:
    pods = client.pods(executor.namespace, f"jobset.sigs.k8s.io/jobset-name={name}")
    return sorted(pod["metadata"]["name"] for pod in pods)


def write_launch_script(executor: KubeflowOptions, command: list[str], max_retries: int) -> None:
    """Write ``launch.sh`` into the job's folder: the command, with the executor's variables, and tries if it fails."""
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
