"""Programs written for NeMo-Run do the same with the original and with this package.

Each program in ``programs`` is run in an empty folder by both. What it leaves is compared: its exit code, the files
it writes (with what it saw: values, states, kinds of exceptions), and the options for Slurm in the scripts it shows.
The folder of the run is replaced by a word; programs write neither ids nor times.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services import nemo_run_original

pytestmark = pytest.mark.needs("NeMo-Run 0.11.1")

_PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
_ROOT = Path(__file__).parents[2]
_SBATCH = re.compile(r"#SBATCH (--\S+)")
_PLACE = re.compile(r"--(?:output|error|chdir)=")  # the folder of an experiment is laid out in another way


@dataclass
class Outcome:
    """What a program leaves."""

    exit_code: int
    files: dict[str, str]
    sbatch: list[str]


def test_there_are_at_least_40_programs() -> None:
    assert len(_PROGRAMS) >= 40


@pytest.mark.parametrize("program", _PROGRAMS, ids=lambda program: program.stem)
def test_a_program_does_the_same_as_with_nemo_run(program: Path, tmp_path: Path) -> None:
    runs = {
        name: _start(python, program, tmp_path / name)
        for name, python in (("original", nemo_run_original.PYTHON), ("ours", Path(sys.executable)))
    }
    outcomes = {name: _outcome(process, tmp_path / name) for name, process in runs.items()}

    assert outcomes["original"].files, "a program writes down what it sees"
    assert outcomes["ours"] == outcomes["original"], _told(outcomes, tmp_path)


def _start(python: Path, program: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a program in an empty folder, with a home of its own."""
    work = folder / "work"
    work.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEMORUN_", "PYTEST_", "COV"))}
    path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(_ROOT)}
    if python == nemo_run_original.PYTHON:
        del path["PYTHONPATH"]
    kept.pop("PYTHONPATH", None)
    wide = {"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"}
    environment = kept | path | wide | {"NEMORUN_HOME": str(folder / "home"), "HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [python, program], cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def _outcome(process: subprocess.Popen[bytes], folder: Path) -> Outcome:
    try:
        exit_code = process.wait(timeout=600)
    finally:
        process.kill()
    work = folder / "work"
    files = {
        str(path.relative_to(work)): path.read_text().replace(str(folder), "<folder>")
        for path in sorted(work.rglob("*"))
        if path.is_file() and not {"__pycache__", ".git"} & set(path.parts)
    }
    sbatch = _SBATCH.findall((folder / "output").read_text())
    return Outcome(exit_code, files, sorted(option for option in sbatch if not _PLACE.match(option)))


def _told(outcomes: dict[str, Outcome], tmp_path: Path) -> str:
    """Return in what they differ, and how each output ends."""
    shown = [str(outcomes[name]).replace("\\n", "\n").splitlines() for name in ("original", "ours")]
    difference = "\n".join(difflib.unified_diff(*shown, "original", "ours", lineterm="", n=1))
    outputs = [f"== {name}\n{(tmp_path / name / 'output').read_text()[-2000:]}" for name in ("original", "ours")]
    return "\n".join([difference, *outputs])
