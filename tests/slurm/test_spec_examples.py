"""The examples that describe the product run as they are written, on a real cluster through SSH.

What stands for a user's own cluster in them is replaced by the one of the tests, and names that they take as given are
defined before.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs.running import Reader
from tests.docs.test_spec_examples import TRAINING, example
from tests.services.slurm import USER
from tests.services.sshd import Sshd

pytestmark = pytest.mark.needs("sshd", "slurm cluster")


@pytest.fixture
def reader(login: Sshd, tmp_path: Path) -> Reader:
    """Someone who works in a repository."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.txt").touch()
    for git in (["init", "-q"], ["add", "a.txt"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *git], cwd=project, check=True)
    return Reader(project, environment={**login.client_environment(), "NEMORUN_HOME": str(tmp_path / "home")})


@pytest.fixture
def tunnel(jobs_folder: Path) -> str:
    """The tunnel, as code."""
    return f'run.SSHTunnel(host="cluster", user="{USER}", job_dir="{jobs_folder}/runs")'


def test_packaging_system(reader: Reader, tunnel: str) -> None:
    for name, text in {
        "model.py": "SIZE = 3\n",
        "base.yaml": "a: 1\n",
        "c.json": "{}",
        "tests/test_model.py": "",
    }.items():
        (reader.folder / name).parent.mkdir(exist_ok=True)
        (reader.folder / name).write_text(text)
    (reader.folder / "a.txt").write_text("changed since")
    after = f"""
executor.tunnel = {tunnel}
look = "from model import SIZE; import os; print(SIZE, sorted(os.listdir()), os.path.getsize('a.txt'))"
run.run(run.Script(inline=f'python3 -B -c "{{look}}"'), executor=executor, name="look")
"""
    printed = reader.python(example("packaging_system") + after, "launch.py")
    assert "3 ['a.txt', 'base.yaml', 'c.json', 'launch.py', 'model.py'] 0" in printed, printed


def test_tunneling_system(reader: Reader, login: Sshd, jobs_folder: Path) -> None:
    code = example("tunneling_system")
    replaced = {
        "login.cluster.com": "cluster",
        '"username"': f'"{USER}"',
        "~/.ssh/id_rsa": str(login.identity),
        "/scratch/username/runs": f"{jobs_folder}/runs",
    }
    for name, real in replaced.items():
        assert name in code
        code = code.replace(name, real)
    before = f"{TRAINING}\nconfig = run.Partial(train_model, model_size=7)\n"
    assert "trained a model of size 7" in reader.python(before + code, "train.py")
    assert list(jobs_folder.glob("runs/*/*/*/task.json")), list(jobs_folder.rglob("*"))


def test_execution_backend(reader: Reader, tunnel: str) -> None:
    code = example("execution_backend_slurm")
    assert 'partition="a100"\n' in code
    code = code.replace('partition="a100"\n', f'partition="gpu",\n    tunnel={tunnel}\n')
    code = code.replace('account="gpu-dept"', 'account="research"')
    printed = reader.python(TRAINING + code, "train.py")
    assert printed.count("trained a model of size 1024") == 2, "once on each of the two nodes"
