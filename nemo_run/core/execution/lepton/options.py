"""What a user says about jobs on DGX Cloud Lepton."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.shared.checks import check_at_least, check_image, check_json
from nemo_run.core.execution.shared.service_names import folder_there
from nemo_run.core.images import Image
from nemo_run.errors import ExecutorError

RESERVED = (
    "LEPTON_WORKSPACE_ID",
    "LEPTON_DEPLOYMENT_NAME",
    "LEPTON_JOB_NAME",
    "LEPTON_RESOURCE_ACCELERATOR_TYPE",
    "LEPTON_WORKSPACE_ORIGIN_URL",
)
"""Variables that Lepton sets itself, and lets nobody else set."""


@dataclass(kw_only=True)
class LeptonOptions(Executor):
    """The options of a job on Lepton.

    Attributes:
        container_image: The image.
        nemo_run_dir: Folder in the container, on one of the ``mounts``, below which the folders of all jobs are.
        launched_from_cluster: This machine has the mount at ``nemo_run_dir``, too: files are copied there.
        nodes: Number of replicas, one on each node.
        gpus_per_node: Processes that a launcher such as torchrun starts in each replica; the shape decides on GPUs.
        nprocs_per_node: The same where there are no GPUs.
        shared_memory_size: Size of ``/dev/shm``, in MiB.
        resource_shape: What a replica gets, e.g. ``"gpu.8xh100-sxm"``.
        node_group: Name or id of a node group.
        node_reservation: Id of a reservation of nodes.
        secret_vars: Environment variables, and the names of the Lepton secrets that they get their values from.
        mounts: Storage: ``{"path": on it, "mount_path": in the container, "from": "node-nfs:its-name"}``.
        lepton_job_dir: Set by the experiment: the job's folder in the container.
        image_pull_secrets: Names of the Lepton secrets for the registry of the image.
        custom_spec: Further fields of the job's ``spec``, which go before those made here; ``None`` takes one away.
        pre_launch_commands: Lines of shell that every replica runs before the task; it sees what they export.
        head_resource_shape: The shape of the head of a Ray cluster.
        ray_version: The version of Ray of a Ray cluster.
        can_be_preempted: The job gives up its nodes to one of higher priority.
        can_preempt: The job may take the nodes of one of lower priority.
        queue_priority: Priority in the queue, e.g. ``"mid-4000"``.
        mover_image: Image of the short jobs that move files to and from the mount; needs ``sh``, ``tar``, ``base64``.
        mover_resource_shape: What those jobs get.
    """

    container_image: str | Image
    nemo_run_dir: str
    launched_from_cluster: bool = False
    nodes: int = 1
    gpus_per_node: int = 0
    nprocs_per_node: int = 1
    shared_memory_size: int = 65536
    resource_shape: str = ""
    node_group: str = ""
    node_reservation: str = ""
    secret_vars: dict[str, str] = field(default_factory=dict)
    mounts: list[dict[str, Any]] = field(default_factory=list)
    lepton_job_dir: str = field(init=False, default="")
    image_pull_secrets: list[str] = field(default_factory=list)
    custom_spec: dict[str, Any] = field(default_factory=dict)
    pre_launch_commands: list[str] = field(default_factory=list)
    head_resource_shape: str | None = ""
    ray_version: str | None = None
    can_be_preempted: bool = False
    can_preempt: bool = False
    queue_priority: str | None = None
    mover_image: str = "busybox:1.37.0"
    mover_resource_shape: str = "cpu.small"

    def nnodes(self) -> int:
        """Return the number of replicas."""
        return self.nodes

    def nproc_per_node(self) -> int:
        """Return the processes in each replica: one for each GPU, where there are any."""
        return self.gpus_per_node or self.nprocs_per_node or 1

    def is_on_mount(self) -> bool:
        """Return whether ``nemo_run_dir`` is on one of the mounts, so that what is written there stays."""
        folders = [str(mount.get("mount_path", "")).rstrip("/") for mount in self.mounts]
        return any(f"{self.nemo_run_dir}/".startswith(f"{folder}/") for folder in folders if folder)

    def assign(self, exp_id: str, exp_dir: str, task_id: str, task_dir: str) -> None:
        """Note which job the executor is for."""
        super().assign(exp_id, exp_dir, task_id, task_dir)
        self.job_name = task_id
        self.lepton_job_dir = folder_there(self.nemo_run_dir, get_nemorun_home(), self.job_dir)

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where the options make no sense."""
        super().check()
        check_image("LeptonExecutor.container_image", self.container_image)
        check_at_least("LeptonExecutor.nodes", self.nodes, 1)
        check_at_least("LeptonExecutor.nprocs_per_node", self.nprocs_per_node, 1)
        if not self.nemo_run_dir.startswith("/"):
            raise ExecutorError(f"LeptonExecutor.nemo_run_dir={self.nemo_run_dir!r} must be an absolute path")
        for mount in self.mounts:
            if not isinstance(mount, Mapping) or not {"path", "mount_path"} <= mount.keys():
                raise ExecutorError(
                    f"LeptonExecutor.mounts: {mount!r} must have 'path' and 'mount_path', and 'from', "
                    "e.g. {'path': '/', 'mount_path': '/mnt', 'from': 'node-nfs:shared'}"
                )
        check_json("LeptonExecutor.mounts and custom_spec", [self.mounts, self.custom_spec])
        for name in [*self.env_vars, *self.secret_vars]:
            if name in RESERVED:
                raise ExecutorError(f"LeptonExecutor.env_vars: {name!r} is set by Lepton itself; use another name")
        _check_secrets(self)


def _check_secrets(options: LeptonOptions) -> None:
    for name, secret in options.secret_vars.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)) or not isinstance(secret, str) or not secret:
            raise ExecutorError(
                f"LeptonExecutor.secret_vars: {name!r}: {secret!r} must be a variable and the name of a Lepton secret"
            )
        if name in options.env_vars:
            raise ExecutorError(f"LeptonExecutor.secret_vars: {name!r} is in env_vars, too; give it once")
