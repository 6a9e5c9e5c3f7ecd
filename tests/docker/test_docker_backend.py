"""The Docker engine: the contract, on a real one."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from nemo_run.core.execution.docker import DockerExecutor
from nemo_run.core.execution.docker.backend import DockerBackend
from nemo_run.core.packaging.base import Packager
from nemo_run.testing import BackendContract
from tests.services.docker import IMAGE, is_podman

pytestmark = pytest.mark.needs("docker")


class TestDockerBackend(BackendContract):
    opens_shells = True

    def make_executor(self, **options: Any) -> DockerExecutor:
        return DockerExecutor(container_image=IMAGE, packager=Packager(), **options)

    @pytest.fixture(autouse=True)
    def _client(self, client: docker.DockerClient) -> None:
        self.client = client

    def test_a_working_directory_that_is_not_there_is_a_failure_that_names_it(self) -> None:
        if not is_podman(self.client):  # which makes it
            super().test_a_working_directory_that_is_not_there_is_a_failure_that_names_it()

    def test_what_was_submitted_while_the_engine_was_asked_is_not_lost(self) -> None:
        handle = self.start("sleep 300")
        assert isinstance(self.backend, DockerBackend)
        assert not self.backend._status(handle, None).state.is_final
