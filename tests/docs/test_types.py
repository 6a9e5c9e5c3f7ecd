"""The examples of the guides, and what configurations build, as type checkers see them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import markdown
from tests.docs.test_docs import PAGES

BUILT = """
from dataclasses import dataclass
from typing import Callable

from typing_extensions import assert_type

import nemo_run as run

@dataclass
class Model:
    layers: int = 2

class Plain:
    def __init__(self, size: int) -> None: ...

def train(model: Model, lr: float = 0.1) -> float:
    return lr

task = run.Partial(train, lr=0.1)
task.model.layers = 3
assert_type(task, run.Partial[float])
assert_type(task.build(), Callable[..., float])
assert_type(run.Config(Model, layers=3).clone().build(), Model)
assert_type(run.Config(Plain, size=1).build(), Plain)
assert_type(run.Config(train).build(), float)
options = run.Config(dict, lr=0.1)

@run.autoconvert
def large() -> Model:
    return Model(layers=48)

assert_type(large().build(), Model)

with run.Experiment("typed", executor=run.LocalExecutor()) as exp:
    first = exp.add(task, name="first")
    exp.add([task, run.Script(inline="true")], name="second", dependencies=[first])
    exp.run(detach=True)
"""
CHECKERS = {
    "mypy": [
        "mypy",
        "--cache-dir=../mypy",
        "--check-untyped-defs",
        "--disable-error-code=import-not-found",
        "--no-error-summary",
    ],
    "pyright": ["pyright", f"--pythonpath={sys.executable}"],
}
checkers = pytest.mark.parametrize("checker", [pytest.param(name, marks=pytest.mark.needs(name)) for name in CHECKERS])


@checkers
def test_configurations_have_types(checker: str, tmp_path: Path) -> None:
    (tmp_path / "built.py").write_text(BUILT)
    assert complaints(checker, tmp_path, "built.py") == ""


@checkers
def test_the_examples_of_the_guides_have_types(checker: str, tmp_path: Path) -> None:
    folders = []
    has_ray = importlib.util.find_spec("ray") is not None  # without it, nothing says what its decorators make
    for number, page in enumerate(page for page in PAGES if has_ray or "ray" not in page.stem):
        folders.append(folder := tmp_path / f"{page.stem}_{number}")
        folder.mkdir()
        for block in markdown.blocks(page.read_text(encoding="utf-8")):
            if block.language == "python":
                (folder / (block.file or f"{page.stem.replace('-', '_')}_{block.line}.py")).write_text(block.code)
    if checker == "pyright":  # finds modules beside the one that imports them
        # Where a page needs a cluster, it takes a function of the reader's.
        (tmp_path / "pyrightconfig.json").write_text('{"reportMissingImports": false}')
        assert complaints(checker, tmp_path, ".") == ""
    else:
        examples = [(folder, [path.name for path in folder.iterdir()]) for folder in folders]
        assert "".join(complaints(checker, folder, *names) for folder, names in examples if names) == ""


def complaints(checker: str, folder: Path, *names: str) -> str:
    """Return what a type checker says of files; empty where it is content."""
    done = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker], *names],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr
