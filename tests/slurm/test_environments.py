"""Environments for jobs of a real cluster: made once, in a step of their own, on nodes and in containers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.core.packaging.git import GitArchivePackager
from tests.environments.test_environments import SHOW, make_wheel
from tests.slurm.test_experiments import launch, log_of, project, script  # noqa: F401

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture
def wheels(jobs_folder: Path) -> Path:
    folder = jobs_folder / "wheels"
    make_wheel(folder, "wanted", "1.0")
    folder.chmod(0o755)
    return folder


@pytest.mark.usefixtures("project")
def test_the_packaged_requirements_become_an_environment(
    executor: SlurmExecutor, wheels: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    Path("requirements.txt").write_text("wanted == 1.0\n")
    commit = ["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-qam", "m"]
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(commit, check=True)
    executor.packager, executor.environment, executor.wheels = GitArchivePackager(), "auto", str(wheels)
    executor.nodes, executor.ntasks_per_node = 2, 2
    experiment = run.Experiment("environment", executor=executor)
    for index in range(3):
        experiment.add(script(f'python3 -c "{SHOW}"'), name=f"t{index}")
    experiment.add(run.Partial(__import__("slurm_work").train, steps=1), name="function", executor=_one(executor))
    experiment.add([script("python3 -c 'import wanted'"), script("python3 -c 'import wanted'")], name="group")
    results = launch(experiment)
    assert {result.state for result in results.values()} == {run.JobState.SUCCEEDED}, results
    logs = [log_of(experiment, name, capfdbinary) for name in results]
    assert [log.count(b"wanted 1.0 True\n") for log in logs[:3]] == [4, 4, 4]
    assert sum(b"makes an environment from requirements.txt" in log for log in logs) == 1
    assert len(list(Path(executor.tunnel.job_dir).glob(".environments/*/*/made"))) == 1


def _one(executor: SlurmExecutor) -> SlurmExecutor:
    one = executor.clone()
    assert isinstance(one, SlurmExecutor)
    one.nodes = one.ntasks_per_node = 1
    return one


def test_an_environment_in_a_container(
    executor: SlurmExecutor, image: str, wheels: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    requirements = tmp_path / "r.txt"
    requirements.write_text("wanted\n")
    executor.container_image, executor.container_mounts = image, ["/usr:/usr:ro", f"{wheels}:/wheels"]
    executor.environment, executor.wheels = str(requirements), "/wheels"
    experiment = run.Experiment("inside", executor=executor)
    experiment.add(script(f'python3 -c "{SHOW}"'), name="a")
    result = launch(experiment)["a"]
    log = log_of(experiment, "a", capfdbinary)
    assert result.state is run.JobState.SUCCEEDED, log.decode()
    assert log.endswith(b"wanted 1.0 True\n")


def test_what_cannot_be_made_fails_the_job_before_it_begins(
    executor: SlurmExecutor, wheels: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    requirements = tmp_path / "r.txt"
    requirements.write_text("wanted == 7\n")
    executor.environment, executor.wheels = str(requirements), str(wheels)
    experiment = run.Experiment("impossible", executor=executor)
    experiment.add(script("echo begun"), name="a")
    result = launch(experiment)["a"]
    assert (result.state, result.exit_code) == (run.JobState.FAILED, 1)
    log = log_of(experiment, "a", capfdbinary)
    assert b"the environment could not be made from r.txt; the whole log: " in log
    assert b"begun" not in log
