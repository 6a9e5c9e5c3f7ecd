"""Engines that do not answer for a while, or take no more jobs: asked again, ever less often, until they do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nemo_run.errors import EngineFullError

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Backend

_SHORTEST, _LONGEST = 0.5, 30.0  # seconds between two questions


class Outages:
    """Which engines do not answer, and when each is to be asked again.

    Args:
        longest: Seconds between two questions, at most.
    """

    def __init__(self, longest: float = _LONGEST) -> None:
        self._longest = longest
        self._delays: dict[int, tuple[float, float]] = {}  # by backend: the delay, and when it is over
        self._reasons: dict[int, str] = {}  # by backend

    def lasts(self, backend: Backend) -> bool:
        """Check whether it is too early to ask this engine again."""
        return time.monotonic() < self._delays.get(id(backend), (0.0, 0.0))[1]

    def reason(self, backend: Backend) -> str:
        """Return why nothing is known of its jobs, or none is started."""
        return self._reasons.get(id(backend), "")

    def began(self, backend: Backend, error: Exception) -> None:
        """Note that the engine did not answer."""
        self._reasons[id(backend)] = reason(error)
        before = self._delays.get(id(backend), (0.0, 0.0))[0]
        delay = min(max(before * 2, _SHORTEST), self._longest)
        self._delays[id(backend)] = (delay, time.monotonic() + delay)

    def ended(self, backend: Backend) -> None:
        """Note that the engine answered."""
        self._delays.pop(id(backend), None)
        self._reasons.pop(id(backend), None)


def reason(error: Exception) -> str:
    """Return why nothing is known of a job now."""
    if isinstance(error, EngineFullError):
        return str(error)
    what = "unreachable" if isinstance(error, ConnectionError) else "refuses"
    return f"engine {what}: {error}"
