"""The fault-tolerant launcher, with the real nvidia-resiliency-ext."""

from __future__ import annotations

from pathlib import Path

import pytest

import nemo_run as run

pytestmark = pytest.mark.needs("nvidia-resiliency-ext")

FAIL_ONCE = """
import os, pathlib, sys
mark = pathlib.Path(sys.argv[1], f"tried-{os.environ['RANK']}")
first = not mark.exists()
mark.touch()
print("first" if first else "again", "on rank", os.environ["RANK"], flush=True)
sys.exit(first and os.environ["RANK"] == "0")
"""


def test_processes_are_restarted_in_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "fail_once.py"
    script.write_text(FAIL_ONCE)
    executor = run.LocalExecutor(ntasks_per_node=2, launcher=run.FaultTolerance(max_restarts=1))
    result = run.run(run.Script(str(script), args=[str(tmp_path)], entrypoint="python"), executor=executor, name="ft")
    assert result is not None
    assert result.ok
    assert "again on rank 0" in capfd.readouterr().out
