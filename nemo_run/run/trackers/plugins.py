"""Plugins that have runs kept by a tracker, too: its name, configuration, tags and metrics."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from nemo_run.core.extras import require
from nemo_run.core.masking import holds_secret
from nemo_run.errors import ExperimentError
from nemo_run.run.plugin import ExperimentPlugin

if TYPE_CHECKING:
    from nemo_run.config import Partial, Script
    from nemo_run.core.execution.base import Executor


@dataclass(kw_only=True)
class TrackerPlugin(ExperimentPlugin):
    """Base of the plugins for trackers.

    Attributes:
        name: Name of the run there; by default the experiment's id and the task's name.
        tags: Tags of the run, beside those that say which experiment it is.
    """

    KIND: ClassVar[str] = ""
    """What the tracker is called in files; also its extra."""
    MODULE: ClassVar[str] = ""
    """The module that talks to it."""

    name: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    def setup(self, task: Partial[Any] | Script, executor: Executor) -> None:
        """Check that the tracker's package is here; the task and its executor stay as they are."""
        self.settings()

    def settings(self) -> dict[str, Any]:
        """Return what the process that forwards has to know, as plain data without secrets.

        Raises:
            MissingExtraError: The tracker's package is not installed.
            ExperimentError: A value cannot be used.
        """
        require((self.MODULE,), self.KIND, type(self).__name__)
        wrong = [key for key, value in self.tags.items() if not isinstance(key, str) or not isinstance(value, str)]
        if wrong:
            raise ExperimentError(f"{type(self).__name__}: tags are texts by their names; {wrong[0]!r} has no text")
        own = {part.name for part in fields(ExperimentPlugin)}
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in own}


@dataclass(kw_only=True)
class TensorBoardPlugin(TrackerPlugin):
    """Writes metrics as files of TensorBoard: ``tensorboard --logdir FOLDER``.

    Attributes:
        folder: Where; each task gets a folder below it. ``tensorboard`` in the experiment's folder by default.

    Raises:
        MissingExtraError: The package ``tensorboard`` is not installed where the experiment is launched.

    Example:
        >>> import nemo_run as run
        >>> exp = run.Experiment("example")
        >>> exp.add(print, plugins=[run.TensorBoardPlugin(folder="boards")])   # doctest: +SKIP
        'builtins.print'
    """

    KIND = "tensorboard"
    MODULE = "tensorboard"

    folder: str = ""

    def settings(self) -> dict[str, Any]:
        """Return what the process that forwards has to know."""
        found = super().settings()
        return {**found, "folder": os.path.abspath(self.folder) if self.folder else ""}  # noqa: PTH100  (keeps links)


def without_secrets(plugin: str, name: str, address: str) -> str:
    """Return an address, if there is no password in it.

    Raises:
        ExperimentError: There is one.
    """
    if holds_secret(name, address):
        raise ExperimentError(f"{plugin}: {name}= has a password in it; give it in the environment instead")
    return address
