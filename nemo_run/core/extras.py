"""Packages that only some executors need, and the commands that install them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from nemo_run.errors import MissingExtraError


def load(module: str, extra: str, who: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: The module.
        extra: The extra of this package that brings it.
        who: What needs it, for the message.

    Raises:
        MissingExtraError: It is not installed, or cannot be imported.
    """
    require((module,), extra, who)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{who} needs the package {module}, which cannot be imported ({error}); install it again: "
            f"{command(extra)} --force-reinstall"
        ) from error


def require(modules: tuple[str, ...], extra: str, who: str) -> None:
    """Check that packages are installed, without importing them.

    Raises:
        MissingExtraError: They are not; the message names the command.
    """
    if words := lacking(modules, extra, who):
        raise MissingExtraError(words)


def lacking(modules: tuple[str, ...], extra: str, who: str) -> str:
    """Return what is not installed and the command that installs it; empty if all is there."""
    missing = [name for name in modules if not _is_installed(name)]
    if not missing:
        return ""
    return f"{who} needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}: {command(extra)}"


def command(extra: str) -> str:
    """Return the command that installs an extra.

    >>> command("docker")
    "pip install 'nemo-run[docker]'"
    """
    return f"pip install 'nemo-run[{extra}]'"


def _is_installed(name: str) -> bool:
    """Check whether a package can be found. A folder without code, such as ``docker/`` of a project, is none."""
    spec = importlib.util.find_spec(name.partition(".")[0])
    return spec is not None and spec.origin is not None
