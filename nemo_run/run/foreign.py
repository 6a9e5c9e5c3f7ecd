"""Experiments as NVIDIA's NeMo-Run left them: read as data, and never changed.

::

    $NEMORUN_HOME/experiments/<title>/<id>/
        _CONFIG, _VERSION      the experiment, and which version wrote it
        _TASKS                 a pair for each job: the job with its executors, and its tasks
        <job>/nemo_run/<app>/  on this machine: SUCCESS says how it ended; <role>/<replica>/ has its logs
        <job>/*.out            on Slurm: logs that were fetched

Jobs are stored as fiddle's JSON, compressed. It is read as a plain document: nothing that it names is imported or
built, the tasks beside it are not read at all, and no engine is asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nemo_run.core.execution.jobs import JobState, Plan
from nemo_run.core.execution.shared.log_reader import EscapedLog, FileLog, LogReader, merged
from nemo_run.core.files import read_json, read_object
from nemo_run.errors import ForeignExperimentError, StoreError
from nemo_run.run.records import Definition, JobDefinition, JobProgress, TaskDefinition, TaskProgress, check_types
from nemo_run.run.store import ExperimentStore

TASKS = "_TASKS"
_LARGEST = 64 << 20  # bytes of one job, when it is unpacked
_TIME = re.compile(r"_(\d{10}|\d{19})\Z")  # seconds, or nanoseconds, at the end of an id
_APP_ID = re.compile(r"\w[\w.-]*", re.ASCII)


def launch_time(experiment_id: str) -> float | None:
    """Return when an experiment was made, as its id says it; ``None`` where this is no id of NeMo-Run.

    >>> launch_time("train_1750000000500000000")
    1750000000.5
    """
    found = _TIME.search(experiment_id)
    return int(found[1]) / (1e9 if len(found[1]) == 19 else 1) if found else None


@dataclass(frozen=True)
class _Seen:
    """What NeMo-Run noted of a task when it looked last.

    Attributes:
        handle: The engine's handle.
        state: Its state then.
        host: Where its engine is; empty for this machine.
        logs: Folder on that host in which the engine leaves logs.
    """

    handle: str
    state: JobState
    host: str
    logs: str

    @property
    def engine(self) -> str:
        """Name of its engine."""
        return self.handle.partition("://")[0]

    @property
    def app_id(self) -> str:
        """The engine's own id of it; empty where it is no such thing."""
        text = self.handle.rpartition("/")[2]
        return text if _APP_ID.fullmatch(text) else ""


_NOTHING = _Seen("", JobState.UNKNOWN, "", "")


