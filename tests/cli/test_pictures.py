"""Comparisons as pictures."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import optuna

import nemo_run as run
from nemo_run.cli.pictures import importance, picture
from tests.cli.conftest import Nemorun
from tests.run import work as tasks

SVG = "{http://www.w3.org/2000/svg}"


def test_lines_lead_through_the_values_to_what_came_out() -> None:
    points = [{"lr": 10.0**-n, "kind": "<a>" if n % 2 else "b", "n": n} for n in range(6)]
    root = ET.fromstring(picture(points, [None, *map(float, range(5))], "accuracy", "a\x1b & b"))
    lines = [
        [tuple(map(float, pair.split(","))) for pair in one.get("points", "").split()]
        for one in root.iter(f"{SVG}polyline")
    ]
    assert len(lines) == 5  # the one without a number is left out
    assert all(len(line) == 4 for line in lines)
    assert lines[-1][-1][1] < lines[0][-1][1]  # a larger number is higher up
    heights = [line[0][1] for line in lines]
    assert [round(b - a, 1) for a, b in itertools.pairwise(heights)] == [75.0] * 4  # a logarithmic scale
    texts = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
    assert {"lr (log)", "kind", "n", "accuracy", "<a>", "a? & b"} <= set(texts)


def test_a_parameter_matters_as_far_as_results_differ_with_it() -> None:
    points = [{"x": x / 40, "y": (x * 7) % 40, "kind": "ab"[x % 2]} for x in range(40)]
    shares = importance(points, [point["x"] + (point["kind"] == "a") for point in points])
    assert shares["kind"] > 0.6 > shares["x"] > shares["y"]


def test_nothing_to_compare_is_said() -> None:
    assert "no job has a number" in picture([{"a": 1}], [None], "", "t")
    assert "no job has a number" in picture([], [], "", "t")


def test_an_adaptive_sweep_is_drawn_and_its_best_comes_back(nemorun: Nemorun, tmp_path: Path) -> None:
    with run.Experiment("drawn", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        exp.sweep(
            run.Partial(tasks.trial), {"x": run.uniform(0, 1)}, trials=4, objective="score",
            sampler=optuna.samplers.RandomSampler(seed=1),
        )  # fmt: skip
        exp.run()
    best, drawn = tmp_path / "best.yaml", tmp_path / "drawn.svg"
    command = ["experiment", "compare", exp.id, "--to-yaml", str(best), "--plot", str(drawn)]
    nemorun(*command)
    assert len(list(ET.parse(drawn).getroot().iter(f"{SVG}polyline"))) == 4
    assert run.load_config(best).x == exp.compare()[0].parameters["x"]
    nemorun(*command[:-1], str(tmp_path / "drawn.png"), code=2)
