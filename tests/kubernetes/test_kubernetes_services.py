"""Services that tasks in pods announce are found and reached from here."""

from __future__ import annotations

import pytest

import nemo_run as run
from tests.run.test_services import HOSTS, check_is_reached
from tests.services.kubernetes import IMAGE


@pytest.mark.needs("kubernetes node")
@pytest.mark.parametrize("host", HOSTS)
def test_a_service_is_found_and_reached(own_namespace: str, host: str) -> None:
    check_is_reached(
        run.KubernetesExecutor(image=IMAGE, namespace=own_namespace, packager=run.Packager(), grace=1), host
    )
