"""What is sent to the cluster for an attempt. Only files of this machine are read."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping

from nemo_run.core.execution.jobs import Plan
from nemo_run.core.execution.shared.shipping import job_files
from nemo_run.core.execution.shared.small_tar import tar_of
from nemo_run.core.execution.slurm import script, spec

_FOLDERS = ("artifacts", "services", "checkpoints")


def attempt_files(plan: Plan, attempt: int, code: str, runner: str) -> dict[str, bytes]:
    """Return the files of an attempt by their paths on the cluster. Folders have a ``/`` at the end."""
    folder, files = plan.spec["folder"], {f"{plan.spec['folder']}/{name}/": b"" for name in _FOLDERS}
    if folder != plan.directory:
        files |= {f"{folder}/{name}": path.read_bytes() for name, path in job_files(plan.directory).items()}
    if plan.spec["member"] == 0:
        for pair in script.job_files(spec.batch_of(plan.spec)).items():
            path, text = (script.complete(part, attempt, code, runner) for part in pair)
            files[path] = text.encode("utf-8", "surrogateescape")
    return files


def shared_folders(base: str, files: Mapping[str, bytes]) -> list[str]:
    """Return the folders below ``base`` that experiments share: the first parts of these paths, where more follow."""
    parts = (posixpath.relpath(path, base).split("/") for path in files)
    return list(dict.fromkeys(names[0] for names in parts if len(names) > 3 and names[0] != ".."))


def packed(base: str, files: Mapping[str, bytes]) -> bytes:
    """Return the files as a tar file to unpack in ``base``; only their owner can read them."""
    names = {path: posixpath.relpath(path, base) + ("/" if path.endswith("/") else "") for path in files}
    return tar_of({names[path]: content for path, content in files.items()}, modified=int(time.time()))
