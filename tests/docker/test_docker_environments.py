"""Environments for jobs in containers: made in the image, kept on this machine, shared by all containers of a kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.docker import DockerExecutor
from tests.environments.test_environments import SHOW, make_wheel
from tests.services.docker import IMAGE

LIBRARIES = f"/lib/{os.uname().machine}-linux-gnu"  # the image has those that its programs need only

pytestmark = pytest.mark.needs("docker")


@pytest.mark.parametrize("user", ["", "1234:1234"])
def test_a_container_runs_in_the_environment_of_its_requirements(
    user: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    make_wheel(tmp_path / "wheels", "wanted", "1.0")
    requirements = tmp_path / "r.txt"
    requirements.write_text("wanted\n")
    executor = DockerExecutor(
        container_image=IMAGE, packager=run.Packager(), environment=str(requirements), wheels="/wheels",
        volumes=[f"{tmp_path / 'wheels'}:/wheels:ro", f"{LIBRARIES}:{LIBRARIES}:ro"], user=user or None,
    )  # fmt: skip
    experiment = run.Experiment("containers", executor=executor, clean_mode=True)
    for name in ("a", "b"):
        experiment.add(run.Script(inline=f'python3 -c "{SHOW}"'), name=name)
    with experiment:
        experiment.run()
    capfd.readouterr()
    experiment.logs("a")
    experiment.logs("b")
    text = capfd.readouterr().out
    assert {result.state for result in experiment.results().values()} == {run.JobState.SUCCEEDED}, text
    assert text.count("wanted 1.0 True\n") == 2
    assert text.count("makes an environment from r.txt with uv") == 1
