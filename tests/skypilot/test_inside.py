"""Runs the tests of ``inside/`` where SkyPilot is: in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.services import skypilot

_INSIDE = Path(__file__).with_name("inside")


@pytest.mark.needs("skypilot")
@pytest.mark.parametrize("module", sorted(path.name for path in _INSIDE.glob("test_*.py")))
def test_inside(module: str) -> None:
    if skypilot.is_inside():
        return  # pytest finds them by itself
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    argv = [skypilot.ENVIRONMENT / "bin" / "python", "-m", "pytest", "-p", "no:cacheprovider", str(_INSIDE / module)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env=environment, cwd=Path.cwd(), timeout=1800
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
