"""Real services for tests: an SSH server, a Slurm cluster. Nothing of them is reached from outside of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path


def installed(programs: tuple[str, ...], packages: tuple[str, ...]) -> bool:
    """Are these programs there? In CI, as root, they are installed first."""

    def there() -> bool:
        return all(shutil.which(name) or Path("/usr/sbin", name).exists() for name in programs)

    if not there() and os.environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wait = "-oDPkg::Lock::Timeout=300"
        subprocess.run(["apt-get", wait, "update", "-q"], capture_output=True, check=False, env=env)
        install = ["apt-get", wait, "install", "-y", "-q", "--no-install-recommends", *packages]
        subprocess.run(install, capture_output=True, check=False, env=env)
    return there()


def processes_with(variable: str) -> list[int]:
    """Processes that have this environment variable; not this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (path / "environ").read_bytes().split(b"\0") and int(path.name) != os.getpid():
                found.append(int(path.name))
    return found
