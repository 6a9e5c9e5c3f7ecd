"""The benchmarks run, and have a figure for everything that they claim to measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.measure import SMALL
from benchmarks.table import rows, table


def test_a_small_run_has_all_figures() -> None:
    command = [sys.executable, "-m", "benchmarks", "--small", "--alone"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    shown = {
        line.split(" | ")[0].removeprefix("| "): line for line in done.stdout.splitlines() if line.startswith("| ")
    }
    for what in rows(SMALL).values():
        assert shown[what].split(" | ")[1].split()[-1] in ("ms", "s", "MB"), shown[what]


def test_what_was_given_up_is_a_bound() -> None:
    found = {"diff": {"this": [0.5, 0.1, 0.3], "NeMo-Run": [float("inf")]}, "memory": {"this": [30.4]}}
    shown = table(["this", "NeMo-Run"], {"diff": "diff", "memory": "memory", "add": "add"}, found, 20.0)
    assert shown.splitlines()[2:] == ["| diff | 100 ms | > 20 s | < 0.005 |", "| memory | 30 MB |  |  |"]
