"""Jobs that wait for the end, or for the failure, of others."""

from __future__ import annotations

import pytest

import nemo_run as run
from nemo_run.errors import InvalidJobError
from tests.support import states


def test_a_job_starts_when_others_ended_as_it_waits_for() -> None:
    with run.Experiment("when", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        good, bad = exp.add(run.Script(inline="true"), name="good"), exp.add(run.Script(inline="exit 3"), name="bad")
        for when in ("any", "failed", "success"):
            exp.add(run.Script(inline="true"), name=f"{when}-both", dependencies=[good, bad], when=when)
        exp.add(run.Script(inline="true"), name="mend", dependencies=[bad], when="failed")
        exp.add([run.Script(inline="true")] * 2, name="group", dependencies=[bad], when="any")
        exp.run()
    assert states(exp) == {
        "good": "SUCCEEDED", "bad": "FAILED", "any-both": "SUCCEEDED", "failed-both": "CANCELLED",
        "success-both": "CANCELLED", "mend": "SUCCEEDED", "group": "SUCCEEDED",
    }  # fmt: skip
    with run.Experiment.from_id(exp.id).reset() as again:
        again.run()
    assert states(again) == states(exp)


def test_slurm_is_told_what_a_job_waits_for() -> None:
    exp = run.Experiment("when", executor=run.SlurmExecutor(packager=run.Packager()))
    first = exp.add(run.Script(inline="true"), name="first")
    for when, told in (("any", "afterany"), ("failed", "afternotok"), ("success", "afterok")):
        exp.add(run.Script(inline="true"), name=when, dependencies=[first], when=when)
        assert exp.jobs[-1].executor.dependency_type == told
    assert exp.executor.dependency_type == "afterok"  # the experiment's own is not changed


def test_no_other_word_is_taken() -> None:
    with pytest.raises(InvalidJobError, match="when='always'; it is 'success', 'failed' or 'any'"):
        run.Experiment("when").add(run.Script(inline="true"), name="a", when="always")
