"""The options of pods that all engines on Kubernetes have."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nemo_run.config.home import RUNDIR_NAME
from nemo_run.core.execution.base import Executor, ExecutorMacros
from nemo_run.core.execution.pods.client import default_connection
from nemo_run.core.execution.pods.quantities import check_amount, check_amounts
from nemo_run.core.execution.shared.checks import check_image
from nemo_run.core.images import Image
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.git import GitArchivePackager
from nemo_run.errors import ExecutorError

RUN_FOLDER = f"/{RUNDIR_NAME}"
"""Folder of a pod in which the task's files are."""

_JSON_FIELDS = (
    "volumes", "volume_mounts", "tolerations", "affinity", "env_list", "pod_spec_overrides", "container_kwargs",
    "labels", "annotations", "pod_labels", "pod_annotations",
)  # fmt: skip


@dataclass(kw_only=True)
class PodOptions(Executor):
    """The options of the pods of a task.

    Attributes:
        image: The image. It needs ``sh`` and ``tar``, and for functions and Python scripts Python 3.9 or newer.
        num_nodes: Pods over which one task spans.
        nprocs_per_node: Processes that a launcher such as torchrun starts in each pod; by default one for each GPU.
        gpus_per_node: GPUs of each pod.
        cpu_requests: CPU that is reserved for each pod, e.g. ``"500m"`` or ``"8"``.
        memory_requests: Memory that is reserved for each pod, e.g. ``"64Gi"``.
        cpu_limits: CPU that each pod may use.
        memory_limits: Memory that each pod may use; a task that needs more is killed.
        extra_resource_requests: Further resources that are reserved.
        extra_resource_limits: Further limits.
        volume_mounts: Where volumes are mounted, in the form of Kubernetes.
        volumes: Volumes of the pod, in the form of Kubernetes.
        labels: Labels of the job.
        annotations: Annotations of the job.
        pod_annotations: Annotations of the pods.
        pod_labels: Labels of the pods.
        tolerations: Taints that do not matter, in the form of Kubernetes.
        affinity: Where the pods should run, in the form of Kubernetes.
        env_list: Environment variables in the form of Kubernetes, e.g. from a Secret or from a field of the pod.
        pod_spec_overrides: Merged into the specification of the pods.
        image_pull_secrets: Names of the Secrets with which the image is pulled.
        container_kwargs: Merged into the container of the task.
        workdir_pvc: Volume claim through which code and files of any size reach the pods, and artifacts come back.
        workdir_pvc_path: Path at which it is mounted.
        data_mover_image: Image of the pod that copies to that volume and from it; by default the task's own.
        gpu_resource_name: Name of the resource that is a GPU.
        node_selector: Labels that nodes must have.
        service_account: Service account of the pods.
        priority_class: Class of their priority.
        shm_size: Size of ``/dev/shm``, e.g. ``"16Gi"``.
        working_dir: Working directory in the container; that of the image by default.
        grace: Seconds between SIGTERM and SIGKILL when pods are ended.
        restricted: Run all pods as the restricted Pod Security Standard wants: not as root, without any capability or
            further rights, and with the runtime's filter of system calls.
        run_as_user: User of all containers; by default that of the image, or 1000 where ``restricted``.
        run_as_group: Group of all containers.
        fs_group: Group that may write to the volumes; by default the group or user where ``restricted``.
        gpu_type: GPU that nodes must have, as their label says it, e.g. ``"NVIDIA-H100-80GB-HBM3"``.
        gpu_type_label: The label; by default that of NVIDIA's feature discovery.
        context: Context of the kubeconfig; by default the current one, or the cluster that this process runs in.
        kubeconfig: The kubeconfig; by default ``$KUBECONFIG`` or ``~/.kube/config``.
    """

    needs_image: ClassVar[bool] = True
    may_restart: ClassVar[bool] = False
    """Whether a pod may be started again within an attempt."""

    namespace: str | None = None
    image: str | Image = ""
    num_nodes: int = 1
    nprocs_per_node: int | None = None
    gpus_per_node: int | None = None
    cpu_requests: str | None = None
    memory_requests: str | None = None
    cpu_limits: str | None = None
    memory_limits: str | None = None
    extra_resource_requests: dict[str, str] = field(default_factory=dict)
    extra_resource_limits: dict[str, str] = field(default_factory=dict)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    pod_annotations: dict[str, Any] = field(default_factory=dict)
    pod_labels: dict[str, Any] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    affinity: dict[str, Any] = field(default_factory=dict)
    env_list: list[dict[str, Any]] = field(default_factory=list)
    pod_spec_overrides: dict[str, Any] = field(default_factory=dict)
    image_pull_secrets: list[str] = field(default_factory=list)
    container_kwargs: dict[str, Any] = field(default_factory=dict)
    workdir_pvc: str | None = None
    workdir_pvc_path: str = RUN_FOLDER
    data_mover_image: str = ""
    restricted: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    gpu_type: str | None = None
    gpu_type_label: str = "nvidia.com/gpu.product"
    context: str | None = None
    kubeconfig: str | None = None
    gpu_resource_name: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    service_account: str | None = None
    priority_class: str | None = None
    shm_size: str | None = None
    working_dir: str = ""
    grace: int = 30
    packager: Packager = field(default_factory=GitArchivePackager)

    def connection(self) -> dict[str, str]:
        """Return how to reach the cluster; see :func:`~nemo_run.core.execution.pods.client.default_connection`."""
        return default_connection(self.context, self.kubeconfig)

    def nnodes(self) -> int:
        """Return the number of pods over which a task spans."""
        return self.num_nodes

    def nproc_per_node(self) -> int:
        """Return the number of processes in each pod."""
        return self.nprocs_per_node or self.gpus_per_node or 1

    def macro_values(self) -> ExecutorMacros:
        """Return the names of the variables through which a pod finds the others."""
        return ExecutorMacros(
            head_node_ip_var="MASTER_ADDR",
            nproc_per_node_var="NPROC_PER_NODE",
            num_nodes_var="NNODES",
            node_rank_var="NODE_RANK",
            het_group_host_var="het_group_host",
        )

    def check(self) -> None:
        """Check the options; raise :class:`~nemo_run.errors.ExecutorError` if they are invalid."""
        super().check()
        where = type(self).__name__
        if self.image or self.needs_image:
            check_image(f"{where}.image", self.image)
        for name in ("num_nodes", "nprocs_per_node"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ExecutorError(f"{where}.{name} must be 1 or more, but is {getattr(self, name)}")
        if not self.workdir_pvc_path.startswith("/"):
            raise ExecutorError(f"{where}.workdir_pvc_path: {self.workdir_pvc_path!r} must begin with '/'")
        self._check_json(where)
        self._check_mounts(where)
        self._check_amounts(where)
        if self.restricted and self.run_as_user == 0:
            raise ExecutorError(f"{where}.run_as_user=0 is root, which restricted=True excludes; give another user")

    def _check_amounts(self, where: str) -> None:
        requests = {"cpu": self.cpu_requests, "memory": self.memory_requests, **self.extra_resource_requests}
        limits = {"cpu": self.cpu_limits, "memory": self.memory_limits, **self.extra_resource_limits}
        check_amounts(where, requests, limits)
        check_amount(f"{where}.shm_size", "memory", self.shm_size)

    def _check_json(self, where: str) -> None:
        for name in _JSON_FIELDS:
            try:
                json.dumps(getattr(self, name))
            except (TypeError, ValueError) as e:
                raise ExecutorError(f"{where}.{name} must be values that JSON can hold: {e}") from None

    def _check_mounts(self, where: str) -> None:
        mounted = {volume.get("name") for volume in self.volumes}
        for mount in self.volume_mounts:
            if mount.get("name") not in mounted:
                raise ExecutorError(f"{where}.volume_mounts: there is no volume {mount.get('name')!r} in volumes")
