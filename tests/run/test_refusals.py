"""An engine that refuses to tell of its jobs for a while, as when a login ran out: no job is lost by that."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ENGINE = """
    from pathlib import Path

    from nemo_run import LocalExecutor
    from nemo_run.core.execution.base import JobState
    from nemo_run.core.execution.local.backend import LocalBackend
    from nemo_run.errors import ExecutorError

    ASKED = Path("asked")


    class Moody(LocalExecutor):
        engine = "moody"


    class MoodyBackend(LocalBackend):
        name = "moody"

        def states(self, handles):
            asked = len(ASKED.read_text()) if ASKED.exists() else 0
            ASKED.write_text("x" * (asked + 1))
            if asked < 3:
                raise ExecutorError("log in again")
            return super().states(handles)
"""
LAUNCH = """
    import nemo_run as run
    from moody import Moody

    if __name__ == "__main__":
        with run.Experiment("exp", executor=Moody(packager=run.Packager())) as exp:
            exp.add(run.Script(inline="echo once >> ran; sleep 1; exit 3"), name="job0")
            exp.run()
        result = exp.results()["job0"]
        print("ended as", result.state.name, result.exit_code)
"""


def test_an_engine_that_refuses_is_asked_again(work: Path) -> None:
    (work / "moody.py").write_text(textwrap.dedent(ENGINE))
    (work / "launch.py").write_text(textwrap.dedent(LAUNCH))
    info = work / "moody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nemo_run.executors]\nmoody = moody:MoodyBackend\n")
    env = {**os.environ, "PYTHONPATH": str(work)}
    done = subprocess.run([sys.executable, "launch.py"], env=env, capture_output=True, text=True, check=False)
    assert "ended as FAILED 3" in done.stdout, done.stdout + done.stderr
    assert (work / "ran").read_text() == "once\n"
    assert len((work / "asked").read_text()) > 3
