"""What is run around an elastic launcher, with a small program in the launcher's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nemo_run.core.runners import elastic

AGENT = """
import subprocess, sys
print("loads", flush=True)
input()
worker = "import nemo_run as run; print(run.stopping(), run.stopping())"
subprocess.run([sys.executable, "-c", worker], check=True)
"""


def test_a_notice_that_comes_before_there_are_workers_is_handed_on(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    command = [sys.executable, "-c", Path(elastic.__file__).read_text(), "agent"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "loads\n"
        os.kill(agent.pid, signal.SIGUSR1)
        said, _ = agent.communicate("go on\n")
    assert said == "True True\n"
