"""The Docker engine, and what speaks its language, such as Podman: every attempt of a task is one container.

The engine watches over the containers, so nothing of ours has to stay: any process finds a container again by its name.
The first process that sees the end of a container writes it into the folder of the attempt, and removes the container.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.docker.client import default_connection
from nemo_run.core.execution.docker.options import DEFAULT_NETWORK, OURS, port_bindings, ulimit
from nemo_run.core.execution.shared.checks import check_image, check_json
from nemo_run.core.execution.shared.units import parse_size
from nemo_run.core.images import Image
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class DockerExecutor(Executor):
    """Runs each task in a container of its own, on the Docker engine of this machine or on Podman.

    The image needs a shell, or for functions and Python scripts just Python 3.9 or newer. The job's folder is
    ``/nemo_run`` there; the packaged code is in ``/nemo_run/code``, where the task runs.

    Example:
        >>> import nemo_run as run
        >>> executor = run.DockerExecutor(
        ...     container_image="pytorch/pytorch", num_gpus=1, volumes=["/data:/data"], ports=["8080:8080"]
        ... )
        >>> executor.nnodes()
        1

    Attributes:
        container_image: The image; an :class:`~nemo_run.Image` is built before the launch.
        ntasks_per_node: Processes that a launcher such as torchrun starts in the container.
        nodes: Containers over which a launcher such as torchrun spans: the tasks of a group of so many.
        runtime: Runtime of the container, e.g. ``"nvidia"``.
        num_gpus: Number of GPUs; -1 for all.
        gpu_devices: GPUs by their ids, such as ``"0"``, ``"GPU-3a23c669…"`` or ``"MIG-…"``, or by the names that the
            Container Device Interface has for them, such as ``"nvidia.com/gpu=0"``.
        shm_size: Size of ``/dev/shm``, e.g. ``"16g"``.
        ulimits: Limits such as ``"nofile=1024:2048"`` or ``"memlock=-1"``.
        ipc_mode: IPC namespace, e.g. ``"host"``.
        healthcheck: Health check, as the Docker SDK takes it.
        privileged: Give the container all rights on this machine.
        network: Network of the container, made if it is not there. By default, single tasks share ``nemo_run``, and
            every job group has a network of its own, in which the members are ``<job>-0``, ``<job>-1``, …
        additional_kwargs: Further arguments of ``containers.run`` of the Docker SDK.
        volumes: Folders of this machine, or named volumes, as ``"source:target"`` or ``"source:target:ro"``.
        ports: Ports, that of this machine first: ``"8080:80"``, ``"127.0.0.1:8080:80"``, ``"53:53/udp"``.
        memory: Limit of the memory, in bytes or as ``"500M"``, ``"2GB"``; a task over it is killed.
        cpus: Limit of CPU time, in cores.
        pids: Limit of the number of processes.
        user: User in the container, e.g. ``"1000:1000"``; by default that of the image.
        working_dir: Working directory in the container; a relative one starts at the packaged code.
        pull: When to pull the image: ``"missing"``, ``"always"`` or ``"never"``.
        keep_container: Leave the container on the engine when it has ended.
        grace: Seconds between the request to end (SIGTERM) and the kill (SIGKILL).
        docker_host: The engine, e.g. ``"unix:///run/podman/podman.sock"``; by default what ``docker`` itself would use.
    """

    engine: ClassVar[str] = "docker"

    container_image: str | Image
    ntasks_per_node: int = 1
    runtime: str | None = None
    num_gpus: int | None = None
    shm_size: str | None = None
    ulimits: list[str] = field(default_factory=list)
    ipc_mode: str | None = None
    healthcheck: dict[str, Any] = field(default_factory=dict)
    privileged: bool = False
    network: str = DEFAULT_NETWORK
    additional_kwargs: dict[str, Any] = field(default_factory=dict)
    volumes: list[str] = field(default_factory=list)
    packager: Packager = field(default_factory=GitArchivePackager)
    job_name: str = field(init=False, default="nemo-job")
    run_as_group: bool = field(init=False, default=False)
    resource_group: list[DockerExecutor] = field(init=False, default_factory=list)
    ports: list[str] = field(default_factory=list)
    memory: int | str | None = None
    cpus: float | None = None
    pids: int | None = None
    user: str | None = None
    working_dir: str = ""
    nodes: int = 1
    pull: str = "missing"
    keep_container: bool = False
    grace: float = 10.0
    docker_host: str | None = None
    gpu_devices: list[str] = field(default_factory=list)

    @classmethod
    def merge(cls, executors: list[DockerExecutor], num_tasks: int) -> DockerExecutor:
        """Return the first executor, which knows those of all tasks of a group.

        Args:
            executors: One for all tasks, or one for each.
            num_tasks: Number of tasks.
        """
        if len(executors) not in (1, num_tasks):
            raise ExecutorError(f"{len(executors)} executors for {num_tasks} tasks: give one for all, or one for each")
        first, *others = executors
        first.resource_group = [first, *(others or (deepcopy(first) for _ in range(num_tasks - 1)))]
        first.run_as_group = True
        return first

    def connection(self) -> dict[str, Any]:
        """Return how the engine is reached."""
        return default_connection(self.docker_host)

    def nnodes(self) -> int:
        """Return the number of containers that one launcher spans."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Return the processes in each container."""
        return self.ntasks_per_node

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Tell the executor which job it is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        check_image("DockerExecutor.container_image", self.container_image, pulled=self.pull == "always")
        if self.pull not in ("missing", "always", "never"):
            raise ExecutorError(f"DockerExecutor.pull={self.pull!r}; it is 'missing', 'always' or 'never'")
        parse_size(self.memory)
        if self.num_gpus and self.gpu_devices:
            raise ExecutorError("DockerExecutor: give num_gpus, or which ones with gpu_devices; not both")
        for limit in self.ulimits:
            ulimit(limit)
        port_bindings(self.ports)
        for volume in self.volumes:
            if not isinstance(volume, str) or not 2 <= len(volume.split(":")) <= 3:
                raise ExecutorError(f"DockerExecutor.volumes: {volume!r} is not of the form 'source:target[:ro]'")
        ours = sorted(set(self.additional_kwargs) & set(OURS))
        if ours:
            raise ExecutorError(f"DockerExecutor.additional_kwargs: {', '.join(ours)} cannot be given here")
        check_json("DockerExecutor.additional_kwargs", self.additional_kwargs)
