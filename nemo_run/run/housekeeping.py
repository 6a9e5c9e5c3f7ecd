"""Deleting past experiments; nothing that runs or is driven is ever touched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from nemo_run.core.execution.jobs import JobState
from nemo_run.errors import ExperimentBusyError, NemoRunError
from nemo_run.run import catalog
from nemo_run.run.progress import current_progress
from nemo_run.run.store import ExperimentStore


def delete(store: ExperimentStore) -> None:
    """Delete an experiment with its logs and artifacts.

    Raises:
        ExperimentBusyError: It is driven, or a job of it runs.
        StoreError: Its files are damaged, so that this cannot be known.
    """
    store.must_be_of_this_program("deleted")
    progress = current_progress(store, store.read_definition())
    running = [name for name, job in progress.items() if _runs(job.state)]
    if running:
        raise ExperimentBusyError(
            f"experiment {store.id!r} is not deleted: {', '.join(running[:3])} may still run; {_how_to_end(store)}"
        )
    store.delete()


def _how_to_end(store: ExperimentStore) -> str:
    if store.is_received:
        return f"it was received, and nobody is asked: adopt it first, or remove its folder: {store.path}"
    return f"cancel it first: nemorun experiment cancel {store.id}"


def _runs(state: JobState) -> bool:
    return not state.is_final and state is not JobState.UNSUBMITTED


def size_of(folder: Path) -> int:
    """Return the bytes that the files below a folder take on the disk, each once, as far as they can be read."""
    total, seen = 0, set[tuple[int, int]]()
    for place, _, names in os.walk(folder, onerror=None):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(Path(place, name))
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


def prune(older_than: float, title: str = "", base: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Delete the experiments that were launched long ago.

    Args:
        older_than: Age in seconds.
        title: Only those with this title.
        base: Folder in place of the NeMo-Run home.

    Returns:
        Ids of those that were deleted, and why others that are old enough were not.
    """
    old, unreadable = launched_before(time.time() - older_than, title, base)
    deleted, kept = delete_all(old, base)
    return deleted, unreadable | kept


def launched_before(limit: float, title: str = "", base: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the ids of the experiments that were launched before a time, and why of others this is not known."""
    found: list[str] = []
    unreadable: dict[str, str] = {}
    for experiment_id in catalog.ids(title, base):
        try:
            store = catalog.find(experiment_id, base)
            if store.read_definition().created < limit:
                store.must_be_of_this_program("deleted")
                found.append(experiment_id)
        except NemoRunError as e:
            unreadable[experiment_id] = str(e)
    return found, unreadable


def delete_all(ids: Iterable[str], base: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Delete experiments; ids of those that were deleted, and why others were not."""
    deleted: list[str] = []
    kept: dict[str, str] = {}
    for experiment_id in ids:
        try:
            delete(catalog.find(experiment_id, base))
            deleted.append(experiment_id)
        except NemoRunError as e:
            kept[experiment_id] = str(e)
    return deleted, kept
