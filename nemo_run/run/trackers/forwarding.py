"""The processes that forward to trackers, as the controller of an experiment sees them."""

from __future__ import annotations

import logging
import subprocess
import time

from nemo_run.core.runners.detached import start_detached
from nemo_run.errors import NemoRunError
from nemo_run.run.store import ExperimentStore
from nemo_run.run.trackers.tracking import FILE, Marks, read_trackings

logger = logging.getLogger(__name__)

_PATIENCE = 60.0  # seconds for which the end of an experiment waits for its trackers
_TICK = 0.1


class Forwarding:
    """Starts a process for each tracker, and says once what keeps it from forwarding. No failure of one stops tasks."""

    def __init__(self, store: ExperimentStore) -> None:
        self._store = store
        self._processes: list[tuple[str, Marks, subprocess.Popen[bytes]]] = []
        self._told: set[int] = set()
        self.jobs: set[str] = set()
        """Ids of the jobs whose metrics are waited for here."""

    def start(self) -> None:
        """Start them, if there are trackers."""
        if not (self._store.path / FILE).exists():
            return
        try:
            for index, tracking in enumerate(read_trackings(self._store)):
                self.jobs.update(tracking.jobs)
                marks = Marks(self._store, index)
                marks.problem = ""
                args = [str(self._store.path), str(index)]
                process = start_detached("nemo_run.run.trackers.forwarder", args, marks.folder / "log")
                self._processes.append((tracking.kind, marks, process))
        except (NemoRunError, OSError) as e:
            logger.warning("experiment %s: metrics are not forwarded: %s", self._store.id, e)

    def tell(self) -> bool:
        """Warn of trackers that are away, of each once; whether any is still forwarding without a problem."""
        busy = False
        for index, (kind, marks, process) in enumerate(self._processes):
            problem = marks.problem
            if process.poll() and not problem:
                problem = f"the process that forwards ended; see {marks.folder / 'log'}"
            busy = busy or (process.poll() is None and not problem)
            if problem and index not in self._told:
                self._told.add(index)
                logger.warning("experiment %s: metrics are not forwarded to %s: %s", self._store.id, kind, problem)
        return busy

    def finish(self) -> None:
        """Wait for them, but not for trackers that are away: these processes go on for a while by themselves."""
        end = time.monotonic() + _PATIENCE
        while self.tell() and time.monotonic() < end:
            time.sleep(_TICK)
        for _, _, process in self._processes:
            if process.poll() is None:
                process.returncode = 0  # it is on its own from here, and is not waited for
