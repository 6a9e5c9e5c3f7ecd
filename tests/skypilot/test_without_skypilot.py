"""Where SkyPilot is not installed: what can be done without it, and how to get it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import MissingExtraError


@pytest.fixture(autouse=True)
def _without_skypilot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sky.jobs", None)
    monkeypatch.setitem(sys.modules, "sky", None)


@pytest.mark.parametrize("cls", [run.SkypilotExecutor, run.SkypilotJobsExecutor])
def test_a_dry_run_shows_the_task_and_what_is_missing(
    cls: type[run.SkypilotExecutor], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    executor = cls(gpus="A100", packager=run.Packager(), env_vars={"A_KEY": "s3cr3t"})
    exp = run.Experiment("exp", executor=executor)
    exp.add(run.Script(inline="echo hello"), name="job")
    exp.dryrun()
    shown = capsys.readouterr().out
    assert "accelerators:\n    A100: 1\n" in shown
    assert "s3cr3t" not in shown
    assert "pip install 'nemo-run[skypilot]'" in shown
    with pytest.raises(MissingExtraError, match=r"pip install 'nemo-run\[skypilot\]'"):
        exp.run()
