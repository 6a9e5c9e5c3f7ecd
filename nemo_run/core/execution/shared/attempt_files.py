"""What an attempt leaves in its folder, where an engine's tasks write to the files of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.launcher import RANK_LOGS
from nemo_run.core.execution.shared.log_reader import FileLog
from nemo_run.core.inside import copy_linked
from nemo_run.errors import ArtifactsLeftOutError, ExecutorError


def attempt_folder(plan: Plan, attempt: int) -> Path:
    """Return the folder of an attempt, in that of its job."""
    return Path(plan.directory, "attempts", str(attempt))


def final_status(end: Mapping[str, Any]) -> TaskStatus:
    """Return how an attempt ended, from what ``exit.json`` says."""
    if end["cancelled"]:
        state = JobState.CANCELLED
    else:
        state = JobState.SUCCEEDED if end["exit_code"] == 0 and not end["reason"] else JobState.FAILED
    where, lost, cause = end.get("node", ""), end.get("lost", False), str(end.get("cause", ""))
    return TaskStatus(state, end["exit_code"], end["reason"], end["started"], end["ended"], where, lost, cause=cause)


def rank_logs(attempt: Path) -> dict[int, Path]:
    """Return the logs of single ranks that a launcher left."""
    paths = sorted((attempt / RANK_LOGS).glob("*/attempt_*/*/stdout.log"), key=os.path.getmtime)
    return {int(path.parent.name): path for path in paths}  # of a restarted rank the newest counts


def open_log(attempt: Path, rank: int | None = None, tail: int | None = None) -> FileLog:
    """Return the log of an attempt, or of one rank of it; from its last ``tail`` lines on.

    Raises:
        ExecutorError: There is no such rank.
    """
    path = attempt / "log"
    if rank is not None:
        logs = rank_logs(attempt)
        if rank not in logs and (rank != 0 or logs):
            raise ExecutorError(f"rank {rank} has no log; ranks with one: {', '.join(map(str, sorted(logs))) or '0'}")
        path = logs.get(rank, path)
    return FileLog(path, tail, top=attempt)


def copy_matching(cwd: Path, patterns: Sequence[str], folder: Path, *, within: Path | None = None) -> None:
    """Copy the files below a task's working directory that match one of the patterns.

    Args:
        cwd: The working directory.
        patterns: The patterns.
        folder: Where the copies go; nothing is written through a link in it.
        within: Links are followed as long as they lead to files below this folder; by default the working directory.

    Raises:
        ArtifactsLeftOutError: Some files were not copied; the others were.
    """
    refused: dict[str, str] = {}
    for path in (path for pattern in patterns for path in cwd.glob(pattern) if path.is_file()):
        name = path.relative_to(cwd)
        try:
            copy_linked(path, within or cwd, folder, name)
        except OSError as e:
            refused[str(name)] = str(e.strerror)
    if refused:
        raise ArtifactsLeftOutError(refused)