class ForeignStore(ExperimentStore):
    """The files of an experiment of NeMo-Run. Whatever would change it is refused."""

    is_ours = is_received = False
    _read: tuple[int, list[tuple[JobDefinition, list[_Seen]]]] | None = None

    @property
    def version(self) -> str:
        """Version of NeMo-Run that wrote it."""
        with contextlib.suppress(OSError, ValueError):
            return (self.path / "_VERSION").read_text()[:40].strip()
        return ""

    def must_be_ours(self, action: str = "changed") -> NoReturn:
        """Refuse to do this to the experiment.

        Raises:
            ForeignExperimentError: Always.
        """
        raise ForeignExperimentError(
            f"experiment {self.id!r} was made by NVIDIA's NeMo-Run {self.version}: it can be looked at here, but not "
            f"{action}. Use the NeMo-Run that made it, or launch its script again, for a new experiment; its folder is "
            f"{self.path}"
        )

    must_be_of_this_program = must_be_ours

    def read_definition(self) -> Definition:
        """Return what was asked for.

        Raises:
            StoreError: A file is missing or damaged.
        """
        jobs = tuple(job for job, _ in self._jobs())
        created = launch_time(self.id) or (self.path / TASKS).stat().st_mtime
        return Definition(self.id, self.path.parent.name, created, jobs)

    def read_progress(self, job: JobDefinition) -> JobProgress:
        """Return how far a job is, as it was last noted."""
        seen = next((seen for known, seen in self._jobs() if known.id == job.id), [])
        tasks = [self._progress(job, task) for task in seen]
        try:
            for task in tasks:
                check_types(task)
        except TypeError as e:
            raise StoreError(f"{self.path / job.directory}: what NeMo-Run noted there is damaged ({e})") from e
        return JobProgress(tasks)

    def _jobs(self) -> list[tuple[JobDefinition, list[_Seen]]]:
        """Return the jobs, read again where NeMo-Run has written them again."""
        path = self.path / TASKS
        try:
            written = path.stat().st_mtime_ns
            if self._read is None or self._read[0] != written:
                self._read = (written, [_job(_Document(packed)) for packed in _packed_jobs(read_json(path))])
        except FileNotFoundError:
            raise StoreError(f"{path}: there is no such file; it says what the jobs are") from None
        except (KeyError, TypeError, ValueError, RecursionError, zlib.error) as e:
            raise StoreError(f"{path}: the file is damaged, or of a NeMo-Run that is not known here ({e!r})") from e
        return self._read[1]

    def _progress(self, job: JobDefinition, seen: _Seen) -> TaskProgress:
        progress = TaskProgress(seen.state, handle=seen.handle, submitted=launch_time(self.id))
        progress.attempt = progress.tries = 1 if seen.handle else 0
        if seen.engine.startswith("local") and seen.app_id:
            _take_in_end(progress, read_object(self.path / job.directory / "nemo_run" / seen.app_id / "SUCCESS") or {})
        if not progress.state.is_final and seen.handle:
            how = f"; ask Slurm{f' on {seen.host}' if seen.host else ''}: sacct -j {seen.app_id}"
            progress.reason = f"NeMo-Run saw it {progress.state} last{how if seen.engine.startswith('slurm') else ''}"
            progress.state = JobState.UNKNOWN
        return progress

    def kept_log(self, task: TaskDefinition, handle: str, rank: int | None, tail: int | None) -> LogReader | None:
        """Return the log of a task: that of one rank, or of all.

        Raises:
            StoreError: None is on this machine.
        """
        seen = next((one for _, tasks in self._jobs() for one in tasks if one.handle == handle), _NOTHING)
        folder = self.path / task.directory
        files = _logs_of(seen, folder) if seen.app_id else {}
        if rank is not None:
            files = {number: file for number, file in files.items() if number == rank}
        if not files:
            where = f"; look for it on {seen.host or 'this machine'} in {seen.logs}" if seen.logs else ""
            which = "log" if rank is None else f"log of rank {rank}"
            raise StoreError(f"{folder}: no {which} of {task.name!r} was left or fetched here{where}")
        inside = {
            number: FileLog(file, tail, top=self.path if file.is_relative_to(self.path) else None)
            for number, file in files.items()
        }
        return EscapedLog(merged(inside))

    # --- refused -----------------------------------------------------------------------------------------------

    def read_task(self, task: TaskDefinition) -> dict[str, Any]:
        """Refuse: a task is an object of code that is not ours."""
        self.must_be_ours("loaded again, because that would run its code")

    read_task_to_load = read_task

    def read_plan(self, task: TaskDefinition) -> Plan:
        """Refuse: there is no plan."""
        self.must_be_ours("handed to an engine")

    def folder(self, relative: str) -> Path:
        """Refuse: it would be written to."""
        self.must_be_ours("changed")

    def write_definition(self, definition: Definition) -> None:
        """Refuse."""
        self.must_be_ours("changed")

    def driving(self, lock: int | None = None) -> NoReturn:
        """Refuse."""
        self.must_be_ours("run")

    def delete(self) -> None:
        """Refuse."""
        self.must_be_ours("deleted")


# --- what ended ------------------------------------------------------------------------------------------------


def _take_in_end(progress: TaskProgress, document: dict[str, Any]) -> None:
    """Take over what the scheduler of this machine noted when a task had ended."""
    state, ended = document.get("final_state"), document.get("last_updated")
    if isinstance(state, str) and (known := _state(state)).is_final:
        progress.state = known
        progress.ended = ended if isinstance(ended, (int, float)) else None
        codes = _exit_codes(document.get("roles"))
        progress.exit_code = next((code for code in sorted(c for c in codes if type(c) is int) if code), None)
        if known is JobState.SUCCEEDED and codes:
            progress.exit_code = 0


def _exit_codes(roles: object) -> list[object]:
    """Return what was noted as the exit codes of replicas, whatever it is."""
    lists = roles.values() if isinstance(roles, dict) else ()
    replicas = [one for role in lists if isinstance(role, list) for one in role]
    return [one.get("exitcode") for one in replicas if isinstance(one, dict)]


def _logs_of(seen: _Seen, folder: Path) -> dict[int, Path]:
    """Return the logs of a task that are on this machine, by their ranks."""
    if seen.engine.startswith("local"):
        return _logs_of_replicas(folder / "nemo_run" / seen.app_id)
    return _logs_of_slurm(seen, folder) if seen.engine.startswith("slurm") else {}


