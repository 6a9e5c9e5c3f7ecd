"""Environments of their own for what this package is compared with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PEER = ("nemo_run==0.11.1", "leptonai==0.27.3")  # it does not start without this version of leptonai
SUBMITIT = ("submitit==1.5.3",)


def interpreter(requirements: tuple[str, ...]) -> str:
    """The interpreter of an environment that has these packages; it is made once, and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nemo-run-benchmarks")
    version = ".".join(map(str, sys.version_info[:2]))
    folder = cache / "-".join([requirements[0].replace("==", "-"), f"python{version}"])
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {', '.join(requirements)} into {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *requirements], check=True
        )
        (folder / "complete").touch()
    return str(python)
