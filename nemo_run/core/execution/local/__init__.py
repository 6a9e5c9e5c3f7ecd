"""The local engine: tasks as processes of this machine, each watched by a small supervisor of its own."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.local import system
from nemo_run.core.execution.local.system import lacks as lacks
from nemo_run.core.execution.shared.findings import Load
from nemo_run.core.execution.shared.units import parse_size
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class LocalExecutor(Executor):
    """Runs tasks on this machine, each in a session of its own.

    Example:
        >>> import nemo_run as run
        >>> run.LocalExecutor(env_vars={"OMP_NUM_THREADS": "1"}, timeout=3600).nnodes()
        1

    Attributes:
        ntasks_per_node: Processes that a launcher such as torchrun starts on each node.
        nodes: Number of nodes that this machine stands for: a launcher starts the processes of all of them.
        working_dir: Folder in which the task runs; by default that of the launching process.
        memory: Limit of the resident memory of all processes of a task, in bytes or as ``"500M"``, ``"2GB"``.
        cpus: CPU cores reserved for the task (its affinity); it waits until so many are free.
        gpus: GPUs reserved for the task, told to it in ``CUDA_VISIBLE_DEVICES``; it waits until so many are free.
        grace: Seconds between the request to end (SIGTERM) and the kill (SIGKILL).
    """

    engine: ClassVar[str] = "local"

    ntasks_per_node: int = 1
    nodes: int = 1
    working_dir: str = ""
    memory: int | str | None = None
    cpus: int | None = None
    gpus: int | None = None
    grace: float = field(default=10.0)

    def nnodes(self) -> int:
        """Return the number of nodes."""
        return self.nodes

    def load(self) -> Load:
        """Return that a task starts at once, unless it waits for cores or GPUs of this machine."""
        if self.cpus or self.gpus:
            return Load(why="it starts when its cores and GPUs are free")
        return Load(start=time.time())

    def nproc_per_node(self) -> int:
        """Return the processes on each node."""
        return self.ntasks_per_node

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense on this machine."""
        super().check()
        parse_size(self.memory)
        if not 0 <= self.grace < math.inf:
            raise ExecutorError(f"LocalExecutor.grace must be a number of seconds, 0 or more, but is {self.grace!r}")
        if self.working_dir and not os.path.isdir(Path(self.working_dir).expanduser()):  # noqa: PTH112  (never raises)
            raise ExecutorError(f"LocalExecutor.working_dir: there is no folder {self.working_dir!r}; create it first")
        for kind, count, there in (("cpus", self.cpus, available_cpus()), ("gpus", self.gpus, available_gpus())):
            if count is not None and not 0 <= count <= len(there):
                raise ExecutorError(
                    f"LocalExecutor.{kind}={count}, but this machine has {len(there)}: it would wait for ever"
                )


def available_cpus() -> list[str]:
    """Return the CPU cores that this process may use."""
    return [str(cpu) for cpu in system.cpus()]


def available_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use: ``CUDA_VISIBLE_DEVICES`` where it is set, else all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus = dict.fromkeys(gpu.strip() for gpu in visible.split(","))
        return [gpu for gpu in gpus if gpu not in ("", "-1", "NoDevFiles")]
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
