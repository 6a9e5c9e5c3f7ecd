"""The process that ends a Ray cluster on Lepton when its one job has ended, whoever watches."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.core.files import make_folder, read_json, write_json
from nemo_run.core.ray.jobs_api import PATIENCE
from nemo_run.core.runners.detached import start_detached
from nemo_run.errors import EngineUnreachableError

if TYPE_CHECKING:
    from nemo_run.core.ray.engine import Record

_PAUSE = 5.0


def spawn(folder: Path, record: Record) -> None:
    """Start the watcher of a cluster; it lives on without this process."""
    path = make_folder(folder) / "record.json"
    write_json(path, record)
    module = "nemo_run.core.execution.lepton.ray_watch"
    process = start_detached(module, [str(path)], folder / "watcher.log")
    process.returncode = 0  # it is on its own from here: nobody waits for it


def watch(record: Record, pause: float = _PAUSE) -> None:
    """Wait for the end of the job, or of the cluster; a job that is not submitted in time never will be."""
    from nemo_run.core.execution.lepton import ray as engine

    ready_since: float | None = None
    while True:
        with contextlib.suppress(EngineUnreachableError):  # it may answer again
            submitted = engine.is_submitted(record)
            if submitted is None or engine.settle(record):
                return
            ready_since = ready_since or time.monotonic()
            if not submitted and time.monotonic() - ready_since > PATIENCE:
                engine.LeptonRay().stop(record)
                return
        time.sleep(pause)


if __name__ == "__main__":
    watch(read_json(Path(sys.argv[1])))
