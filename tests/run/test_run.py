"""``run.run``: one task."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import nemo_run as run
from tests.run import work as tasks
from tests.support import attempts, bash


def test_a_failure_is_an_error_with_code_and_last_lines() -> None:
    with pytest.raises(run.JobFailedError) as failure:
        run.run(bash("seq 1 50; echo last words >&2; exit 42"), executor=run.LocalExecutor(), name="bad")
    error = failure.value
    assert (error.job_id, error.state, error.exit_code) == ("bad", "FAILED", 42)
    assert error.log_tail[-2:] == ["50", "last words"]
    assert 1 < len(error.log_tail) <= 20
    for part in ("'bad'", error.experiment_id, "42", "last words", "nemorun experiment logs"):
        assert part in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_function_that_raises() -> None:
    with pytest.raises(run.JobFailedError) as failure:
        run.run(run.Partial(tasks.fail, message="what went wrong"), executor=run.LocalExecutor())
    assert failure.value.exit_code == 1
    assert "ValueError: what went wrong" in failure.value.log_tail


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_without_check_the_result(script: str, code: int) -> None:
    result = run.run(bash(script), executor=run.LocalExecutor(), check=False)
    assert result is not None
    assert result.exit_code == code
    assert result.ok == (code == 0)
    assert result.state is (run.JobState.FAILED if code else run.JobState.SUCCEEDED)
    assert run.Experiment.from_id(result.experiment_id).results()[result.job_id].exit_code == code


def test_without_an_executor_it_runs_here(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run.run(run.Partial(tasks.write, path="here", text="x"))
    assert result is not None
    assert result.ok
    assert (work / "here").read_text() == "x"
    with pytest.raises(ValueError, match="as it is"):
        run.run(run.Partial(tasks.fail, message="as it is"))
    with pytest.raises(run.JobFailedError, match="exit code 4"):
        run.run(bash("exit 4"))
    here = run.run(bash("exit 4"), check=False)
    assert here is not None
    assert here.exit_code == 4
    assert run.Experiment.catalog() == []


def test_direct(work: Path) -> None:
    result = run.run(run.Partial(tasks.write, path="here"), executor=run.LocalExecutor(), direct=True)
    assert result is not None
    assert result.ok
    assert (work / "here").exists()


def test_dryrun_does_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run(bash("echo x >> ran"), executor=run.LocalExecutor(), dryrun=True) is None
    assert "bash" in capsys.readouterr().out
    assert run.run(run.Partial(tasks.write, path="ran"), dryrun=True) is None
    assert list(work.iterdir()) == []
    assert run.Experiment.catalog() == []


def test_detached(work: Path) -> None:
    result = run.run(bash("sleep 0.3; echo x >> ran"), executor=run.LocalExecutor(), detach=True, name="job")
    assert result is not None
    past = run.Experiment.from_id(result.experiment_id)
    assert past.wait()["job"].state is run.JobState.SUCCEEDED
    assert attempts(work) == ["x"]


class Louder(run.Plugin):
    def setup(self, task: object, executor: run.Executor) -> None:
        executor.env_vars["LOUD"] = "yes"


@pytest.mark.parametrize("plugins", [Louder(), [Louder()]])
def test_plugins(plugins: run.Plugin | list[run.Plugin], work: Path) -> None:
    run.run(bash('echo "$LOUD" >> ran'), executor=run.LocalExecutor(), plugins=plugins)
    assert attempts(work) == ["yes"]


def test_the_log_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    run.run(bash("echo to be seen"), executor=run.LocalExecutor(), name="job")
    assert "job/0 to be seen\n" in capfd.readouterr().out
    run.run(bash("echo unseen"), executor=run.LocalExecutor(), tail_logs=False)
    assert "unseen" not in capfd.readouterr().out


@pytest.mark.parametrize("wrong", [42, "text", len])
def test_what_is_no_task(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"run\.Partial"):
        run.run(wrong, executor=run.LocalExecutor())  # type: ignore[arg-type]
