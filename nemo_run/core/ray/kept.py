"""What is kept of a Ray job whose cluster has ended, in the folder of an attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_run.core.files import write_json

JOBS = "jobs"
"""Folder in which the details and the log of every job lie."""


def keep_details(folder: Path, job: str, details: dict[str, Any]) -> None:
    """Write down how a job ended, without its runtime environment, which may have secrets."""
    folder.mkdir(mode=0o700, exist_ok=True)
    write_json(folder / f"{job}.json", {name: value for name, value in details.items() if name != "runtime_env"})
