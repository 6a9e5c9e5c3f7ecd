"""What a user says about tasks of SkyPilot, and the names and words that follow from it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nemo_run.core.execution.base import Executor, ExecutorMacros, TaskRequest
from nemo_run.core.execution.shared.checks import check_image
from nemo_run.core.images import Image
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager

NODES = """\
num_nodes=$(echo "$SKYPILOT_NODE_IPS" | wc -l)
head_node_ip=$(echo "$SKYPILOT_NODE_IPS" | head -n1)"""


@dataclass(kw_only=True)
class SkypilotOptions(Executor):
    """The options of both SkyPilot executors.

    Where a field takes a list, the first values of all lists make one choice, the second ones another, and so on;
    SkyPilot takes the cheapest that can be had (``any_of``). ``"none"`` in a list leaves that field open.

    Attributes:
        container_image: Image in which the task runs (``image_id``).
        cloud: Cloud or clouds.
        region: Region or regions.
        zone: Zone or zones.
        gpus: Kind of GPU; of several, any one will do.
        gpus_per_node: Number of GPUs on each node.
        cpus: CPUs of each node; a string such as ``"8+"`` is a minimum.
        memory: Memory of each node in GB; a string such as ``"64+"`` is a minimum.
        instance_type: Kind of machine, by the cloud's name for it.
        num_nodes: Number of nodes.
        use_spot: Spot instances.
        disk_size: Disk in GB.
        disk_tier: ``"low"``, ``"medium"``, ``"high"``, ``"ultra"`` or ``"best"``.
        ports: Ports to open: ``("8080", "10022-10040")``.
        file_mounts: Files and folders of this machine, or URLs of buckets, by where they are to be.
        storage_mounts: Buckets by where they are to be, each described as in SkyPilot's YAML.
        cluster_name: Name of the cluster. Tasks with the same name share it, one queued behind the other. By default
            the tasks of an experiment that ask for the same resources do.
        setup: Lines of shell to run on every node before the task.
        autodown: Take the cluster down when its jobs have ended.
        idle_minutes_to_autostop: Minutes without a job after which the cluster is stopped, or taken down.
        torchrun_nproc_per_node: Processes that a launcher starts on each node; by default one for each GPU.
        cluster_config_overrides: Parts of SkyPilot's configuration for this task alone.
        infra: Where to run, in one word: ``"k8s/my-context"``, ``"aws/us-east-1"``.
        network_tier: ``"standard"`` or ``"best"``.
        retry_until_up: Go on trying while no resources are available.
    """

    HEAD_NODE_IP_VAR: ClassVar[str] = "head_node_ip"
    NPROC_PER_NODE_VAR: ClassVar[str] = "SKYPILOT_NUM_GPUS_PER_NODE"
    NUM_NODES_VAR: ClassVar[str] = "num_nodes"
    NODE_RANK_VAR: ClassVar[str] = "SKYPILOT_NODE_RANK"
    HET_GROUP_HOST_VAR: ClassVar[str] = "het_group_host"

    container_image: str | Image | None = None
    cloud: str | list[str] | None = None
    region: str | list[str] | None = None
    zone: str | list[str] | None = None
    gpus: str | list[str] | None = None
    gpus_per_node: int | None = None
    cpus: int | float | str | list[int | float | str] | None = None
    memory: int | float | str | list[int | float | str] | None = None
    instance_type: str | list[str] | None = None
    num_nodes: int = 1
    use_spot: bool | list[bool] | None = None
    disk_size: int | list[int] | None = None
    disk_tier: str | list[str] | None = None
    ports: tuple[str, ...] | None = None
    file_mounts: dict[str, str] | None = None
    storage_mounts: dict[str, dict[str, Any]] | None = None
    cluster_name: str | None = None
    setup: str | None = None
    autodown: bool = False
    idle_minutes_to_autostop: int | None = None
    torchrun_nproc_per_node: int | None = None
    cluster_config_overrides: dict[str, Any] | None = None
    infra: str | None = None
    network_tier: str | None = None
    retry_until_up: bool = False
    packager: Packager = field(default_factory=GitArchivePackager)
    job_name: str = field(init=False, default="")

    @property
    def workdir(self) -> str:
        """Folder, in that of the job, for files of this machine."""
        return str(Path(self.job_dir, "workdir"))

    def check(self) -> None:
        """Check the options; raise :class:`~nemo_run.errors.ExecutorError` if they are invalid."""
        super().check()
        if self.container_image is not None:
            check_image(f"{type(self).__name__}.container_image", self.container_image)

    def nnodes(self) -> int:
        """Return the number of nodes."""
        return self.num_nodes

    def nproc_per_node(self) -> int:
        """Return the processes that a launcher starts on each node."""
        return self.torchrun_nproc_per_node or self.gpus_per_node or 1

    def macro_values(self) -> ExecutorMacros:
        """Return the variables in which a task is told of its nodes."""
        return ExecutorMacros.of(self)

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Note which job the executor is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id


def image_id(image: str) -> str:
    """Return an image as SkyPilot names it; that of a machine stays as it is.

    >>> image_id("nvcr.io/nvidia/nemo:dev"), image_id("ami-0868a20f5a3bf9702")
    ('docker:nvcr.io/nvidia/nemo:dev', 'ami-0868a20f5a3bf9702')
    """
    of_machine = image.startswith(("docker:", "skypilot:", "projects/", "/", "ocid1.")) or image.count(":") > 2
    return image if of_machine or not re.search("[/:]", image) else f"docker:{image}"


def job_name(request: TaskRequest) -> str:
    """Return the name of a job: the same whenever it is asked for, and no other job's."""
    digest = hashlib.sha256(request.directory.encode()).hexdigest()[:8]
    return f"{safe_name(request.experiment_id)[:40]}-{safe_name(request.job_id)[:40]}-{digest}"


def safe_name(name: str) -> str:
    """Return a name as SkyPilot takes it: letters, digits and hyphens, a letter first.

    >>> safe_name("my experiment_1"), safe_name("7b")
    ('my-experiment-1', 'x7b')
    """
    cleaned = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    return cleaned if cleaned[:1].isalpha() else f"x{cleaned}"
