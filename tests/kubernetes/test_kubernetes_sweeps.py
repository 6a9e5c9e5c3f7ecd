"""An adaptive sweep with pruning in pods of a real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_run.core.execution.kubernetes import KubernetesExecutor
from tests.adaptive import sweep_and_kill
from tests.services.kubernetes import IMAGE

pytestmark = pytest.mark.needs("kubernetes node")


def test_an_adaptive_sweep_whose_controller_is_killed(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    executor = KubernetesExecutor(
        image=IMAGE, namespace=namespace, grace=2,
        volumes=[{"name": "marks", "hostPath": {"path": str(marks)}}],
        volume_mounts=[{"name": "marks", "mountPath": str(marks)}],
    )  # fmt: skip
    sweep_and_kill(executor, tmp_path, marks / "marks", monkeypatch)
