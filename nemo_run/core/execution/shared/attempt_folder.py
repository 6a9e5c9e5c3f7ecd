"""The journal of an attempt: that it was submitted, that it is to end, and how it ended."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_run.core.execution.jobs import JobState, Plan, TaskStatus
from nemo_run.core.execution.shared.attempt_files import attempt_folder, final_status
from nemo_run.core.files import locked, make_folder, read_object, write_json
from nemo_run.core.inside import open_inside
from nemo_run.errors import ExecutorError

_SUBMISSION, _CANCEL, _END = "submission.json", "cancel", "exit.json"
_EARLIER = ("submitted.json", "launch.json", "workload.json")  # what the submission was called in earlier versions


@dataclass(frozen=True)
class AttemptFolder:
    """The folder of an attempt in the store, with its journal.

    Whichever process sees an event first writes it down; every later one reads it here and need not ask the engine.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def of(cls, plan: Plan, attempt: int) -> AttemptFolder:
        """Return the folder of an attempt of a plan."""
        return cls(attempt_folder(plan, attempt))

    def make(self) -> Path:
        """Create the folder where it is missing, and return its path.

        Raises:
            ExecutorError: It is behind a link, which a task that shares the folder has put there.
        """
        for path in (self.path, self.path.parent):
            if path.is_symlink():
                raise ExecutorError(f"{path}: is a link, which is not followed; nothing was written")
        return make_folder(self.path)

    def append_to_log(self, words: bytes) -> None:
        """Write what an engine says to the end of the log; a link in the place of the log is replaced."""
        log = self.make() / "log"
        if log.is_symlink():
            log.unlink()
        with os.fdopen(open_inside(self.path, "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), "wb") as file:
            file.write(words)

    def note_submission(self, **facts: Any) -> None:
        """Write down that the attempt was submitted, and what has to be known of that later."""
        self.make()
        write_json(self.path / _SUBMISSION, {"at": time.time(), **facts})

    def submission(self) -> dict[str, Any]:
        """Return what was noted of the submission; empty where there was none."""
        found = (read_object(self.path / name) for name in (_SUBMISSION, *_EARLIER))
        return next((facts for facts in found if facts), {})

    @property
    def is_submitted(self) -> bool:
        """Whether the attempt was submitted."""
        return any((self.path / name).exists() for name in (_SUBMISSION, *_EARLIER, "submitted"))

    def request_cancel(self, **facts: Any) -> None:
        """Write down that the attempt is to end; the first request counts."""
        if not self.is_cancelled:
            write_json(self.make() / _CANCEL, {"at": time.time(), **facts})

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to end."""
        return (self.path / _CANCEL).exists()

    def cancel_request(self) -> dict[str, Any]:
        """Return what was noted with the request to end; empty where there was none."""
        return read_object(self.path / _CANCEL) or {}

    def write_end(self, status: TaskStatus, **facts: Any) -> TaskStatus:
        """Write down how the attempt ended, and return that; nothing is written where its experiment was deleted."""
        end = {
            "exit_code": status.exit_code,
            "reason": status.reason,
            "cancelled": status.state is JobState.CANCELLED,
            "started": status.started,
            "ended": status.ended or time.time(),
            "node": status.node,
            "lost": status.lost,
            "cause": status.cause,
            **facts,
        }
        if self.path.is_dir():
            write_json(self.make() / _END, end)
        return final_status(end)

    def end(self) -> dict[str, Any]:
        """Return all that was written down of the end; empty where nothing was."""
        return read_object(self.path / _END) or {}

    @property
    def has_ended(self) -> bool:
        """Whether it is written down how the attempt ended."""
        return (self.path / _END).exists()

    def recorded(self) -> TaskStatus | None:
        """Return how the attempt ended; ``None`` where that is not written down."""
        end = self.end()
        return final_status(end) if end else None

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the attempt: one process at a time writes down how it ended."""
        return locked(self.path / "lock")
