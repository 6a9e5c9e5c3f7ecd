"""The architecture: what the import contracts see, and bounds of the figures that tools/figures.py prints."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tools import figures


@cache
def functions() -> list[figures.Function]:
    return figures.functions()


def test_the_import_contracts_see_every_file() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    said = subprocess.run(command, cwd=figures.ROOT, capture_output=True, text=True, check=False).stdout
    analysed = re.search(r"Analyzed (\d+) files", said)
    assert analysed, said
    assert int(analysed[1]) == len(figures.files())


def test_imports_close_no_circle() -> None:
    assert figures.circles(figures.import_graph()) == set()


def test_class_names_are_unique() -> None:
    assert figures.repeated_class_names() == set()


def test_few_functions_are_complex() -> None:
    assert figures.percentile([one.complexity for one in functions()], 95) <= 8
    assert [one.place for one in functions() if one.complexity > 15] == []


def test_no_file_is_long() -> None:
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in figures.files()}
    assert [path for path, count in lines.items() if count > 500] == []


def test_no_folder_of_an_engine_is_full() -> None:
    assert max(figures.modules_by_engine().values()) <= 15


def test_few_parameters_are_boolean() -> None:
    assert figures.booleans_per_100(functions()) <= 3


def test_complexity_counts_every_way_through() -> None:
    branches = "if a and b: return 1\nfor x in [y for y in a if y]: pass\nprint(2 if b else 3)"
    assert figures.complexity(ast.parse(branches)) == 7
    assert figures.percentile([1] * 95 + [9] * 5, 95) == 1
    assert figures.percentile([1] * 94 + [9] * 6, 95) == 9
