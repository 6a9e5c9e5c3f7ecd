"""All kinds of artifacts, from containers of root and of another user."""

from __future__ import annotations

import os

import pytest

import nemo_run as run
from tests import kinds_of_artifacts
from tests.services.docker import IMAGE

pytestmark = pytest.mark.needs("docker")


@pytest.mark.parametrize("user", [None, "1234:1234"])
def test_all_kinds(user: str | None) -> None:
    executor = run.DockerExecutor(container_image=IMAGE, packager=run.Packager(), user=user)
    with run.Experiment("kinds", executor=executor) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=os.geteuid() == 0)
