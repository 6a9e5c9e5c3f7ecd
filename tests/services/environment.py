"""Virtual environments beside that of the tests, for what cannot be installed into it; kept from run to run."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-run-tests"


def folder(name: str) -> Path:
    """Return where the environment of this name is, or will be."""
    return CACHE / name


def python(name: str) -> Path:
    """Return the Python of an environment."""
    return folder(name) / "bin" / "python"


def available(name: str, *packages: str) -> bool:
    """Is it there? In CI, it is made first; on your machine, ``CI=true`` does that once."""
    done = folder(name) / "installed"
    if not done.exists() and os.environ.get("CI") == "true":
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several processes share the tests
            if not done.exists():
                _make(name, packages)
    return done.exists()


def _make(name: str, packages: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder(name)], capture_output=True, check=False)
    install = [python(name), "-m", "pip", "install", "--quiet", *packages]
    if python(name).exists() and subprocess.run(install, capture_output=True, check=False).returncode == 0:
        (folder(name) / "installed").touch()


def own_requirements() -> list[str]:
    """Return what this package needs by itself."""
    from importlib import metadata

    return [line for line in metadata.requires("nemo-run") or [] if "extra ==" not in line]
