"""Where the backend of each engine is: the built-in ones, and those that other packages register."""

from __future__ import annotations

import importlib

from nemo_run.errors import ExecutorError

BUILT_IN = {
    "dgxcloud": "nemo_run.core.execution.dgxcloud.backend:DGXCloudBackend",
    "docker": "nemo_run.core.execution.docker.backend:DockerBackend",
    "kubeflow": "nemo_run.core.execution.kubeflow.backend:KubeflowBackend",
    "kubernetes": "nemo_run.core.execution.kubernetes.backend:KubernetesBackend",
    "lepton": "nemo_run.core.execution.lepton.backend:LeptonBackend",
    "local": "nemo_run.core.execution.local.backend:LocalBackend",
    "skypilot": "nemo_run.core.execution.skypilot.backend:SkypilotClusterBackend",
    "skypilot_jobs": "nemo_run.core.execution.skypilot_jobs.backend:SkypilotJobsBackend",
    "slurm": "nemo_run.core.execution.slurm.backend:SlurmBackend",
}
_ENTRY_POINTS = "nemo_run.executors"


def find(engine: str) -> tuple[str, object]:
    """Import what is registered for an engine, and return where it is, and what it is.

    Raises:
        ExecutorError: Nothing is.
    """
    if engine not in BUILT_IN:
        return _of_another_package(engine)
    module, _, name = BUILT_IN[engine].partition(":")
    return BUILT_IN[engine], getattr(importlib.import_module(module), name)


def _of_another_package(engine: str) -> tuple[str, object]:
    from importlib.metadata import entry_points

    points = {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
    if engine in points:
        return points[engine].value, points[engine].load()
    raise ExecutorError(
        f"no engine is called {engine!r}; there are: {', '.join([*sorted(BUILT_IN), *sorted(points)])}. "
        f"A package that brings one registers it under the entry-point group {_ENTRY_POINTS!r}"
    )
