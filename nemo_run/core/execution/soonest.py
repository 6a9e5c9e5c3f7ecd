"""Several executors, of which the one takes the jobs on which they would start first."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from nemo_run.core.execution.base import Executor
from nemo_run.core.execution.shared.findings import Load
from nemo_run.errors import ExecutorError, NemoRunError

_log = logging.getLogger(__name__)


@dataclass
class Soonest(Executor):
    """Stands for that one of several executors on which a job would start first.

    It asks when its first job is added to an experiment, and that choice holds for all jobs that are added with it. An
    engine that gives no estimate is chosen only where none does: then the first executor is. What was chosen is told.

    Example:
        >>> import nemo_run as run
        >>> run.Soonest([run.LocalExecutor(), run.SlurmExecutor(account="a")]).executors[0].info()
        'LocalExecutor'

    Attributes:
        executors: Those to choose from; the first of several with the same start is taken.
    """

    executors: list[Executor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._choice: Executor | None = None

    def chosen(self) -> Executor:
        """Return the executor that takes the jobs.

        Raises:
            ExecutorError: There is none to choose from, or no engine of them can be reached.
        """
        if self._choice is None:
            self._choice = self._choose()
        return self._choice

    def _choose(self) -> Executor:
        if not self.executors:
            raise ExecutorError("run.Soonest([]) has nothing to choose from: give it executors")
        loads = [load_of(executor) for executor in self.executors]
        reached = [number for number, load in enumerate(loads) if not load.is_broken]
        if not reached:
            why = "; ".join(f"{one.info()}: {load.why}" for one, load in zip(self.executors, loads, strict=True))
            raise ExecutorError(f"run.Soonest: none of its executors can be used: {why}")
        known = {number: start for number in reached if (start := loads[number].start) is not None}
        best = min(known, key=known.__getitem__) if known else reached[0]
        others = "; ".join(f"no estimate of {number + 1}: {load.why}" for number, load in enumerate(loads) if load.why)
        name = self.executors[best].info()
        _log.warning("run.Soonest takes number %d, %s%s", best + 1, name, f" ({others})" if others else "")
        return self.executors[best].chosen()


def load_of(executor: Executor) -> Load:
    """Return how busy the engine of an executor is; where it cannot be asked, why."""
    try:
        return executor.load()
    except NemoRunError as e:
        return Load(why=str(e), is_broken=True)
