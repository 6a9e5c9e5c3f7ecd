"""The metrics of a task as they are written, from where a tracker has them on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from nemo_run.core.inside import read_inside
from nemo_run.run.artifacts import folder_of
from nemo_run.run.metrics import FILE, LONGEST_LINE, point_of
from nemo_run.run.records import TaskDefinition
from nemo_run.run.store import ExperimentStore
from nemo_run.run.trackers.sink import Point
from nemo_run.run.trackers.tracking import Forwarded


def next_points(
    store: ExperimentStore, task: TaskDefinition, forwarded: Forwarded, most: int, *, ended: bool
) -> tuple[list[Point], Forwarded]:
    """Return points that were not forwarded yet, and how far forwarding is when they are.

    Args:
        store: The experiment.
        task: The task.
        forwarded: How far it is.
        most: How many lines are read at most.
        ended: Whether the task has ended: then the last line may lack its end.
    """
    points: list[Point] = []
    try:
        with read_inside(folder_of(store, task), FILE) as file:
            head = hashlib.sha256(file.readline(LONGEST_LINE)).hexdigest()
            if head != forwarded.head:  # of another attempt, brought from elsewhere
                forwarded = replace(forwarded, offset=0, lines=0, head=head)
            file.seek(forwarded.offset)
            for _ in range(most):
                line = file.readline(LONGEST_LINE)
                if not line or not (line.endswith(b"\n") or len(line) == LONGEST_LINE or ended):
                    break
                if (point := point_of(forwarded.lines, line)) is not None:
                    points.append(Point(*point))
                forwarded = replace(forwarded, offset=forwarded.offset + len(line), lines=forwarded.lines + 1)
    except OSError:  # there is none, or it is no file
        pass
    return points, forwarded
