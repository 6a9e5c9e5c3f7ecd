"""Ray in pods without an image that has it: they see this machine's Python and packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from nemo_run.core.execution.kuberay import KubeRayExecutor, KubeRayWorkerGroup
from tests.services.kubernetes import IMAGE


def executor(namespace: str, workers: int = 1, **options: Any) -> KubeRayExecutor:
    """Ray clusters small enough for a test."""
    folders = {"usr": "/usr", "base": sys.base_prefix, "env": sys.prefix}
    folders = {name: path for name, path in folders.items() if name == "usr" or not path.startswith("/usr/")}
    small = {"object-store-memory": "100000000", "num-cpus": "1"}
    given: dict[str, Any] = {
        "namespace": namespace,
        "image": IMAGE,
        "head_cpu": "800m",
        "head_memory": "2Gi",
        "ray_head_start_params": small,
        "ray_worker_start_params": small,
        "worker_groups": [KubeRayWorkerGroup("small", replicas=workers, memory_limits="2Gi")] if workers else [],
        "volumes": [{"name": name, "hostPath": {"path": path}} for name, path in folders.items()],
        "volume_mounts": [{"name": name, "mountPath": path, "readOnly": True} for name, path in folders.items()],
        "env_vars": {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RAY_USAGE_STATS_ENABLED": "0"},
        "container_kwargs": {"imagePullPolicy": "IfNotPresent"},
        "spec_kwargs": {"terminationGracePeriodSeconds": 1, "enableServiceLinks": False},
    }
    return KubeRayExecutor(**{**given, **options})
