"""Folders of code on this machine, and what takes their place when an experiment is run again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def moved(path: str, roots: Mapping[str, str], cwd: str = "") -> str:
    """Return where a path of code leads now; anything else, and what is not there now, stays as it is.

    Args:
        path: A path, or any other argument of a command.
        roots: What takes the place of each folder of code.
        cwd: Folder in which a relative path begins.
    """
    if not path or "\0" in path or len(path) > 4096:
        return path
    full = os.path.normpath(os.path.join(cwd, path))  # noqa: PTH118  (a command's argument, which need not be a path)
    for root, place in sorted(roots.items(), key=lambda item: -len(item[0])):
        if full == root or full.startswith(f"{root}/"):
            target = place + full[len(root) :]
            return target if Path(target).exists() else path
    return path


def moved_paths(paths: str, roots: Mapping[str, str], cwd: str = "") -> str:
    """Return a list of folders such as ``PYTHONPATH`` with each of them moved."""
    return os.pathsep.join(moved(path, roots, cwd) for path in paths.split(os.pathsep))
