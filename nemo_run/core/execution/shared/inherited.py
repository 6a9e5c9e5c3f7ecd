"""The environment of the launching process, for tasks that inherit it: on the disk only its owner can read it.

The file has it sealed with the user's key of the folder two levels above its own, where experiments have theirs. A
copy of an experiment that goes elsewhere takes nothing of it along: there, tasks inherit the environment of the process
that starts them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from nemo_run.core.files import json_bytes, make_folder, read_object, write_json
from nemo_run.core.sealing import made_key, own_key, seal, unseal
from nemo_run.errors import StoreError

_SEALED = "sealed"


def _root(path: Path) -> Path:
    return path.parents[2]


def write_environment(path: Path, env: Mapping[str, str]) -> None:
    """Store an environment, sealed.

    Raises:
        StoreError: It cannot be written, or the key is not this user's.
    """
    key = made_key(make_folder(_root(path)))
    write_json(path, {_SEALED: seal(key, json_bytes(dict(env), None))})


def read_environment(path: str | Path) -> dict[str, str]:
    """Return the environment that tasks inherit: the stored one, or that of this process where it was sealed elsewhere.

    Args:
        path: The file that a :class:`TaskRequest` names as ``environment_file``; nothing is inherited without one.

    Raises:
        StoreError: The file is missing or damaged.
    """
    if not path:
        return {}
    found = read_object(path)
    if found is None:
        raise StoreError(f"{path}: there is no such file; it has the environment that the task inherits")
    if set(found) == {_SEALED} and isinstance(found[_SEALED], str):
        key = own_key(_root(Path(path)))
        content = unseal(key, found[_SEALED]) if key else None
        found = dict(os.environ) if content is None else json.loads(content)
    if not all(isinstance(value, str) for value in found.values()):
        raise StoreError(f"{path}: the file is damaged: a variable is no text")
    return found
