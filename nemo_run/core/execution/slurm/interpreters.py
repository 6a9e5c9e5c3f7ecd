"""Whether the Python of function tasks can run them, as far as the login node tells. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_run.core.execution.jobs import Plan
from nemo_run.errors import ExecutorError

OLDEST = (3, 9)
"""The oldest Python that the runner of function tasks works with."""


def asked_for(plans: Sequence[Plan]) -> list[str]:
    """Return the Pythons of these plans that the login node knows of."""
    return list(dict.fromkeys(python for plan in plans if (python := plan.spec.get("python", ""))))


def check(plans: Sequence[Plan], versions: Mapping[str, str], where: str) -> None:
    """Check that function tasks can run.

    Args:
        plans: The plans.
        versions: Versions such as ``"3.9"`` by the names of Pythons; those that are not there are left out.
        where: The cluster, for messages.

    Raises:
        ExecutorError: A Python is too old, or another one than the task was pickled by.
    """
    for plan in plans:
        python = plan.spec.get("python", "")
        version = versions.get(python, "")
        if not version:  # nodes may have what the login node has not
            continue
        said = f"job {plan.job_id!r}: {python} on {where} is Python {version}"
        way_out = "name another one with python=, load one in setup_lines, or use a container or an environment="
        if tuple(map(int, version.split("."))) < OLDEST:
            raise ExecutorError(f"{said}, and function tasks need 3.{OLDEST[1]} or newer; {way_out}")
        pickled_by = _pickled_by(Path(plan.directory, "task.json"))
        if pickled_by not in ("", version):
            raise ExecutorError(
                f"{said}, but the task uses functions of the launching script, which were pickled by Python "
                f"{pickled_by}; {way_out}, or move the functions into a module that goes along"
            )


def _pickled_by(task: Path) -> str:
    try:
        return str(json.loads(task.read_bytes()).get("python", ""))
    except (OSError, ValueError):
        return ""
