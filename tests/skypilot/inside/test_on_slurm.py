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
from tests.support import eventually, work as work  # noqa: PLC0414

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


def shell(text: str, **options: Any) -> run.Script:
    return run.Script(inline=text, **options)


def log_of(exp: run.Experiment, job: str) -> str:
    return Path(exp.directory, job, "attempts", "1", "log").read_text()


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
        ({"gpus": "H100", "gpus_per_node": 16}, "H100:16"),
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
    """One cluster for all of them, made for the first; they run beside each other."""
    (work / "sky_recipe.py").write_text(
        "import os\n"
        "def train(text):\n"
        "    open('result.txt', 'w').write(text)\n"
        "    open(os.environ['NEMO_RUN_ARTIFACTS'] + '/model', 'w').write(text * 2)\n"
        "    print('rank', os.environ['SKYPILOT_NODE_RANK'], 'of', os.environ['SKYPILOT_NUM_NODES'])\n"
    )
    monkeypatch.syspath_prepend(str(work))
    from sky_recipe import train  # type: ignore[import-not-found]

    packager = run.PatternPackager(include_pattern=str(work / "*.py"), relative_path=str(work))
    exp = run.Experiment("exp", executor=make(packager=packager, cluster_name="shared"))
    exp.add(run.Partial(train, "é"), name="function", artifacts=["*.txt"])
    exp.add(shell('printf "$A|$1"; exit 3', env={"A": "a\n'b\" $HOME"}, args=["x y"]), name="failing")
    exp.add(shell("trap 'echo cleaned; exit 0' TERM; echo begun; while :; do sleep 0.1; done"), name="endless")
    exp.add(shell("cat sky_recipe.py | wc -l"), name="after", dependencies=["function"])
    exp.run(detach=True)
    eventually(lambda: exp.results()["endless"].state is JobState.RUNNING, within=300)
    exp.cancel("endless")
    exp.wait()
    ends = {name: (result.state, result.exit_code) for name, result in exp.results().items()}
    assert ends == {
        "function": (JobState.SUCCEEDED, 0),
        "failing": (JobState.FAILED, 3),
        "endless": (JobState.CANCELLED, None),
        "after": (JobState.SUCCEEDED, 0),
    }
    assert log_of(exp, "function") == "rank 0 of 1\n"
    assert log_of(exp, "failing") == "a\n'b\" $HOME|x y"
    assert log_of(exp, "after").strip() == "5"
    found = {path.name: path.read_text() for path in Path(exp.directory, "function", "artifacts").iterdir()}
    assert found == {"result.txt": "é", "model": "éé"}


def test_a_task_over_two_nodes(work: Path) -> None:
    script = 'echo "$SKYPILOT_NODE_RANK of $SKYPILOT_NUM_NODES: $(echo "$SKYPILOT_NODE_IPS" | wc -l) addresses"'
    exp = run.Experiment("exp", executor=make(num_nodes=2))
    exp.add(shell(script), name="job")
    exp.run()
    assert exp.results()["job"].state is JobState.SUCCEEDED, exp.results()
    assert sorted(log_of(exp, "job").splitlines()) == ["0 of 2: 2 addresses", "1 of 2: 2 addresses"]


def test_a_managed_job(work: Path) -> None:
    exp = run.Experiment("exp", executor=make(run.SkypilotJobsExecutor))
    exp.add(shell('echo "managed $SKYPILOT_MANAGED_JOB_ID"; exit 7'), name="job")
    exp.run()
    result = exp.results()["job"]
    assert (result.state, result.exit_code) == (JobState.FAILED, 7)
    assert log_of(exp, "job") == "managed 1\n"
