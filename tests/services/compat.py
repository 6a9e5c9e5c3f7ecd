"""An environment with the extra ``compat``, of its own: TorchX wants an old urllib3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-run-tests" / "compat-1"
PYTHON = _FOLDER / "bin" / "python"
_DONE = _FOLDER / "installed"


def available() -> bool:
    """Is it there? In CI, it is installed first; on your machine, ``CI=true`` does that once."""
    if not _DONE.exists() and os.environ.get("CI") == "true":
        subprocess.run([sys.executable, "-m", "venv", "--clear", _FOLDER], capture_output=True, check=False)
        install = [PYTHON, "-m", "pip", "install", "--quiet", f"{ROOT}[compat]"]
        if PYTHON.exists() and subprocess.run(install, capture_output=True, check=False).returncode == 0:
            _DONE.touch()
    return _DONE.exists()
