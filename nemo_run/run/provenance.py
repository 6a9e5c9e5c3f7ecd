"""What is recorded about a launch, beside its configuration."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

from nemo_run.core.masking import masked_arguments
from nemo_run.run.code import installed_packages


def collect() -> dict[str, Any]:
    """Return who launches, where, and with what."""
    packages = installed_packages()
    return {
        "user": _user(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cwd": str(Path.cwd()),
        "argv": masked_arguments(sys.argv),
        "python": platform.python_version(),
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
