"""How jobs ended, as it was seen from this machine: that stays true whatever becomes of their clusters.

::

    $NEMORUN_HOME/ray/ends/<submission id>.json     what Ray said of it
                          /<submission id>.log      the end of what it wrote
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_run.config.home import get_nemorun_home
from nemo_run.core.files import folder_name, make_folder, read_json, write_json, write_text
from nemo_run.core.ray.engine import KeptJob

_LARGEST = 16 << 20  # characters of a log


def write(submission_id: str, end: KeptJob) -> None:
    """Write down how a job ended, without its runtime environment, which may have secrets."""
    details, log = _paths(submission_id)
    make_folder(details.parent)
    write_text(log, end.log[-_LARGEST:].encode("utf-8", "replace"))
    write_json(details, {name: value for name, value in end.details.items() if name != "runtime_env"})


def details(submission_id: str) -> dict[str, Any] | None:
    """Return how a job ended; ``None`` where nobody here has seen it."""
    try:
        return dict(read_json(_paths(submission_id)[0]))
    except FileNotFoundError:
        return None


def log(submission_id: str) -> str:
    """Return the end of what a job wrote that has ended; empty where nobody here has seen it."""
    try:
        return _paths(submission_id)[1].read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _paths(submission_id: str) -> tuple[Path, Path]:
    path = Path(get_nemorun_home(), "ray", "ends", folder_name(submission_id))
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.log")
