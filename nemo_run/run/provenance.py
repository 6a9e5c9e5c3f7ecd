"""What is recorded about a launch, beside its configuration."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any

from nemo_run.core.masking import masked_arguments
from nemo_run.run.code import installed_packages


def collect() -> dict[str, Any]:
    """Return who launches, where, and with what."""
    packages, system = installed_packages(), os.uname()
    return {
        "user": _user(),
        "host": system.nodename,
        "platform": f"{system.sysname}-{system.release}-{system.machine}",
        "cwd": str(Path.cwd()),
        "argv": masked_arguments(sys.argv),
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "pid": os.getpid(),
        "nemo_run": packages.get("nemo-run", "unknown"),
        "packages": packages,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return str(os.getuid())
