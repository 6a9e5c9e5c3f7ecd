"""The options of a task on Kubeflow Trainer."""

from __future__ import annotations

import getpass
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from nemo_run.core.execution.pods.options import PodOptions
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import ExecutorError


@dataclass(kw_only=True)
class KubeflowOptions(PodOptions):
    """The options of :class:`~nemo_run.core.execution.kubeflow.KubeflowExecutor`.

    Attributes:
        runtime_ref: The ClusterTrainingRuntime.
        namespace: Namespace of the TrainJob.
        image: The image; by default that of the runtime.
        data_mover_image: Image of the pod that copies to ``workdir_pvc``; it needs ``sh`` and ``tar``.
        restart_policy: Accepted for compatibility; the runtime decides what happens to a failed pod.
        spec_kwargs: Merged into the specification of the TrainJob.
        workdir_local_path: Folder of this machine whose content is copied to ``code_dir`` on the volume at launch.
        train_job_basename: Beginning of the names of TrainJobs; by default the name of the job.
        start_timeout: Seconds after which a pod whose image cannot be pulled, or whose container cannot be made, has
            failed. A pod that waits for a node goes on waiting.
        keep_job: Leave the TrainJob on the cluster when it has ended.
    """

    engine: ClassVar[str] = "kubeflow"
    needs_image: ClassVar[bool] = False
    may_restart: ClassVar[bool] = True

    packager: Packager = field(default_factory=Packager)
    runtime_ref: str = "torch-distributed"
    namespace: str = "default"
    data_mover_image: str = "alpine:3.19"
    restart_policy: str = "OnFailure"
    spec_kwargs: dict[str, Any] = field(default_factory=dict)
    workdir_local_path: str | None = None
    train_job_basename: str | None = None
    start_timeout: float = 300.0
    keep_job: bool = False

    @property
    def code_dir(self) -> str:
        """Folder on ``workdir_pvc`` for the files of this job, apart from those of other users."""
        parts = [getpass.getuser(), *filter(None, (self.experiment_id, PurePosixPath(self.job_dir).name)), "code"]
        return str(PurePosixPath(self.workdir_pvc_path, *parts))

    def check(self) -> None:
        """Check the options; raise :class:`~nemo_run.errors.ExecutorError` if they are invalid."""
        super().check()
        if self.restricted:
            raise ExecutorError(
                "KubeflowExecutor.restricted: rights of containers are the training runtime's; name one that has them "
                "with runtime_ref=, and give run_as_user= here"
            )
        if self.workdir_local_path and not self.workdir_pvc:
            raise ExecutorError("KubeflowExecutor.workdir_local_path needs a volume to copy to: set workdir_pvc")
        if self.workdir_local_path and not Path(self.workdir_local_path).is_dir():
            raise ExecutorError(f"KubeflowExecutor.workdir_local_path: there is no folder {self.workdir_local_path!r}")
