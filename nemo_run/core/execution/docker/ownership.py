"""Files that the user of a container leaves in a job's folder are given to the user who launched it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_run.config.home import RUNDIR_NAME

_JOB, _OWNER = f"/{RUNDIR_NAME}", f"/{RUNDIR_NAME}_owner"

# The owner's number is asked for inside: an engine without root's rights, or with a user namespace, has other numbers.
_SHELL = f"""\
command -v chown >/dev/null || exec python3 -c "$1"
set -- $(ls -nd {_OWNER}); exec chown -hR "$3:$4" {_JOB}"""
_PYTHON = (
    "import os\n"
    f"owner=os.stat({_OWNER!r})\n"
    f"for top,folders,files in os.walk({_JOB!r}):\n"
    "    for path in (top,*(os.path.join(top,name) for name in folders+files)):\n"
    "        os.lchown(path,owner.st_uid,owner.st_gid)\n"
)


def is_foreign(job: Path) -> bool:
    """Return whether files of a job are another user's than the experiment, so that its owner cannot remove them."""
    owner = job.parent.stat().st_uid
    if owner == 0:
        return False
    return any(
        os.lstat(path).st_uid != owner
        for top, folders, files in os.walk(job)
        for path in (top, *(os.path.join(top, name) for name in (*folders, *files)))  # noqa: PTH118
    )


def last_container(job: Path, command: list[str]) -> Mapping[str, Any]:
    """Return the arguments of a container that hands over all files of a job; it has nothing else.

    Args:
        job: The folder of the job.
        command: The command of the task, which tells whether the image has a shell.
    """
    python = command[:2] == ["python3", "-c"]
    return {
        "entrypoint": ["python3", "-c", _PYTHON] if python else ["/bin/sh", "-c", _SHELL, "sh", _PYTHON],
        "user": "0",
        "network_mode": "none",
        "mounts": [
            {"Type": "bind", "Source": str(job), "Target": _JOB, "ReadOnly": False},
            {"Type": "bind", "Source": str(job.parent), "Target": _OWNER, "ReadOnly": True},
        ],
    }
