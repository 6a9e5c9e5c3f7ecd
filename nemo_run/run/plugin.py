"""Plugins: change a task and its executor when they are added to an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nemo_run.config.mixin import ConfigurableMixin

if TYPE_CHECKING:
    from nemo_run.config import Partial, Script
    from nemo_run.core.execution.base import Executor


@dataclass(kw_only=True)
class ExperimentPlugin(ConfigurableMixin):
    """Base of all plugins; :meth:`setup` is where a plugin does its work.

    Example:
        >>> import nemo_run as run
        >>> class Debug(run.Plugin):
        ...     def setup(self, task, executor):
        ...         executor.env_vars["LOG_LEVEL"] = "DEBUG"

    Attributes:
        experiment_id: Id of the experiment; set before :meth:`setup` is called.
    """

    experiment_id: str = field(init=False, default="")

    def assign(self, experiment_id: str) -> None:
        """Tell the plugin which experiment it works for."""
        self.experiment_id = experiment_id

    def setup(self, task: Partial[Any] | Script, executor: Executor) -> None:
        """Change the task and its executor in place. Both are copies of what the user gave."""

    def cleanup(self, task: Partial[Any] | Script, executor: Executor) -> None:
        """Tidy up after the experiment. Called in the launching process when all jobs have ended, however they did."""