def _logs_of_replicas(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for replica in sorted(folder.glob("*/*")):
        logs = [replica / name for name in ("combined.log", "stdout.log") if (replica / name).is_file()]
        if replica.name.isdecimal() and logs:
            found.setdefault(int(replica.name), logs[0])
    return found


def _logs_of_slurm(seen: _Seen, folder: Path) -> dict[int, Path]:
    """Return the logs of a Slurm job that are on this machine: those of its tasks, else that of its batch script."""
    logs = Path(seen.logs)
    is_its_own = logs.parts[-2:] == (folder.parent.name, folder.name)  # of what was received, a file says where
    places = [logs, folder] if is_its_own and not seen.host else [folder]
    for pattern in (f"log*_{seen.app_id}_*.out", f"sbatch_*_{seen.app_id}.out"):
        for place in places:
            if found := [file for file in sorted(place.glob(pattern)) if file.is_file()]:
                return dict(enumerate(found))
    return {}


# --- documents -------------------------------------------------------------------------------------------------


class _Document:
    """A configuration of fiddle as a plain document: objects by their keys, each with labelled items.

    Every type is checked here; what is not as it should be is a ``ValueError``, a ``KeyError`` or a ``TypeError``.
    """

    def __init__(self, packed: str) -> None:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.urlsafe_b64decode(packed), _LARGEST)
        if unpacker.unconsumed_tail:
            raise ValueError("it is too large")
        document = _map(json.loads(data))
        self._objects = _map(document["objects"])
        self.root = self._follow(document["root"])

    def _follow(self, node: object) -> dict[str, Any]:
        found = _map(node)
        return _map(self._objects[found["key"]]) if found.get("type") == "ref" else found

    def _items(self, node: dict[str, Any]) -> dict[str, Any]:
        return {_text(label): value for label, value in node.get("items", [])}

    def attribute(self, node: dict[str, Any], name: str) -> dict[str, Any]:
        """Return what an attribute is set to; an empty object where it is not set."""
        return self._follow(self._items(node).get(f"Attr(name={name!r})", {}))

    def each(self, node: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """Return the elements of a list, or the one value that is there instead of it."""
        value = self.attribute(node, name)
        kind = value.get("type")
        if isinstance(kind, dict) and kind.get("name") in ("list", "tuple"):
            return [self._follow(item) for item in self._items(value).values()]
        return [value] if value else []

    def kind(self, node: dict[str, Any]) -> str:
        """Return the name of the class that a node configures."""
        metadata = self._follow(node.get("metadata") or {})
        return _text(self.attribute(metadata, "fn_or_cls").get("name", ""))


def _map(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} in place of an object")
    return value


def _text(value: object) -> str:
    """Return a text that can be shown."""
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError(f"{value!r:.40} in place of a text")
    return value


def _leaf(node: dict[str, Any]) -> str:
    """Return the text in a node; empty where it is ``None`` or not set."""
    value = node.get("value")
    return "" if value is None else _text(value)


def _packed_jobs(document: object) -> list[str]:
    if not isinstance(document, list):
        raise TypeError("no list of jobs")
    return [_text(job) for job, _tasks in document]


def _job(document: _Document) -> tuple[JobDefinition, list[_Seen]]:
    root = document.root
    job_id, group = _leaf(document.attribute(root, "id")), document.kind(root) == "JobGroup"
    plural = "s" if group else ""
    executors, handles, states = (document.each(root, f"{name}{plural}") for name in ("executor", "handle", "state"))
    count = max(len(document.each(root, "tasks")), 1) if group else 1
    directory = _directory(job_id, _leaf(document.attribute(_nth(executors, 0), "job_dir")))
    tasks = tuple(
        TaskDefinition(f"{job_id}/{i}" if group else job_id, directory, document.kind(_nth(executors, i)) or "?")
        for i in range(count)
    )
    seen = [_seen(document, _nth(executors, i), _nth(handles, i), _nth(states, i)) for i in range(count)]
    needs = tuple(_leaf(one) for one in document.each(root, "dependencies"))
    name = _leaf(document.attribute(root, "name")) or job_id
    return JobDefinition(job_id, name, directory, tasks, dependencies=needs, group=group), seen


def _directory(job_id: str, job_dir: str) -> str:
    """Return the folder of a job, in that of its experiment."""
    directory = Path(job_dir).name or job_id
    if not job_id or "/" in directory or directory == "..":
        raise ValueError(f"{job_id!r} in {directory!r} cannot be a job")
    return directory


def _seen(document: _Document, executor: dict[str, Any], handle: dict[str, Any], state: dict[str, Any]) -> _Seen:
    tunnel = document.attribute(executor, "tunnel")
    logs = document.attribute(document.attribute(executor, "job_details"), "folder")
    host = "" if document.kind(tunnel) in ("", "LocalTunnel") else _leaf(document.attribute(tunnel, "host")) or "?"
    return _Seen(_leaf(handle), _state(_text(state.get("name", "UNSUBMITTED"))), host, _leaf(logs))


def _state(name: str) -> JobState:
    return JobState.__members__.get(name.rpartition(".")[2], JobState.UNKNOWN)


def _nth(values: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """Return the value of a task; a single one is that of all, as on Slurm, where a group is one job."""
    if len(values) == 1:
        return values[0]
    return values[index] if index < len(values) else {}
