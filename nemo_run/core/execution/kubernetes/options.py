"""The options of a task on plain Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nemo_run.core.execution.pods.options import PodOptions


@dataclass(kw_only=True)
class KubernetesOptions(PodOptions):
    """The options of :class:`~nemo_run.core.execution.kubernetes.KubernetesExecutor`.

    Attributes:
        namespace: Namespace; by default that of the context.
        gpu_resource_name: Resource that stands for a GPU.
        node_selector: Labels of nodes on which pods may run.
        service_account: Account of the pods.
        priority_class: Priority class of the pods.
        shm_size: Size of ``/dev/shm``, e.g. ``"16Gi"``.
        working_dir: Working directory in the pod; a relative one starts at the packaged code.
        grace: Seconds between the request to end (SIGTERM) and the kill (SIGKILL).
        start_timeout: Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, has
            failed. A pod that waits for a node goes on waiting.
        ttl_seconds_after_finished: Seconds after which the cluster deletes a Job that has ended.
        queue: Queue that the task waits in: a LocalQueue of Kueue, or a Queue of Volcano, whichever the cluster has.
        keep_job: Leave the Job on the cluster when it has ended, until that time.
    """

    engine: ClassVar[str] = "kubernetes"

    start_timeout: float = 300.0
    ttl_seconds_after_finished: int = 7 * 24 * 3600
    keep_job: bool = False
    queue: str | None = None
