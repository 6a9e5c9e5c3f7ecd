"""All kinds of artifacts: fetched by a job, and from a machine that has the mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nemo_run as run
from tests import kinds_of_artifacts
from tests.lepton.conftest import executor_on


@pytest.mark.parametrize("here", [False, True])
def test_all_kinds(here: bool, mount: Path) -> None:
    with run.Experiment("kinds", executor=executor_on(mount, launched_from_cluster=here)) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=os.geteuid() == 0)
