"""The example of a Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.examples import run_readme


@pytest.mark.needs("ray")
def test_the_cluster(tmp_path: Path) -> None:
    run_readme("ray_cluster", tmp_path, {})
