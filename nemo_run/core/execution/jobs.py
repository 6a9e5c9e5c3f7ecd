"""What experiments and engines tell each other of a job: what to run, the plan made of that, and how far it is.

All of it is data. :mod:`nemo_run.core.execution.base` has the behaviour, and these names as well.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


class JobState(enum.IntEnum):
    """State of a job. ``UNKNOWN`` means that the engine was asked and does not know."""

    UNSUBMITTED = 0
    SUBMITTED = 1
    PENDING = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6
    UNKNOWN = 7

    @property
    def is_final(self) -> bool:
        """Whether the job has ended and will not change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{self.name} ({self.value})"


PREEMPTION, TIME_LIMIT, NODE_FAILURE = "preemption", "time limit", "node failure"
CAUSES = (PREEMPTION, TIME_LIMIT, NODE_FAILURE)
"""Why a task ended that its program is not to blame for."""

CONTINUE = 85
"""Exit code of a task that is to be continued: it has saved what it needs."""


@dataclass(frozen=True)
class TaskStatus:
    """What an engine says of one submitted job.

    Attributes:
        state: The state.
        exit_code: Exit code once it ended; ``128 + n`` where signal n ended it.
        reason: Why it is in this state; empty where there is nothing to add.
        started: When the task began to run, in seconds since the epoch.
        ended: When it ended, in seconds since the epoch.
        node: Where it runs.
        lost: It failed because its supervision was lost, not by anything the task did.
        unrun: It failed before it began, as its engine lost it.
        cause: One of :data:`CAUSES` where that ended it; empty for any other end.
        expected: When it is expected to begin, in seconds since the epoch, where its engine says so.
    """

    state: JobState
    exit_code: int | None = None
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    node: str = ""
    lost: bool = False
    unrun: bool = field(default=False, repr=False)
    cause: str = field(default="", repr=False)
    expected: float | None = field(default=None, repr=False)

    @property
    def known_cause(self) -> str:
        """What ended the task, if it was not its program."""
        return self.cause or (NODE_FAILURE if self.lost else "")


@dataclass(frozen=True)
class Used:
    """What an engine accounts for an attempt.

    Attributes:
        seconds: For how long it ran, all of its starts together.
        gpus: How many GPUs it had; ``None`` where that is not accounted for.
    """

    seconds: float
    gpus: int | None = None


@dataclass(frozen=True)
class Command:
    """One program to run: its arguments, its own environment variables, and its folder.

    Attributes:
        argv: Program and arguments, passed byte for byte.
        env: Variables to set beside those the engine passes on; they go before the executor's own.
        cwd: Working directory; empty for the engine's default.
        python: ``argv[0]`` is a Python interpreter, which a launcher may replace by its own.
        with_ray: It expects a Ray cluster over the nodes of its job, which the engine starts around it if it can.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    python: bool = False
    with_ray: bool = False


@dataclass(frozen=True)
class Plan:
    """All that an engine needs to run one job, as plain JSON values.

    Attributes:
        engine: Name of the backend.
        job_id: The job.
        directory: The job's own folder in the store.
        spec: The engine's own description of the job.
        connection: How to reach the engine; plans with equal connections share one backend.
    """

    engine: str
    job_id: str
    directory: str
    spec: dict[str, Any]
    connection: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def backend_key(self) -> str:
        """Equal for plans that share one backend."""
        return backend_key(self.engine, self.connection)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def from_json(cls, doc: Mapping[str, Any]) -> Plan:
        """Return the plan that :meth:`to_json` described."""
        return cls(**doc)


def backend_key(engine: str, connection: Mapping[str, Any]) -> str:
    """Return what is equal where one backend will do."""
    return f"{engine} {json.dumps(connection, sort_keys=True)}"
