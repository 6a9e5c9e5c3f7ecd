"""What is tracked where, as it is stored with an experiment; and how far forwarding has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_run.core.files import folder_name, make_folder, parse_json, read_object, write_json
from nemo_run.errors import StoreError
from nemo_run.run.plugin import ExperimentPlugin
from nemo_run.run.store import ExperimentStore
from nemo_run.run.trackers.plugins import TrackerPlugin

FILE = "trackers.json"
FOLDER = "trackers"
"""Folder of an experiment with what forwarding keeps, a folder for each tracker."""


@dataclass(frozen=True)
class Tracking:
    """A tracker, and the jobs that it keeps.

    Attributes:
        kind: Which tracker.
        settings: The settings of its plugin.
        jobs: Ids of the jobs.
    """

    kind: str
    settings: Mapping[str, Any]
    jobs: tuple[str, ...]


@dataclass
class Forwarded:
    """How far the metrics of a task have been forwarded to a tracker.

    Attributes:
        run: The tracker's id of the run; empty before it has one.
        offset: Bytes of the file of metrics that the tracker has.
        lines: Lines of it that the tracker has.
        head: Digest of the first line: another one begins another file.
        ended: The attempt of which all was forwarded, its end as well; 0 where there is none.
    """

    run: str = ""
    offset: int = 0
    lines: int = 0
    head: str = ""
    ended: int = 0


def trackings(plugins: Iterable[tuple[str, ExperimentPlugin]], known: Iterable[Tracking] = ()) -> list[Tracking]:
    """Return what is tracked where: jobs with the same settings have one tracker.

    Args:
        plugins: Ids of jobs with their plugins, of which some are for trackers.
        known: What was stored before.
    """
    found: list[tuple[str, Mapping[str, Any], dict[str, None]]] = []
    every = [(one.kind, one.settings, one.jobs) for one in known]
    every += [(one.KIND, one.settings(), (job,)) for job, one in plugins if isinstance(one, TrackerPlugin)]
    for kind, settings, jobs in every:
        same = next((its for known_kind, known, its in found if (known_kind, known) == (kind, settings)), None)
        if same is None:
            found.append((kind, settings, dict.fromkeys(jobs)))
        else:
            same.update(dict.fromkeys(jobs))
    return [Tracking(kind, settings, tuple(jobs)) for kind, settings, jobs in found]


def write_trackings(store: ExperimentStore, found: Sequence[Tracking]) -> None:
    """Store what is tracked where, if anything is."""
    if found:
        write_json(store.path / FILE, [asdict(one) for one in found])


def read_trackings(store: ExperimentStore) -> list[Tracking]:
    """Return what is tracked where.

    Raises:
        StoreError: The file is damaged.
        ReceivedExperimentError: It is not what this user launched.
    """
    try:
        documents = parse_json(store.path / FILE, store.ownership.read(FILE))
    except FileNotFoundError:
        return []
    try:
        return [Tracking(str(one["kind"]), dict(one["settings"]), tuple(map(str, one["jobs"]))) for one in documents]
    except (TypeError, KeyError, ValueError) as e:
        raise StoreError(f"{store.path / FILE}: the file is damaged ({e!r})") from e


class Marks:
    """The files in which forwarding to one tracker notes how far it has come."""

    def __init__(self, store: ExperimentStore, index: int) -> None:
        self.folder = make_folder(store.folder(FOLDER) / str(index))

    def read(self, task: str) -> Forwarded:
        """Return how far a task is; a file that is damaged begins it anew."""
        try:
            return Forwarded(**(read_object(self._file(task)) or {}))
        except (StoreError, TypeError):
            return Forwarded()

    def write(self, task: str, forwarded: Forwarded) -> None:
        """Note how far a task is."""
        write_json(self._file(task), asdict(forwarded), indent=None)

    def _file(self, task: str) -> Path:
        return self.folder / f"task-{folder_name(task)}.json"

    @property
    def problem(self) -> str:
        """Why nothing is forwarded at present; empty where all is well."""
        try:
            found = (read_object(self.folder / "problem.json") or {}).get("problem")
        except StoreError:
            return ""
        return found if isinstance(found, str) else ""

    @problem.setter
    def problem(self, text: str) -> None:
        write_json(self.folder / "problem.json", {"problem": text})
