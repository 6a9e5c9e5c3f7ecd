"""Where this package keeps its files."""

from __future__ import annotations

import os

# Names that experiments, containers and downstream packages share with this one.
RUNDIR_NAME = "nemo_run"
RUNDIR_SPECIAL_NAME = "/$nemo_run"
SCRIPTS_DIR = "scripts"
USE_WITH_RAY_CLUSTER_KEY = "use_with_ray_cluster"

_VARIABLE = "NEMORUN_HOME"
_CHECK = "NEMORUN_CHECK"
_OFF = ("", "0", "false", "no", "off")


def get_nemorun_home() -> str:
    """Return the folder that holds experiments and settings: ``$NEMORUN_HOME`` as it is now, or ``~/.nemo_run``.

    Example:
        >>> import os
        >>> os.path.isabs(get_nemorun_home())
        True
    """
    return _absolute(os.environ.get(_VARIABLE) or "~/.nemo_run")


def set_nemorun_home(path: str) -> None:
    """Use another folder from now on, in this process and in those that it starts.

    Example:
        >>> before = get_nemorun_home()
        >>> set_nemorun_home("/data/runs")
        >>> get_nemorun_home()
        '/data/runs'
        >>> set_nemorun_home(before)
    """
    os.environ[_VARIABLE] = _absolute(path)


def get_check() -> bool:
    """Check whether ``exp.run()`` raises where a job failed, by default: ``$NEMORUN_CHECK`` as it is now."""
    return os.environ.get(_CHECK, "").strip().lower() not in _OFF


def set_check(check: bool) -> None:
    """Let ``exp.run()`` raise an error where a job failed, in this process and in those that it starts.

    Example:
        >>> set_check(True)
        >>> get_check()
        True
        >>> set_check(False)
    """
    os.environ[_CHECK] = "1" if check else "0"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # pathlib would double the import time
