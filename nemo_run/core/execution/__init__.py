"""Engines, a folder for each, and the seam between them and experiments; executors are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_run.lazy_names import lazy_names

if TYPE_CHECKING:
    from nemo_run.core.execution.dgxcloud import DGXCloudExecutor as DGXCloudExecutor
    from nemo_run.core.execution.docker import DockerExecutor as DockerExecutor
    from nemo_run.core.execution.kubeflow import KubeflowExecutor as KubeflowExecutor
    from nemo_run.core.execution.kuberay import KubeRayExecutor as KubeRayExecutor
    from nemo_run.core.execution.kubernetes import KubernetesExecutor as KubernetesExecutor
    from nemo_run.core.execution.lepton import LeptonExecutor as LeptonExecutor
    from nemo_run.core.execution.local import LocalExecutor as LocalExecutor
    from nemo_run.core.execution.skypilot import SkypilotExecutor as SkypilotExecutor
    from nemo_run.core.execution.skypilot_jobs import SkypilotJobsExecutor as SkypilotJobsExecutor
    from nemo_run.core.execution.slurm import SlurmExecutor as SlurmExecutor

_MODULE_OF = {
    "DGXCloudExecutor": "dgxcloud",
    "DockerExecutor": "docker",
    "KubeRayExecutor": "kuberay",
    "KubeflowExecutor": "kubeflow",
    "KubernetesExecutor": "kubernetes",
    "LeptonExecutor": "lepton",
    "LocalExecutor": "local",
    "SkypilotExecutor": "skypilot",
    "SkypilotJobsExecutor": "skypilot_jobs",
    "SlurmExecutor": "slurm",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604  # all of them are strings

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
