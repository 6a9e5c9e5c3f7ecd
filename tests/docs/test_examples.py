"""Every example does what its README says, and is listed.

Those on an engine run where the tests of that engine start it, see `tests/docs/examples.py`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs import markdown
from tests.docs.examples import ELSEWHERE, EXAMPLES, NAMES, needs, run_readme
from tests.docs.running import Reader

HERE = [name for name in NAMES if not set(needs(name)) & set(ELSEWHERE)]

QUIET = {"long_training", "torch_two_nodes", "nohup_executor"}
"""PyTorch and pip are warned of what they use themselves."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(*needs(name))) for name in HERE])
def test_it_does_what_its_readme_says(name: str, tmp_path: Path) -> None:
    run_readme(name, tmp_path, {"PYTHONWARNINGS": "ignore"} if name in QUIET else {})


@pytest.mark.needs("scikit-learn")
def test_the_sweep_does_what_the_list_says(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "digits_sweep.py", tmp_path)
    Reader(tmp_path).page(EXAMPLES / "README.md")


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(HERE)))
def test_it_is_run_where_its_engine_is(name: str) -> None:
    [folder] = {ELSEWHERE[thing] for thing in needs(name) if thing in ELSEWHERE}
    code = (EXAMPLES.parent / "tests" / folder / "test_example.py").read_text(encoding="utf-8")
    assert f'run_readme("{name}"' in code


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_has_something_to_run(name: str) -> None:
    found = list(markdown.blocks((EXAMPLES / name / "README.md").read_text(encoding="utf-8")))
    assert any(block.language == "bash" and block.not_run is None for block in found)
    assert any(block.is_output for block in found)


def test_all_of_them_are_listed() -> None:
    listed = re.findall(r"^\| \[[^]]+\]\(([^)]+)\) \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.M)
    there = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("README", "__", "."))}
    assert len(listed) == len(set(listed))
    assert {name.strip("/") for name in listed} == there
    assert len(there) >= 12
