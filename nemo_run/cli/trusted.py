"""Code that is found by its place, not by its name: only what this user, or root, has put there is run."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path


def why_not_trusted(path: Path) -> str:
    """Return why a file that was found in a folder is not to be run; empty where it may be.

    The file and its folder, and where links lead, must be of this user or of root, and others must not be able to write
    to them: they could also put a neighbour there that the file imports.
    """
    target = path.resolve()
    for place in dict.fromkeys((path, path.parent, target, target.parent)):
        try:
            found = place.lstat()
        except OSError as error:
            return f"{place} cannot be looked at: {error.strerror}"
        if found.st_uid not in (os.geteuid(), 0):
            return f"{place} belongs to {_user(found.st_uid)}"
        if found.st_mode & stat.S_IWOTH and not stat.S_ISLNK(found.st_mode):
            return f"everybody can write to {place}"
    return ""


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"
