"""All kinds of artifacts: through SSH as an ordinary user, and from a machine of the cluster."""

from __future__ import annotations

import os

import pytest

import nemo_run as run
from nemo_run.core.tunnel.client import LocalTunnel
from tests import kinds_of_artifacts

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


def test_all_kinds_through_ssh(executor: run.SlurmExecutor) -> None:
    with run.Experiment("kinds", executor=executor) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=False)


def test_all_kinds_from_the_cluster(here: LocalTunnel) -> None:
    executor = run.SlurmExecutor(tunnel=here, packager=run.Packager(), mem="100M")
    with run.Experiment("kinds", executor=executor) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=os.geteuid() == 0)
