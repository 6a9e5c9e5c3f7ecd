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


@dataclass(kw_only=True)
class MLflowPlugin(TrackerPlugin):
    """Keeps each task as a run of MLflow.

    Credentials are the variables of MLflow, such as ``MLFLOW_TRACKING_TOKEN``, as they are at the launch.

    Attributes:
        uri: Address of the server; ``$MLFLOW_TRACKING_URI`` by default.
        experiment: The MLflow experiment that runs are put into; the title of ours by default.

    Raises:
        MissingExtraError: The package ``mlflow`` (or ``mlflow-skinny``) is not installed where it is launched.
        ExperimentError: No address is known, or there is a password in it.

    Example:
        >>> import nemo_run as run
        >>> exp = run.Experiment("example")
        >>> exp.add(print, plugins=[run.MLflowPlugin(uri="https://mlflow.example")])   # doctest: +SKIP
        'builtins.print'
    """

    KIND = "mlflow"
    MODULE = "mlflow"

    uri: str = ""
    experiment: str = ""

    def settings(self) -> dict[str, Any]:
        """Return what the process that forwards has to know."""
        found = super().settings()
        inherited = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not self.uri and not inherited:
            raise ExperimentError(
                'MLflowPlugin: no server is known; give uri="https://...", or set MLFLOW_TRACKING_URI'
            )
        if holds_secret("uri", self.uri):
            raise ExperimentError(
                "MLflowPlugin: uri= has a password in it, which would be stored; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD instead"
            )
        uri = self.uri or inherited
        return {**found, "uri": "" if holds_secret("uri", uri) else _absolute(uri)}  # "": as the variable says


@dataclass(kw_only=True)
class WandbPlugin(TrackerPlugin):
    """Keeps each task as a run of Weights & Biases.

    Credentials are ``$WANDB_API_KEY`` as it is at the launch, or what ``wandb login`` has stored.

    Attributes:
        project: The project that runs are put into; the title of the experiment by default.
        entity: The user or team that it belongs to; your default one if left out.
        mode: ``"online"`` or ``"offline"``; ``$WANDB_MODE`` by default.

    Raises:
        MissingExtraError: The package ``wandb`` is not installed where the experiment is launched.
        ExperimentError: There is no such mode.

    Example:
        >>> import nemo_run as run
        >>> exp = run.Experiment("example")
        >>> exp.add(print, plugins=[run.WandbPlugin(project="vision")])   # doctest: +SKIP
        'builtins.print'
    """

    KIND = "wandb"
    MODULE = "wandb"

    project: str = ""
    entity: str = ""
    mode: str = ""

    def settings(self) -> dict[str, Any]:
        """Return what the process that forwards has to know."""
        if self.mode not in ("", "online", "offline"):
            raise ExperimentError(f"WandbPlugin: mode={self.mode!r}; it is 'online' or 'offline'")
        return super().settings()


def _absolute(uri: str) -> str:
    """Return an address; a path in it does not depend on the current folder.

    >>> _absolute("https://mlflow.example"), _absolute("databricks"), _absolute("sqlite:////a/b.db")
    ('https://mlflow.example', 'databricks', 'sqlite:////a/b.db')
    """
    scheme, mark, path = uri.partition(":///")
    if mark and scheme.startswith("sqlite") and path and not path.startswith("/"):
        return f"{scheme}:///{os.path.abspath(path)}"  # noqa: PTH100  (keeps links)
    if uri.startswith((".", "/")):
        return os.path.abspath(uri)  # noqa: PTH100
    return uri
