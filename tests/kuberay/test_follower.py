"""The script that follows a job in a pod of its own, where nobody submits one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nemo_run.core.ray import follower
from nemo_run.core.tunnel.ssh import free_port


def test_it_gives_up_where_no_job_comes() -> None:
    script = Path(follower.__file__).read_text(encoding="utf-8")
    env = {**os.environ, "RAY_DASHBOARD_ADDRESS": f"127.0.0.1:{free_port()}", "RAY_JOB_SUBMISSION_ID": "late"}
    done = subprocess.run([sys.executable, "-c", script, "0.1"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "given up: job 'late' was not submitted within 0.1 s\n"
