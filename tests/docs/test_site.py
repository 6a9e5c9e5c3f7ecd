"""The site of the documentation: it can be built, and nothing is missing from its reference."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nemo_run as run

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import build_docs  # noqa: E402

sys.path.remove(str(ROOT / "tools"))
_OWN = re.compile(r"(NEMO_RUN|NEMORUN)_[A-Z0-9_]*[A-Z0-9]")


def test_every_public_name_is_in_the_reference() -> None:
    assert build_docs.unlisted() == set()


@pytest.mark.parametrize("executor", build_docs.executors(), ids=lambda one: one.__name__)
def test_every_option_of_an_executor_says_what_it_is(executor: type) -> None:
    said = build_docs.described(executor)
    given = [field.name for field in dataclasses.fields(executor) if field.init and not field.name.startswith("_")]
    assert [name for name in given if not said.get(name)] == []


def test_options_say_since_when_they_are_there() -> None:
    rows = [row.split(" | ") for row in build_docs.options(run.SlurmExecutor).splitlines()]
    since = {row[0]: row[3] for row in rows if len(row) == 5}
    assert (since["| `partition`"], since["| `restarts`"]) == ("NeMo-Run", "1.0")


def test_every_environment_variable_that_is_read_is_told() -> None:
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    told = set(re.findall(r"[A-Za-z_0-9]+", page))
    known = {name for path in (ROOT / "nemo_run").rglob("*.py") for name in _variables(path)}
    left_out = {name for name in known - told if not name.startswith(("SLURM_", "COMP_"))}
    assert left_out == set()


def test_every_error_is_in_the_catalogue_with_what_to_do() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    told = {row[0].strip("`"): set(row[1].replace("`", "").split(", ")) for row in rows if all(row[2:])}
    assert told == {one.__name__: {base.__name__ for base in one.__bases__} for one in build_docs.error_classes()}


def _variables(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _OWN.fullmatch(node.value):
            yield node.value
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("os.environ"):
            yield from _texts(node.slice)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
            yield from _texts(node.args[0])
        elif isinstance(node, ast.Compare) and any("os.environ" in ast.unparse(one) for one in node.comparators):
            yield from _texts(node.left)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


@pytest.mark.needs("sphinx")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for other in ("0.9.0", "0.10.1"):  # built by others before
        (tmp_path / "all" / other).mkdir(parents=True)
        (tmp_path / "all" / other / "index.html").touch()
    command = [sys.executable, ROOT / "tools" / "build_docs.py", "--beside", tmp_path / "all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "all" / run.__version__
    listed = re.findall(r'href="([^"]+)"', (tmp_path / "all" / "index.html").read_text())
    assert listed == [f"{run.__version__}/index.html", "0.10.1/index.html", "0.9.0/index.html"]
    for page in ("index.html", "reference/options.html"):
        links = re.findall(r'href="([^"]+)">Other versions<', (site / page).read_text(encoding="utf-8"))
        assert [(site / page).parent.joinpath(link).resolve() for link in links] == [tmp_path / "all" / "index.html"]
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "quickstart.html", "reference/api.html", "reference/options.html", "search.html"} <= pages
    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert 'id="nemo_run.Experiment.add"' in text
    outside = {
        match
        for page in site.rglob("*.html")
        for match in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
    }
    assert outside == set()  # nothing is asked of another host
