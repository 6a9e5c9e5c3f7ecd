"""SkyPilot itself, whole: its API server, its optimiser, and jobs on machines that it has from a real Slurm cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.errors import ExecutorError
from tests.services.skypilot import ApiServer, Machines
from tests.skypilot.inside.conftest import client_of
from tests.skypilot.inside.experiments import check_jobs_on_a_cluster, log_of, shell
from tests.support import work as work  # noqa: PLC0414

pytestmark = pytest.mark.needs("machines for SkyPilot")


@pytest.fixture(scope="module", autouse=True)
def _skypilot() -> Iterator[None]:
    machines = Machines()
    try:
        machines.start()
        with client_of(ApiServer(machines)):
            yield
    finally:
        machines.stop()


def make(cls: Any = run.SkypilotExecutor, **options: Any) -> Any:
    wanted = {"infra": "slurm/test", "cpus": 1, "memory": 0.4, "packager": run.Packager(), **options}
    return cls(**wanted)


# the optimiser


def test_a_dry_run_shows_the_choice_and_its_price(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    exp = run.Experiment("exp", executor=make(gpus="H100", gpus_per_node=4, env_vars={"A_TOKEN": "s3cr3t"}))
    exp.add(shell("echo hello"), name="job")
    exp.dryrun()
    shown = capsys.readouterr().out
    assert "accelerators:\n    H100: 4\n" in shown
    assert "INFRA" in shown
    assert "COST ($)" in shown
    assert any("H100:4" in line and "0.00" in line and "✔" in line for line in shown.splitlines())
    assert "s3cr3t" not in shown


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gpus": "A100", "gpus_per_node": 8}, "A100"),
        ({"gpus": "H100", "gpus_per_node": 16}, "'H100': 16"),
        ({"memory": 4000}, "mem=4000"),
        ({"infra": "slurm/elsewhere"}, "elsewhere"),
        ({"infra": "aws"}, "(?i)aws"),
    ],
)
@pytest.mark.parametrize("cls", [run.SkypilotExecutor, run.SkypilotJobsExecutor])
def test_what_cannot_be_had_is_refused_before_anything_starts(
    cls: Any, options: dict[str, Any], reason: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exp = run.Experiment("exp", executor=make(cls, **options))
    exp.add(shell("true"), name="job")
    exp.dryrun()
    assert "SkyPilot refuses" in capsys.readouterr().out
    with pytest.raises(ExecutorError, match=reason):
        exp.run()


# jobs


def test_jobs_on_a_cluster(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_jobs_on_a_cluster(work, monkeypatch, make, most=False)


def test_a_task_over_two_nodes(work: Path) -> None:
    script = 'echo "$SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES: $(echo "$SKYPILOT_NODE_IPS" | wc -l) addresses"'
    exp = run.Experiment("exp", executor=make(num_nodes=2))
    exp.add(shell(script), name="job")
    exp.run()
    assert exp.results()["job"].state is JobState.SUCCEEDED, exp.results()
    assert sorted(log_of(exp, "job").splitlines()) == ["0 of 2: 2 addresses", "1 of 2: 2 addresses"]
