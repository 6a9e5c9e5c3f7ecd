"""What a notebook shows and runs, in a real kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("notebooks")

RunCells = Callable[..., list[list[dict[str, Any]]]]


@pytest.fixture
def run_cells(tmp_path: Path, nemorun_home: Path, monkeypatch: pytest.MonkeyPatch) -> RunCells:
    """Run the cells of a notebook, and return what each of them shows."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")

    def run(*cells: str, path: str = os.environ["PATH"]) -> list[list[dict[str, Any]]]:
        from nbclient import NotebookClient
        from nbformat import v4

        monkeypatch.setenv("PATH", path)
        notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        return [cell.outputs for cell in notebook.cells]

    return run


def shown(outputs: list[dict[str, Any]], kind: str = "text/html") -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


TASKS = """
import dataclasses
import nemo_run as run

@dataclasses.dataclass
class Model:
    layers: int = 2

def helper(model):
    return model.layers * 10

def train(model: Model, lr: float = 0.1) -> float:
    print("training")
    return helper(model) * lr
"""
LAUNCH = """
task = run.Partial(train, model=run.Config(Model, layers=3), lr=0.5)
with run.Experiment("cells", executor=run.LocalExecutor()) as exp:
    exp.add(task, name="train")
    exp.add(run.Script(inline="echo '<b>'; exit 3"), name="fails")
    exp.run()
exp.result("train")
"""


@pytest.mark.filterwarnings("default")  # those of the notebook's own libraries
def test_functions_of_cells_run_and_the_status_is_in_the_cell(run_cells: RunCells) -> None:
    _, launched, experiment, job, result, direct = run_cells(
        TASKS, LAUNCH, "exp", "exp.jobs[1]", "exp.results()['fails']",
        "run.run(run.Partial(train, model=run.Config(Model)), executor=run.LocalExecutor()).value",
    )  # fmt: skip
    live, *more = shown(launched)
    assert "SUCCEEDED</b>" in live
    assert "FAILED</b>" in live
    assert "1 failed, 1 succeeded" in live
    assert more == []
    assert shown(launched, "text/plain")[-1] == "15.0"
    assert "SUCCEEDED</b>" in shown(experiment)[0]
    assert "FAILED</b>  fails, exit code 3" in shown(job)[0]
    assert "&lt;b&gt;" in shown(result)[0]
    assert shown(direct, "text/plain")[-1] == "2.0"


@pytest.mark.filterwarnings("default")
def test_a_drawing_without_graphviz_is_lines_and_no_traceback(run_cells: RunCells, tmp_path: Path) -> None:
    drawn, implicit = run_cells(TASKS + "cfg = run.Config(Model, layers=3)\ncfg.visualize()", "cfg", path=str(tmp_path))
    for outputs in (drawn, implicit):
        assert [output["output_type"] for output in outputs] == ["execute_result"]
        svg = shown(outputs, "image/svg+xml")[0]
        assert "layers: 3" in svg
        assert "apt install graphviz" in svg
