"""All experiments in one line each, read again only where files have changed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

from nemo_run.run import catalog
from nemo_run.run.overview import overview
from nemo_run.ui import reading
from nemo_run.ui.reading import Document

_FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "DAMAGED")


class ListChange(NamedTuple):
    """What is different since the last time."""

    rows: list[Document]
    gone: list[str]


class Listing:
    """The experiments of a home, as they were when they were last looked at."""

    def __init__(self, base: str | None = None) -> None:
        """Begin with nothing.

        Args:
            base: Folder in place of the NeMo-Run home.
        """
        self._base = base
        self._titles: dict[str, tuple[int, dict[str, str]]] = {}  # folders of titles: when changed, and what is in them
        self._rows: dict[str, tuple[int, Document]] = {}
        self._words: dict[str, tuple[int, Document]] = {}
        self._lock = threading.Lock()

    def rows(self) -> list[Document]:
        """Return all experiments, the newest first, as last looked at; look where nobody ever has."""
        if not self._rows:
            self.refresh()
        return sorted((row for _, row in self._rows.values()), key=lambda one: (one["created"] or 0, one["id"]))[::-1]

    def refresh(self) -> ListChange:
        """Look again, and return what has changed."""
        with self._lock:
            found = self._folders()
            gone = [one for one in self._rows if one not in found]
            for one in gone:
                del self._rows[one]
            changed = [row for one, path in found.items() if (row := self._looked(one, path))]
            return ListChange(changed, gone)

    def words(self, experiment_id: str) -> Document:
        """Return what an experiment is searched by; kept as long as its folder does not change."""
        changed = self._rows[experiment_id][0] if experiment_id in self._rows else -1
        kept = self._words.get(experiment_id)
        if kept is None or kept[0] != changed:
            kept = (changed, reading.search_words(catalog.find(experiment_id, self._base)))
            self._words[experiment_id] = kept
        return kept[1]

    def _looked(self, one: str, path: str) -> Document | None:
        """Return the row of an experiment, where it is not what it was."""
        try:
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116  # of thousands: no Path
        except OSError:
            return None
        before = self._rows.get(one)
        if before and before[0] == changed and (before[1]["state"] or "DAMAGED") in _FINAL:
            return None
        row = reading.row(overview(catalog.store_of(Path(path))))
        self._rows[one] = (changed, row)
        return row if before is None or before[1] != row else None

    def _folders(self) -> dict[str, str]:
        """Return the folders of all experiments by their ids; those of titles are listed where they have changed."""
        try:
            with os.scandir(catalog.experiments_root(self._base)) as entries:
                titles = {entry.path: entry.stat().st_mtime_ns for entry in entries if entry.is_dir()}
        except OSError:
            return {}
        for folder, changed in titles.items():
            if self._titles.get(folder, (None,))[0] != changed:
                launched = catalog.launched_in(folder)
                complete = len(launched) == sum(not name.startswith(".") for name in _names(folder))
                # One that is being prepared will be launched without a change of this folder: look again next time.
                self._titles[folder] = (changed if complete else -1, launched)
        for folder in self._titles.keys() - titles.keys():
            del self._titles[folder]
        return {one: path for _, of_title in self._titles.values() for one, path in of_title.items()}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
