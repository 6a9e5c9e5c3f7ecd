"""Tasks that are restarted: those that were ended from outside, through no fault of their program."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nemo_run.core.execution.jobs import CAUSES
from nemo_run.core.execution.shared.units import parse_duration
from nemo_run.errors import ExecutorError


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """When a task is restarted. A restart does not count as a retry, and a failure of the program is never one.

    Example:
        >>> import nemo_run as run
        >>> run.Restarts(on={"time limit"}, within="3d").on
        ('time limit',)

    Attributes:
        on: Causes: ``"preemption"``, ``"time limit"``, ``"node failure"``; all of them by default.
        max: How often at most.
        within: For how long after the task began first, in seconds or as ``"3d"``; without end by default.
        backoff: Seconds before a restart.
        notice: How long before a time limit the processes of the task get SIGUSR1, in seconds or as ``"2m"``.
    """

    on: Collection[str] = CAUSES
    max: int = 20
    within: float | str | None = None
    backoff: float | str = 10.0
    notice: float | str | None = None

    def __post_init__(self) -> None:
        """Keep the causes in one form, which can be stored."""
        causes = [self.on] if isinstance(self.on, str) else self.on
        object.__setattr__(self, "on", tuple(sorted(causes)))

    def check(self) -> None:
        """Raise :class:`~nemo_run.errors.ExecutorError` where this makes no sense."""
        for cause in self.on:
            if cause not in CAUSES:
                raise ExecutorError(f"Restarts.on has {cause!r}; the causes are: {', '.join(map(repr, CAUSES))}")
        if self.max < 0:
            raise ExecutorError(f"Restarts.max={self.max}; it is 0 or more")
        for name in ("within", "notice"):
            parse_duration(f"Restarts.{name}", getattr(self, name))
        if self.backoff != 0:
            parse_duration("Restarts.backoff", self.backoff)

    @property
    def seconds_within(self) -> float:
        """Seconds after the first begin; 0 for any time."""
        return parse_duration("Restarts.within", self.within) or 0.0

    @property
    def seconds_before(self) -> float:
        """Seconds before a restart."""
        return (parse_duration("Restarts.backoff", self.backoff) or 0.0) if self.backoff else 0.0

    @property
    def seconds_of_notice(self) -> float:
        """Seconds before a time limit; 0 for no notice."""
        return parse_duration("Restarts.notice", self.notice) or 0.0
