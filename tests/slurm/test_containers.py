"""Tasks in containers of a real cluster, by Pyxis' options, which tests/services/slurm_containers.c takes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.slurm import SlurmExecutor
from nemo_run.testing import HOSTILE

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture
def contained(executor: SlurmExecutor, image: str) -> SlurmExecutor:
    """An executor whose tasks run in the image, with the programs of the node."""
    executor.container_image, executor.container_mounts = image, ["/usr:/usr:ro"]
    return executor


def launch(task: Any, executor: SlurmExecutor, **options: Any) -> run.Experiment:
    experiment = run.Experiment("container", executor=executor, clean_mode=True)
    with experiment:
        experiment.add(task, name="it's a job", **options)
        experiment.run()
    return experiment


def artifact(experiment: run.Experiment, name: str) -> bytes:
    (file,) = [one.file for one in experiment.artifacts() if one.path == name]
    return Path(file).read_bytes()


def test_image_mounts_and_folder(contained: SlurmExecutor, jobs_folder: Path) -> None:
    (jobs_folder / "my data").mkdir()
    (jobs_folder / "my data").chmod(0o755)
    (jobs_folder / "my data" / "x").write_text("from the node")
    contained.container_mounts += [f"{jobs_folder}/my data:/data:ro", "/$nemo_run/scripts:/the scripts"]
    text = (
        'pwd; cat /data/x; touch /data/y 2>/dev/null || echo " read-only"; ls "/the scripts"; '
        'ls -d /nemo_run/attempts; [ -e /home ] || echo "no home"; echo made > /nemo_run/artifacts/made'
    )
    experiment = launch(run.Script(inline=f"({text}) > /nemo_run/artifacts/log"), contained)
    assert experiment.results()["it's a job"].ok, experiment.results()
    lines = artifact(experiment, "log").decode().splitlines()
    assert lines[:2] == ["/nemo_run/code", "from the node read-only"]
    assert lines[2].endswith(".sh")
    assert lines[3:] == ["/nemo_run/attempts", "no home"]
    assert artifact(experiment, "made") == b"made\n"


def test_the_image_does_not_replace_variables_of_the_job(contained: SlurmExecutor) -> None:
    contained.env_vars = {"OF_BOTH": "job"}
    contained.container_env = ["LISTED"]
    contained.setup_lines = "export LISTED=setup"
    script = run.Script(inline='echo "$OF_IMAGE $OF_BOTH $LISTED" > $NEMO_RUN_ARTIFACTS/log')
    assert artifact(launch(script, contained), "log") == b"image job setup\n"


@pytest.mark.parametrize("where", ["container", "node"])
def test_values_arrive_byte_for_byte(contained: SlurmExecutor, where: str) -> None:
    if where == "node":
        contained.container_image = None
    values = list(HOSTILE.values())
    contained.env_vars = {f"V{i}": value for i, value in enumerate(values)}
    program = (
        "import json, os, sys; json.dump([sys.argv[1:], [os.environ[f'V{i}'] for i in range(len(sys.argv) - 1)]], "
        "open(os.environ['NEMO_RUN_ARTIFACTS'] + '/got', 'w'))"
    )
    script = run.Script(inline=f'exec python3 -c {shlex.quote(program)} "$@"', args=values)
    experiment = launch(script, contained)
    assert experiment.results()["it's a job"].ok, experiment.results()
    assert json.loads(artifact(experiment, "got")) == [values, values]


def test_a_function_on_every_rank(
    contained: SlurmExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "work_in_container.py").write_text(
        "import os\n"
        "def work(word):\n"
        "    print(os.environ['SLURM_PROCID'], word, os.getcwd(), os.path.exists('work_in_container.py'))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    from work_in_container import work  # type: ignore[import-not-found]

    contained.packager = run.PatternPackager(include=["*.py"])
    contained.nodes, contained.ntasks_per_node = 2, 2
    experiment = launch(run.Partial(work, word="a b"), contained)
    assert experiment.results()["it's a job"].ok, experiment.results()
    capfdbinary.readouterr()
    experiment.logs("it's a job", rank=3)
    assert b"3 a b /nemo_run/code True" in capfdbinary.readouterr().out


def test_an_image_that_is_not_there(contained: SlurmExecutor) -> None:
    contained.container_image = "no/such:image"
    result = launch(run.Script(inline="true"), contained).results()["it's a job"]
    assert result.state is run.JobState.FAILED
    assert "no/such:image" in "\n".join(result.log_tail), result
