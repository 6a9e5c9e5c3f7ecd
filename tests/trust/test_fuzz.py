"""Random changes of every file of an experiment, and every way to look at it: see :mod:`tests.trust.fuzz`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LAUNCH = """
import dataclasses, os, pathlib, subprocess, sys
import nemo_run as run

class Own:
    pass

@dataclasses.dataclass
class Plain:
    n: int
    where: pathlib.Path

def make(n: int = 3):
    with open(os.environ["NEMO_RUN_ARTIFACTS"] + "/a.txt", "w") as f:
        f.write("x")
    run.log_metrics({"loss": 1.0}, step=1)
    print("said")
    return {"n": n, "plain": Plain(n, pathlib.Path("a")), "both": (1, b"x")}

def other() -> Own:
    return Own()

def fails() -> None:
    raise ValueError("as asked")

if __name__ == "__main__":
    for title in ("got", "other"):
        with run.Experiment(title, clean_mode=True) as exp:
            exp.add(run.Partial(make), name="job")
            exp.add([run.Script(inline="echo a"), run.Script(inline="echo b")], name="group")
            again = run.LocalExecutor(retries=1, retry_delay=0)
            exp.add(run.Script(inline="echo tried; exit 3"), name="bad", executor=again)
            if title == "other":
                exp.jobs.pop()
            else:
                exp.add(run.Partial(other), name="own")
                exp.add(run.Partial(fails), name="fails")
                exp.sweep(run.Partial(make), {"n": run.choice(1, 2)}, objective="n")
                exp.notify(["true"])
            exp.run()
        if title == "got":
            subprocess.run([sys.executable, "-m", "nemo_run", "experiment", "tag", exp.id, "paper"], check=True)
"""
_SECONDS = 60  # for one look, on a machine that has much else to do


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with experiments of one's own, and one in which they were received."""
    top = tmp_path_factory.mktemp("fuzz")
    (top / "launch.py").write_text(_LAUNCH)
    env = {**os.environ, "NEMORUN_HOME": str(top / "own")}
    subprocess.run([sys.executable, "launch.py"], cwd=top, env=env, stdin=subprocess.DEVNULL, check=True, timeout=300)
    shutil.copytree(top / "own", top / "received", ignore=lambda _, names: [n for n in names if n.startswith(".key")])
    return top


# CI, where every engine is there, tries 300 changes; anybody else some of them.
_END = 2300 if os.environ.get("CI") == "true" else 2025


@pytest.mark.parametrize("first", range(2000, _END, 25))
def test_whatever_a_file_says_looking_does_nothing_and_hides_nothing(first: int, homes: Path) -> None:
    command = [sys.executable, "-m", "tests.trust.fuzz", str(homes), str(first), "25", str(_SECONDS)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}, timeout=900,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "25 changes, 0 problems" in done.stdout
