"""An adaptive sweep with pruning on a real Docker engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_run.core.execution.docker import DockerExecutor
from tests.adaptive import sweep_and_kill
from tests.services.docker import IMAGE

pytestmark = pytest.mark.needs("docker")


def test_an_adaptive_sweep_whose_controller_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    executor = DockerExecutor(container_image=IMAGE, volumes=[f"{marks}:{marks}"])
    sweep_and_kill(executor, tmp_path, marks / "marks", monkeypatch)
