"""The process that deletes a Ray cluster on Lepton when its one job has ended."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.core.execution.lepton.ray import LeptonRay, is_submitted, settle
from nemo_run.core.files import read_json
from nemo_run.core.ray.jobs_api import PATIENCE
from nemo_run.errors import EngineUnreachableError

if TYPE_CHECKING:
    from nemo_run.core.ray.engine import Record

_PAUSE = 5.0


def watch(record: Record, pause: float = _PAUSE) -> None:
    """Wait for the end of the job, or of the cluster; a job that is not submitted in time never will be."""
    ready_since: float | None = None
    while True:
        with contextlib.suppress(EngineUnreachableError):  # it may answer again
            submitted = is_submitted(record)
            if submitted is None or settle(record):
                return
            ready_since = ready_since or time.monotonic()
            if not submitted and time.monotonic() - ready_since > PATIENCE:
                LeptonRay().stop(record)
                return
        time.sleep(pause)


if __name__ == "__main__":
    watch(read_json(Path(sys.argv[1])))
