"""Runs of Weights & Biases, by its own library."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.trackers.sink import Point, RunDescription, TrackerSink

_STEP = "step"
_LONGEST_ID = 120
_LONGEST_TAG = 64
_QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


class WandbSink(TrackerSink):
    """Keeps each task as a run of Weights & Biases. What cannot be sent lies in files, from which it is sent later."""

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__(settings, folder)
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._runs: dict[str, Any] = {}

    def begin(self, run: RunDescription, known: str) -> str:
        """Begin a run, or go on with the one of the same id."""
        import wandb

        name = known or _id_of(run)
        if name in self._runs:
            return name
        begun = wandb.init(
            id=name,
            name=run.name,
            project=self.settings["project"] or re.sub(r"[/\\#?%:]", "-", run.title),
            entity=self.settings["entity"] or None,
            mode=self.settings["mode"] or None,
            group=run.tags["nemo_run.experiment"],
            config={**run.parameters, "nemo_run": dict(run.tags)},
            tags=[f"{key}:{value}"[:_LONGEST_TAG] for key, value in self.settings["tags"].items()],
            resume="allow",
            reinit="create_new",
            dir=str(self.folder),
            # Nothing of this process, which only forwards, is worth keeping.
            settings=wandb.Settings(
                console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
            ),
        )
        begun.define_metric("*", step_metric=_STEP)  # its own count takes no step a second time
        self._runs[name] = begun
        return name

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Hand points over to the library, which sends them."""
        for point in points:
            self._runs[run].log({_STEP: point.step, "_timestamp": point.time, **point.metrics})

    def end(self, run: str, state: JobState) -> None:
        """Say how the run has ended, and wait until all is sent."""
        self._runs.pop(run).finish(exit_code=0 if state is JobState.SUCCEEDED else 1)


def _id_of(run: RunDescription) -> str:
    """Return the id of a run: the same whenever it is begun.

    >>> _id_of(RunDescription("train_1/job/0", "", "", {}, {}, 0.0))
    'train_1-job-0'
    """
    name = re.sub(r"[^\w.-]", "-", run.id, flags=re.ASCII)
    short = hashlib.sha256(run.id.encode()).hexdigest()[:8]
    return name if len(name) <= _LONGEST_ID else f"{name[: _LONGEST_ID - 9]}-{short}"
