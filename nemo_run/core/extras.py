"""Packages that only some executors need, the commands that install them, and packages that add something."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from nemo_run.errors import MissingExtraError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


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


def entry_points(group: str) -> list[EntryPoint]:
    """Return what installed packages announce in a group.

    Python's own answer takes long to import, and most often it is nothing: so files are looked at first.
    """
    if not any(_may_announce(path or ".", f"[{group}]".encode()) for path in sys.path) and not _other_finders():
        return []
    from importlib.metadata import entry_points as found

    return list(found(group=group))


def _may_announce(path: str, section: bytes) -> bool:
    """Check whether a package in a folder announces something; what is no folder, a zip file say, may."""
    try:
        names = os.listdir(path)  # noqa: PTH208  # thousands of names
    except FileNotFoundError:
        return False
    except OSError:
        return True
    infos = [name for name in names if name.endswith((".dist-info", ".egg-info", "EGG-INFO"))]
    for name in infos:
        with contextlib.suppress(OSError), open(f"{path}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123
            if section in file.read():
                return True
    return False


def _other_finders() -> bool:
    """Check whether something else than Python itself finds packages."""
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_distributions"))
    return any(getattr(finder, "__module__", "") != "_frozen_importlib_external" for finder in finders)
