"""The blocks of the guide that need a cluster, one after the other, as a reader would run them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs import markdown
from tests.docs.running import Reader
from tests.services.slurm import USER
from tests.services.sshd import Sshd

pytestmark = pytest.mark.needs("sshd", "slurm cluster")

GUIDE = Path(__file__).parents[2] / "docs" / "slurm.md"
FIRST = "executor = run.SlurmExecutor("


def test_the_guide(login: Sshd, jobs_folder: Path, tmp_path: Path) -> None:
    blocks = list(markdown.blocks(GUIDE.read_text(encoding="utf-8")))
    project = tmp_path / "project"
    project.mkdir()
    here = {
        "login.example.com": "cluster",
        'user="me"': f'user="{USER}"',
        "/scratch/me/runs": f"{jobs_folder}/runs",
        FIRST: f"{FIRST}wait_time_for_group_job=0, ",  # thirty seconds by default
    }
    for block in blocks:
        if block.file:
            code = block.code
            for name, real in here.items():
                assert block.file != "cluster.py" or code.count(name) == 1
                code = code.replace(name, real)
            (project / block.file).write_text(code)
    for git in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *git], cwd=project, check=True)

    environment = {**login.client_environment(), "NEMORUN_HOME": str(tmp_path / "home")}
    reader = Reader(project, environment=environment)
    scripts = [block for block in blocks if block.not_run == "tests/slurm runs it on a cluster"]
    printed = "".join(reader.python(block.code, f"line_{block.line}.py") for block in scripts)
    for line in (
        "train/5 rank 5 trains 1000 steps",
        "model.txt 10 ",
        "head is ",
        "sweep/3 part 3",
        "SUCCEEDED clean",
        "open http://localhost:",
    ):
        assert line in printed, printed
