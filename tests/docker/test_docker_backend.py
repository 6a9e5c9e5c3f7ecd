"""The Docker engine: the contract, on a real one."""

from __future__ import annotations

from typing import Any

import pytest

from nemo_run.core.execution.docker import DockerExecutor
from nemo_run.core.packaging.base import Packager
from tests.execution.contract import BackendContract
from tests.services.docker import IMAGE

pytestmark = pytest.mark.needs("docker")


class TestDockerBackend(BackendContract):
    def make_executor(self, **options: Any) -> DockerExecutor:
        return DockerExecutor(container_image=IMAGE, packager=Packager(), **options)
