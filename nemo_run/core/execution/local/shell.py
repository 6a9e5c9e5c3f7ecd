"""A shell, or another program, as a task of this machine would run it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.local import supervisor, system
from nemo_run.errors import ExecutorError


class RunsBeside:
    """What a backend of this machine offers for work beside a task."""

    def run_beside(self, plan: Plan, handle: str, argv: Sequence[str], rank: int = 0) -> int:
        """Run a program with the variables and in the folder of a task."""
        return run_like(plan, Path(handle.partition("://")[2]), argv)


def run_like(plan: Plan, folder: Path, argv: Sequence[str]) -> int:
    """Run a program with the variables and in the folder that a task which runs now was given."""
    living = supervisor.members(str(folder))
    if not living:
        raise ExecutorError(f"job {plan.job_id!r}: no process of it runs now")
    environment = {**os.environ, **plan.spec.get("env", {})}
    leader = supervisor.task_of(str(folder)).get("pid")
    if leader in living and (found := system.environment_of(leader)):
        environment = {"TERM": os.environ.get("TERM", "dumb"), **found}
    program = list(argv) or [os.environ.get("SHELL") or shutil.which("bash") or "/bin/sh"]
    try:
        done = subprocess.run(program, check=False, cwd=plan.spec.get("cwd") or None, env=environment)
    except OSError as e:
        raise ExecutorError(f"{program[0]!r} cannot be started: {e.strerror}") from e
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
