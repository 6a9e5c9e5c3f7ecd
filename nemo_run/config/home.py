"""Where this package keeps its files."""

from __future__ import annotations

import os

# Names that experiments, containers and downstream packages share with this one.
RUNDIR_NAME = "nemo_run"
RUNDIR_SPECIAL_NAME = "/$nemo_run"
SCRIPTS_DIR = "scripts"
USE_WITH_RAY_CLUSTER_KEY = "use_with_ray_cluster"

_DEFAULT_HOME = "~/.nemo_run"
_chosen_home: str | None = None


def get_nemorun_home() -> str:
    """The folder that holds experiments and settings.

    It is what :func:`set_nemorun_home` said, or ``$NEMORUN_HOME`` as it is now, or ``~/.nemo_run``.

    Example:
        >>> set_nemorun_home("/tmp/runs")
        >>> get_nemorun_home()
        '/tmp/runs'
    """
    return _absolute(_chosen_home or os.environ.get("NEMORUN_HOME") or _DEFAULT_HOME)


def set_nemorun_home(path: str) -> None:
    """Use another folder from now on, in this process.

    Example:
        >>> set_nemorun_home("/tmp/other")
        >>> get_nemorun_home()
        '/tmp/other'
    """
    global _chosen_home  # noqa: PLW0603  # the one setting of this module
    _chosen_home = _absolute(path)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # pathlib would double the import time
