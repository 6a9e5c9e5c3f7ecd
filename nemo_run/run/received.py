"""What can be seen of an experiment that was received: the logs that are among its own files."""

from __future__ import annotations

import re
from pathlib import Path

from nemo_run.core.execution.shared.attempt_files import rank_logs
from nemo_run.core.execution.shared.log_reader import EscapedLog, FileLog, LogReader
from nemo_run.errors import StoreError
from nemo_run.run.records import TaskDefinition

_ATTEMPT = re.compile(r"/attempts/(\d{1,6})(?:#\d+)?\Z", re.ASCII)


def kept_log(experiment: Path, task: TaskDefinition, handle: str, rank: int | None, tail: int | None) -> LogReader:
    """Return the log of an attempt, or of one rank of it, from the experiment's own files; its engine is not asked.

    Raises:
        StoreError: There is none, or it is not inside of the experiment.
    """
    found = _ATTEMPT.search(handle)
    attempt = experiment / task.directory / "attempts" / (found[1] if found else "1")
    path = _log_of(attempt, rank)
    try:
        is_inside = path.resolve().is_relative_to(experiment.resolve())
        is_there = is_inside and path.is_file()
    except (OSError, RuntimeError):  # a link that leads to itself
        is_there = False
    if not is_there:
        raise StoreError(
            f"{path}: no log of {task.name!r} is among the experiment's files, and the engine of an experiment that "
            f"was received is not asked; to make it yours: nemorun experiment adopt {experiment.name}"
        )
    return EscapedLog(FileLog(path, tail, top=experiment))


def _log_of(attempt: Path, rank: int | None) -> Path:
    ranks = {} if rank is None else rank_logs(attempt)
    return ranks.get(rank or 0, attempt / f"log of rank {rank}" if rank else attempt / "log")
