"""Sweeps on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.cli.typed_sweep import typed_sweep
from nemo_run.errors import OverrideError
from tests.cli.conftest import Nemorun

SCRIPT = """
import nemo_run as run

def train(lr: float, kind: str = "a", steps: int = 1) -> float:
    return steps * lr

if __name__ == "__main__":
    run.cli.main(train)
"""


def test_every_point_of_what_was_typed_is_tried(script: Nemorun, here: Path) -> None:
    (here / "sweep.py").write_text(SCRIPT)
    script("sweep.py", "-m", "lr=0.1,0.01", "kind=choice(a,b)", "steps=2", "run.executor=local")
    trials = run.Experiment.from_title("train").compare()
    assert [(one.parameters["lr"], one.parameters["kind"]) for one in trials] == [
        (0.1, "a"), (0.1, "b"), (0.01, "a"), (0.01, "b"),
    ]  # fmt: skip
    assert trials[0].objective == 0.2


def test_an_adaptive_sweep_is_typed(script: Nemorun, here: Path) -> None:
    (here / "sweep.py").write_text(SCRIPT)
    script("sweep.py", "--sweep", "lr=loguniform(1e-5,1e-2)", "sampler=tpe", "trials=3", "direction=minimize")
    trials = run.Experiment.from_title("train").compare()
    assert len(trials) == 3
    assert all(1e-5 <= one.parameters["lr"] <= 1e-2 and one.objective == one.parameters["lr"] for one in trials)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["lr=0.1"], "say what to try"),
        (["lr=uniform(1)"], "lr: "),
        (["lr=uniform(2,1)"], "must be below"),
        (["lr=1,2", "trials=many"], "trials: expected a number"),
    ],
)
def test_what_makes_no_sweep_is_refused(args: list[str], says: str) -> None:
    with pytest.raises(OverrideError, match=says):
        typed_sweep(args)


def test_commas_in_brackets_and_quotes_part_nothing() -> None:
    found = typed_sweep(["a=[1,2],[3]", "b='x,y',z", "c=[1,2]", "d={a: 1, b: 2}", "e=true,null,1e-3"])
    assert {path: one.values for path, one in found.spaces.items()} == {
        "a": ([1, 2], [3]), "b": ("x,y", "z"), "e": (True, None, 1e-3),
    }  # fmt: skip
    assert found.others == ["c=[1,2]", "d={a: 1, b: 2}"]
