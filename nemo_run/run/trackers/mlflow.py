"""Runs of MLflow, by its own client."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.run.trackers.sink import Point, RunDescription, TrackerSink

_STATES = {JobState.SUCCEEDED: "FINISHED", JobState.CANCELLED: "KILLED"}
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # that a server takes at once
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TAG = 250, 500, 5000
_OURS = "nemo_run.run"
"""Tag by which a run is found again that was begun, but not noted."""
_HASTE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # it is asked again anyway


class MLflowSink(TrackerSink):
    """Keeps each task as a run of MLflow."""

    MOST_POINTS = _MOST_METRICS

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__(settings, folder)
        for name, value in {**_HASTE, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
            os.environ.setdefault(name, value)
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            from mlflow.tracking import MlflowClient

            self._connected = MlflowClient(tracking_uri=self.settings["uri"] or None)
        return self._connected

    def begin(self, run: RunDescription, known: str) -> str:
        """Create the run in its MLflow experiment, or have it run again."""
        if not known:
            known = self._find_or_create(run)
        else:
            self._client.update_run(known, status="RUNNING")
        return known

    def _find_or_create(self, run: RunDescription) -> str:
        from mlflow.entities import Param

        experiment = self._experiment(self.settings["experiment"] or run.title)
        found = self._client.search_runs([experiment], f"tags.`{_OURS}` = '{run.id}'") if "'" not in run.id else []
        tags = {key[:_LONGEST_NAME]: value[:_LONGEST_TAG] for key, value in {**run.tags, _OURS: run.id}.items()}
        created = found[0] if found else self._client.create_run(
            experiment, start_time=int(run.created * 1000), tags=tags, run_name=run.name
        )  # fmt: skip
        known = str(created.info.run_id)
        parameters = [
            Param(_name(name)[:_LONGEST_NAME], str(value)[:_LONGEST_VALUE]) for name, value in run.parameters.items()
        ]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(known, params=parameters[first : first + _MOST_PARAMETERS])
        return known

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Hand points over, so many at once as a server takes."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_name(name), value, int(point.time * 1000), point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[first : first + _MOST_METRICS])

    def end(self, run: str, state: JobState) -> None:
        """Say how the run has ended."""
        self._client.set_terminated(run, _STATES.get(state, "FAILED"), int(time.time() * 1000))


def _name(name: str) -> str:
    """Return a name of the characters that MLflow takes.

    >>> _name("layers[0]['a/b']"), _name("loss")
    ('layers_0_a/b', 'loss')
    """
    return re.sub(r"[^\w\-. :/]+", "_", name).strip("_/.") or "_"
