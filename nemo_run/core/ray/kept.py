"""What is kept of Ray jobs, as it happens, in the folder of an attempt: their clusters may end at any moment."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nemo_run.core.files import read_json, write_json
from nemo_run.core.ray.engine import KeptJob
from nemo_run.core.ray.jobs_api import FINAL, text_of

JOBS = "jobs"
"""Folder in which the details and the log of every job lie."""

_PREFIX = "job-driver-"  # of the names that Ray gives the logs


def keep_details(folder: Path, job: str, details: dict[str, Any]) -> None:
    """Write down how a job is, without its runtime environment, which may have secrets."""
    folder.mkdir(mode=0o700, exist_ok=True)
    write_json(folder / f"{job}.json", {name: value for name, value in details.items() if name != "runtime_env"})


def keep_logs(logs: Path, folder: Path, job: str = "*") -> None:
    """Copy the log of a job, by default of all, out of Ray's own folder."""
    for log in logs.glob(f"{_PREFIX}{job}.log"):
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(OSError):  # Ray's folder may be deleted meanwhile
            shutil.copyfile(log, folder / log.name.removeprefix(_PREFIX))


class Keeper:
    """Writes down how the jobs of a cluster are, each time that it changes."""

    def __init__(self, folder: Path, logs: Path) -> None:
        """Keep what is said of jobs in a folder, and their logs, which Ray writes into another one."""
        self._folder, self._logs = folder, logs
        self._known: dict[str, str] = {}

    def note(self, jobs: Iterable[dict[str, Any]]) -> None:
        """Write down what is new."""
        for job in jobs:
            name, status = job["submission_id"], job["status"]
            if self._known.get(name) == status:
                continue
            if status in FINAL:
                keep_logs(self._logs, self._folder, name)
            keep_details(self._folder, name, job)
            self._known[name] = status


def ended_with(details: dict[str, Any], why: str) -> dict[str, Any]:
    """Return how a job is whose cluster has ended: a final state stays; another one ended with the cluster.

    Args:
        details: The job, as it was known last.
        why: Why the cluster failed; empty where it was stopped.

    >>> ended_with({"status": "RUNNING", "end_time": 5}, "the head died")
    {'status': 'FAILED', 'end_time': 5, 'message': 'its cluster ended while it ran: the head died'}
    """
    if details["status"] in FINAL:
        return details
    message = f"its cluster ended while it ran: {why}" if why else "the cluster was stopped"
    end = details.get("end_time") or int(time.time() * 1000)
    return {**details, "status": "FAILED" if why else "STOPPED", "end_time": end, "message": message}


def read_kept(folder: Path, logs: Path, job: str, why: str) -> KeptJob | None:
    """Return what was kept of a job; of one whose end nobody saw, that it ended with its cluster.

    Args:
        folder: Where it was kept.
        logs: Ray's own folder, which is still there when a cluster was killed.
        job: Submission id of the job.
        why: Why the cluster failed; empty where it was stopped.
    """
    details, log = folder / f"{job}.json", folder / f"{job}.log"
    newest = logs / f"{_PREFIX}{job}.log"
    found = next((path for path in (newest, log) if path.exists()), None)
    text = text_of(found.read_bytes()) if found else ""
    if not details.exists() and not found:
        return None
    known = read_json(details) if details.exists() else {"status": "RUNNING", "end_time": _modified(found)}
    return KeptJob(ended_with(known, why), text)


def _modified(path: Path | None) -> int | None:
    return int(path.stat().st_mtime * 1000) if path else None
