"""Does what the README of an example says, as somebody would who has copied its folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.docs import markdown
from tests.docs.running import Reader

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))
ELSEWHERE = {"slurm cluster": "slurm", "docker": "docker", "ray": "ray"}
"""What is run by `tests/FOLDER/test_example.py`, where its engine is started."""


def needs(name: str) -> list[str]:
    """Return what an example needs."""
    return markdown.needs((EXAMPLES / name / "README.md").read_text(encoding="utf-8"))


def run_readme(name: str, into: Path, environment: Mapping[str, str]) -> None:
    """Run the blocks of the README in a copy of the example, with an empty home."""
    folder = into / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    Reader(folder, environment=environment).page(folder / "README.md")
