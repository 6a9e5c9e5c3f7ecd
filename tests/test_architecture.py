"""The architecture: what the import contracts see, and bounds of the figures that tools/figures.py prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tools import figures

# Names of several classes; the set may only shrink.
REPEATED = {"Dumper", "Handle", "Job", "Service", "SlurmRay", "StoredJob", "_End"}


@cache
def functions() -> list[figures.Function]:
    return figures.functions()


def test_the_import_contracts_see_every_file() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    said = subprocess.run(command, cwd=figures.ROOT, capture_output=True, text=True, check=False).stdout
    analysed = re.search(r"Analyzed (\d+) files", said)
    assert analysed, said
    assert int(analysed[1]) == len(figures.files())


@pytest.mark.parametrize("package", ["nemo_run.cli", "nemo_run.config"])
def test_imports_close_no_circle(package: str) -> None:
    found = figures.circles(figures.import_graph())
    assert {edge for edge in found if edge[0].startswith(package)} == set()


def test_class_names_are_unique() -> None:
    assert figures.repeated_class_names() <= REPEATED


def test_few_functions_are_complex() -> None:
    assert figures.percentile([one.complexity for one in functions()], 95) <= 10
    assert [one.place for one in functions() if one.complexity > 23] == []


def test_no_file_is_long() -> None:
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in figures.files()}
    assert [path for path, count in lines.items() if count > 570] == []


def test_no_folder_of_an_engine_is_full() -> None:
    assert max(figures.modules_by_engine().values()) <= 15


def test_few_parameters_are_boolean() -> None:
    assert figures.booleans_per_100(functions()) <= 3


def test_complexity_counts_every_way_through() -> None:
    branches = "if a and b: return 1\nfor x in [y for y in a if y]: pass\nprint(2 if b else 3)"
    assert figures.complexity(ast.parse(branches)) == 7
    assert figures.percentile([1] * 95 + [9] * 5, 95) == 1
    assert figures.percentile([1] * 94 + [9] * 6, 95) == 9
