"""The example of containers, on a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.examples import run_readme
from tests.services.docker import IMAGE


@pytest.mark.needs("docker")
def test_the_containers(docker_host: str, tmp_path: Path) -> None:
    run_readme("containers", tmp_path, {"DOCKER_HOST": docker_host, "IMAGE": IMAGE})
