"""Files of TensorBoard, by its own writer."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState
from nemo_run.core.files import folder_name, make_folder
from nemo_run.run.trackers.sink import Point, RunDescription, TrackerSink


class TensorBoardSink(TrackerSink):
    """Writes a file of events for each task."""

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        super().__init__(settings, folder)
        self._writers: dict[str, Any] = {}

    def begin(self, run: RunDescription, known: str) -> str:
        """Open a file in the task's folder; its configuration and tags are a text and hyperparameters there."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        experiment, _, task = run.id.partition("/")
        own = self.folder.parents[1] / "tensorboard"
        top = Path(self.settings["folder"], experiment) if self.settings["folder"] else own
        place = str(make_folder(top / folder_name(task)))
        if place not in self._writers:
            self._writers[place] = EventFileWriter(place)
        if not known:
            texts = [("configuration", run.parameters), ("tags", run.tags)]
            values = [_text(name, _table(rows)) for name, rows in texts if rows]
            self._add(place, Summary(value=[*values, _session_start(run)]), 0, run.created)
        return place

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Write points, and see that they are in the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.metrics.items()]
            self._add(run, Summary(value=values), point.step, point.time)
        self._writers[run].flush()

    def end(self, run: str, state: JobState) -> None:
        """Write how it ended, and close the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        how = api_pb2.STATUS_SUCCESS if state is JobState.SUCCEEDED else api_pb2.STATUS_FAILURE
        info = plugin_data_pb2.HParamsPluginData(
            session_end_info=plugin_data_pb2.SessionEndInfo(status=how, end_time_secs=clock.time())
        )
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(info))
        self._add(run, Summary(value=[value]), 0, clock.time())
        self._writers.pop(run).close()

    def _add(self, run: str, summary: Any, step: int, when: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writers[run].add_event(Event(wall_time=when, step=step, summary=summary))


def _session_start(run: RunDescription) -> Any:
    """Return the hyperparameters of a run as TensorBoard compares them."""
    from google.protobuf.struct_pb2 import Value
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    info = plugin_data_pb2.SessionStartInfo(group_name=run.name, start_time_secs=run.created)
    for name, value in run.parameters.items():
        kind = {bool: "bool_value", int: "number_value", float: "number_value"}.get(type(value), "string_value")
        info.hparams[name].CopyFrom(Value(**{kind: value if kind != "string_value" else str(value)}))
    data = plugin_data_pb2.HParamsPluginData(session_start_info=info)
    return Summary.Value(tag=metadata.SESSION_START_INFO_TAG, metadata=metadata.create_summary_metadata(data))


def _table(rows: Mapping[str, Any]) -> str:
    """Return a table in Markdown."""
    cells = [(name, str(value).replace("|", "\\|").replace("\n", " ")) for name, value in rows.items()]
    return "\n".join(["| name | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])


def _text(name: str, text: str) -> Any:
    """Return a text in Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    metadata = create_summary_metadata(display_name=name, description="")
    return Summary.Value(tag=name, metadata=metadata, tensor=make_tensor_proto([text.encode()]))
