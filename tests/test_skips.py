"""A test that is skipped is told; in CI it fails the run, unless CI cannot have what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS = "def test(): pass\n"
SKIPS = "import pytest\n\ndef test(): pytest.skip('no time')\n"
NOT_COLLECTED = "import pytest\npytest.importorskip('no_such_package')\n"
NEEDS = "import pytest\n\n@pytest.mark.needs('{}')\ndef test(): pass\n"
MACHINE = """
from tests.conftest import THINGS, Thing
THINGS.update({
    "python": Thing(lambda: True, "install it"),
    "unicorn": Thing(lambda: False, "dream of it"),
    "unprivileged user": Thing(lambda: False, "be one"),
})
"""


def run_tests(folder: Path, tests: dict[str, str], ci: str) -> tuple[int, str]:
    """Exit code and output of pytest over files of tests."""
    for name, code in {"conftest.py": MACHINE, **tests}.items():
        (folder / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", ".", "-c", os.devnull, "."],
        cwd=folder,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


HIDDEN = "skipped, though this machine can run it"


@pytest.mark.parametrize("code", [SKIPS, NOT_COLLECTED])
def test_a_skip_that_hides_a_test_fails_in_ci(tmp_path: Path, code: str) -> None:
    exit_code, report = run_tests(tmp_path, {"test_first.py": RUNS, "test_second.py": code}, ci="true")
    assert exit_code == 1
    assert HIDDEN in report


def test_it_is_loud_elsewhere(tmp_path: Path) -> None:
    exit_code, report = run_tests(tmp_path, {"test_first.py": RUNS, "test_second.py": SKIPS}, ci="")
    assert exit_code == 0
    assert HIDDEN in report


@pytest.mark.parametrize(
    ("thing", "ci", "exit_code", "outcome"),
    [
        ("python", "true", 0, "2 passed"),
        ("unicorn", "", 0, "1 passed, 1 skipped"),
        ("unicorn", "true", 1, "this machine lacks: unicorn; CI must have it"),
        ("unprivileged user", "true", 0, "1 passed, 1 skipped"),  # CI is root
    ],
)
def test_what_a_machine_may_lack(tmp_path: Path, thing: str, ci: str, exit_code: int, outcome: str) -> None:
    tests = {"test_first.py": RUNS, "test_second.py": NEEDS.format(thing)}
    code, report = run_tests(tmp_path, tests, ci=ci)
    assert code == exit_code
    assert outcome in report
    assert HIDDEN not in report


def test_what_a_machine_lacks_is_told_once_with_how_to_have_it(tmp_path: Path) -> None:
    tests = {"test_first.py": RUNS, "test_second.py": NEEDS.format("unicorn"), "test_third.py": NEEDS.format("unicorn")}
    _, report = run_tests(tmp_path, tests, ci="")
    assert "NOT TESTED: this machine lacks" in report
    assert "unicorn: 2 tests skipped; to have it: dream of it" in report
