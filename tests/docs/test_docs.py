"""Every block of the README and of the guides does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nemo_run
from tests.docs import markdown
from tests.docs.running import Reader
from tests.services import trackers

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "site")]

IDS = [str(page.relative_to(ROOT)) for page in PAGES]
pages = pytest.mark.parametrize("page", PAGES, ids=IDS)
pages_with_needs = pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.needs(*markdown.needs(page.read_text(encoding="utf-8")))) for page in PAGES],
    ids=IDS,
)


@pages_with_needs
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    with_trackers = "trackers" in markdown.needs(page.read_text(encoding="utf-8"))
    (with_trackers_of(tmp_path) if with_trackers else Reader(tmp_path)).page(page)


def with_trackers_of(folder: Path) -> Reader:
    """Return someone who has trackers, whose packages warn of each other."""
    variables = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return Reader(folder, environment=variables, interpreter=str(trackers.PYTHON))


@pages
def test_a_reader_has_all_that_an_example_uses(page: Path) -> None:
    """Also where it is not run here: every name is defined or imported in it, every file is named beside it."""
    for block in markdown.blocks(page.read_text(encoding="utf-8")):
        assert block.file is None or f"`{block.file}`" in block.beside, f"line {block.line}: {block.file}"
        assert block.language != "python" or markdown.unbound(block.code) == set(), f"line {block.line}"


@pages
def test_links_lead_somewhere(page: Path) -> None:
    local = [link.partition("#")[0] for link in markdown.links(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


@pages
def test_named_files_are_there(page: Path) -> None:
    named = set(re.findall(r"`((?:nemo_run|tests|examples|docs)/[^`\s]+)`", page.read_text(encoding="utf-8")))
    package = Path(nemo_run.__file__).parents[1]  # the checkout, or where it is installed
    for file, _, test in (name.partition("::") for name in named):
        path = (package if file.startswith("nemo_run/") else ROOT) / file
        assert path.exists()
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), test


def test_the_reader_of_markdown() -> None:
    text = "\n".join(
        (
            "[a](b.md)",
            "<!-- file: x.py -->",
            "```python",
            "[1](2)",
            "```",
            "words <!-- other -->",
            "",
            "```bash",
            "z",
            "```",
            "<!-- output -->",
            "```text",
            "```",
            "<!-- not run here: why -->",
            "```bash",
            "```",
            "<!-- needs: a thing, ray -->",
        )
    )
    found = list(markdown.blocks(text))
    assert found[0].beside == "[a](b.md)\nwords <!-- other -->"
    assert found == [
        markdown.Block("python", "[1](2)\n", 4, file="x.py"),
        markdown.Block("bash", "z\n", 9),
        markdown.Block("text", "", 13, is_output=True),
        markdown.Block("bash", "", 16, not_run="why"),
    ]
    assert markdown.links(text) == ["b.md"]
    assert markdown.needs(text) == ["a thing", "ray"]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\nb\n", "x\na\ny\nb  \n", True),
        ("a\nb\n", "b\na\n", False),
        ("took ... s\n", "took 1.5 s\n", True),
        ("took ... s\n", "took 1.5 m\n", False),
    ],
)
def test_the_comparison_of_output(expected: str, printed: str, same: bool) -> None:
    assert markdown.prints(expected, printed) is same


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"exit code 3:\nsome words"):
        Reader(tmp_path).bash("echo some words; (exit 3); echo never", "block")
