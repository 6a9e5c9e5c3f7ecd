"""Services that tasks in pods announce are found and reached from here."""

from __future__ import annotations

import pytest

import nemo_run as run
from tests.run.test_services import SERVER, get
from tests.services.kubernetes import IMAGE

pytestmark = pytest.mark.needs("kubernetes node")


@pytest.mark.parametrize("host", ["", "127.0.0.1:", "some-name-of-its-own:"])
def test_a_service_is_found_and_reached(own_namespace: str, host: str) -> None:
    with run.Experiment(
        "services",
        executor=run.KubernetesExecutor(image=IMAGE, namespace=own_namespace, packager=run.Packager(), grace=1),
        clean_mode=True,
    ) as exp:
        exp.add(run.Script(inline=SERVER, env={"HOST": host}), name="serve")
        exp.run(detach=True)
        try:
            with exp.forward("serve", "web", timeout=120) as port:
                assert get(port) == b"serve"
        finally:
            exp.cancel("serve")
