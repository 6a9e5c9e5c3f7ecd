"""The torchrun launcher with a real torch: ranks that talk to each other, a log for every rank, an exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.run.catalog import find
from tests.launchers import ddp

pytestmark = pytest.mark.needs("torch")


def test_ranks_of_a_function_find_each_other_and_have_their_own_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = run.LocalExecutor(ntasks_per_node=2, launcher="torchrun")
    with run.Experiment("torchrun", executor=executor) as exp:
        job = exp.add(run.Partial(ddp.all_reduce, results=str(tmp_path)), name="ddp")
        exp.run()
    exp.raise_for_failure()
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == ["3.0", "3.0"]

    capfd.readouterr()
    exp.logs(job, rank=1)
    only_one = capfd.readouterr().out
    assert "ddp/1 hello from rank 1 of 2, local rank 1" in only_one
    assert "rank 0" not in only_one
    exp.logs(job)
    both = capfd.readouterr().out
    assert "hello from rank 0" in both
    assert "hello from rank 1" in both


def test_a_script_runs_once_for_every_rank(tmp_path: Path) -> None:
    script = run.Script(inline='echo "$RANK/$WORLD_SIZE" > "$1/$RANK"', args=[str(tmp_path)])
    run.run(script, executor=run.LocalExecutor(ntasks_per_node=3, launcher=run.Torchrun()), name="ranks")
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [f"{rank}/3\n" for rank in range(3)]


def test_two_torchruns_share_a_machine(tmp_path: Path) -> None:
    with run.Experiment("two", executor=run.LocalExecutor(ntasks_per_node=2, launcher="torchrun")) as exp:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            exp.add(run.Partial(ddp.all_reduce, results=str(tmp_path / name)), name=name)
        exp.run()
    exp.raise_for_failure()


def test_a_failing_rank_fails_the_job() -> None:
    executor = run.LocalExecutor(ntasks_per_node=2, launcher="torchrun")
    with pytest.raises(run.JobFailedError) as caught:
        run.run(run.Partial(ddp.fail_on_rank_one), executor=executor, name="fail")
    assert caught.value.exit_code == 1
    assert any("exitcode" in line for line in find(caught.value.experiment_id).path.joinpath(
        "fail", "attempts", "1", "log").read_text().splitlines())  # fmt: skip
