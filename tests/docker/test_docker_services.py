"""Services that tasks in containers announce are found and reached from here."""

from __future__ import annotations

import pytest

import nemo_run as run
from tests.run.test_services import HOSTS, check_is_reached
from tests.services.docker import IMAGE


@pytest.mark.needs("docker")
@pytest.mark.parametrize("host", HOSTS)
def test_a_service_is_found_and_reached(host: str) -> None:
    check_is_reached(run.DockerExecutor(container_image=IMAGE, packager=run.Packager(), grace=0.5), host)
