"""Services that tasks in containers announce are found and reached from here."""

from __future__ import annotations

import pytest

import nemo_run as run
from tests.run.test_services import SERVER, get
from tests.services.docker import IMAGE

pytestmark = pytest.mark.needs("docker")


@pytest.mark.parametrize("host", ["", "127.0.0.1:", "some-name-of-its-own:"])
def test_a_service_is_found_and_reached(host: str) -> None:
    with run.Experiment(
        "services",
        executor=run.DockerExecutor(container_image=IMAGE, packager=run.Packager(), grace=0.5),
        clean_mode=True,
    ) as exp:
        exp.add(run.Script(inline=SERVER, env={"HOST": host}), name="serve")
        exp.run(detach=True)
        try:
            with exp.forward("serve", "web", timeout=120) as port:
                assert get(port) == b"serve"
        finally:
            exp.cancel("serve")
