"""NVIDIA's NeMo-Run, in a virtual environment of its own: it is imported by the same name as ours."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

VERSION = "0.11.1"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-run-tests"
_FOLDER = _CACHE / f"nemo-run-{VERSION}"
PYTHON = _FOLDER / "bin" / "python"
_DONE = _FOLDER / "installed"
# The version of Lepton's SDK that it was released with; it is imported with the package itself.
_PACKAGES = (f"nemo_run=={VERSION}", "leptonai==0.27.3")


def available() -> bool:
    """Is it there? In CI, it is installed first; on your machine, ``CI=true`` does that once."""
    if not _DONE.exists() and os.environ.get("CI") == "true":
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / f"nemo-run-{VERSION}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # several processes may share the tests
            if not _DONE.exists():
                _install()
    return _DONE.exists()


def _install() -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", _FOLDER], capture_output=True, check=False)
    install = [PYTHON, "-m", "pip", "install", "--quiet", *_PACKAGES]
    if PYTHON.exists() and subprocess.run(install, capture_output=True, check=False).returncode == 0:
        _DONE.touch()
