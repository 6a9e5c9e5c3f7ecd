#!/usr/bin/env python3
"""Runs all tests; what failed is run once more, by itself, and fails for good if it fails again.

Tests of real engines wait for them, and a machine may be slow for reasons of its own.  Which tests needed a second run
stands at the very end, before the closing line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 4  # tests of engines wait more than they compute
PYTEST = [sys.executable, "-m", "pytest", "-q", "--timeout=1200"]  # what hangs fails after 20 minutes
SOME_FAILED = 1  # pytest's exit code


def failed() -> list[str]:
    """Return the tests that failed in the last run, without the names of their groups."""
    path = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return sorted({re.sub(r"@[a-z]+$", "", name) for name in json.loads(path.read_text(encoding="utf-8"))})


def counts(report: Path) -> dict[str, int]:
    """Return how many tests there were, failed, and were skipped, from a JUnit report."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314  # pytest wrote it
    return {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def main() -> int:
    """Run them; the exit code of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        report, again = Path(folder, "report.xml"), Path(folder, "again")
        distributed = [f"--numprocesses={PROCESSES}", f"--junitxml={report}"]
        code = subprocess.run([*PYTEST, *distributed], cwd=ROOT, check=False).returncode
        if code not in (0, SOME_FAILED):
            return code
        number, second = counts(report), []
        if code == SOME_FAILED:
            second = failed()
            print(f"\nonce more, what failed ({len(second)}):", flush=True)
            again.write_text("\n".join(second), encoding="utf-8")
            code = subprocess.run([*PYTEST, f"@{again}"], cwd=ROOT, check=False).returncode
    still = failed() if code else []
    if flaky := [name for name in second if name not in still]:
        print("\nneeded a second run:", *flaky, sep="\n  ")
    if code:
        print("\nfailed twice:", *still, sep="\n  ")
    passed = number["tests"] - number["skipped"] - len(still)
    print(f"\n{passed} passed, {len(still)} failed, {number['skipped']} skipped", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
