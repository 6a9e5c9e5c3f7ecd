"""An experiment that is tried on SkyPilot itself and on what stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from tests.support import eventually


def shell(text: str, **options: Any) -> run.Script:
    return run.Script(inline=text, **options)


def log_of(exp: run.Experiment, job: str) -> str:
    return Path(exp.directory, job, "attempts", "1", "log").read_text()


def check_jobs_on_a_cluster(
    work: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any], *, most: bool = True
) -> None:
    """One cluster for all jobs, made for the first; they run beside each other.

    Args:
        work: Folder with the code.
        monkeypatch: For what is imported from there.
        make: Makes executors.
        most: Try more than two jobs.
    """
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
    if most:
        exp.add(shell('printf "$A|$1"; exit 3', env={"A": "a\n'b\" $HOME"}, args=["x y"]), name="failing")
    exp.add(shell("trap 'echo cleaned; exit 0' TERM; echo begun; while :; do sleep 0.1; done"), name="endless")
    if most:
        exp.add(shell("cat sky_recipe.py | wc -l"), name="after", dependencies=["function"])
    exp.run(detach=True)
    eventually(lambda: exp.results()["endless"].state is JobState.RUNNING, within=900)
    exp.cancel("endless")
    exp.wait()
    ends = {name: (result.state, result.exit_code) for name, result in exp.results().items()}
    expected = {"function": (JobState.SUCCEEDED, 0), "endless": (JobState.CANCELLED, None)}
    further = {"failing": (JobState.FAILED, 3), "after": (JobState.SUCCEEDED, 0)}
    assert ends == {**expected, **(further if most else {})}
    assert exp.results()["function"].reason == ""
    assert log_of(exp, "function") == "rank 0 of 1\n"
    assert log_of(exp, "endless").startswith("begun\n")
    if most:
        assert log_of(exp, "failing") == "a\n'b\" $HOME|x y"
        assert log_of(exp, "after").strip() == "5"
    folder = Path(exp.directory, "function", "artifacts")
    expected_files = {"result.txt": "é", "model": "éé"}  # collected by the controller, which may take a while longer
    eventually(lambda: {path.name: path.read_text() for path in folder.iterdir()} == expected_files, within=300)
