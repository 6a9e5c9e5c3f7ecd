"""All kinds of artifacts: printed by a helper, and from a machine that has the volume."""

from __future__ import annotations

import pytest

from nemo_run.run.experiment import Experiment
from tests import kinds_of_artifacts
from tests.dgxcloud.executors import make_executor

pytestmark = pytest.mark.needs("pods")


@pytest.mark.parametrize("mounted", [False, True], ids=["from outside", "from the cluster"])
def test_all_kinds(mounted: bool) -> None:
    with Experiment("kinds", executor=make_executor(mounted=mounted)) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=True)
