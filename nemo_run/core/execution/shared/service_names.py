"""Names of what an experiment makes at a service, which lets nobody choose long ones."""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import PurePosixPath


def service_name(job_id: str, directory: str, attempt: int, longest: int) -> str:
    """Return the name of an attempt: the same whenever it is asked for, and no other attempt's in the workspace.

    It begins with a letter and consists of lowercase letters, digits and dashes.

    Args:
        job_id: The job.
        directory: The job's folder in the store.
        attempt: Number of the attempt.
        longest: How many characters the service allows.

    Example:
        >>> service_name("Train_model.v2", "/home/me/.nemo_run/experiments/x/x_1/train", 1, 36)
        'train-model-v2-7d128cdc-31e5a-1'
    """
    end = f"-{experiment_mark(posixpath.dirname(directory))}-{digest(directory)[:5]}-{attempt}"
    slug = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"j{slug}"
    return slug[: longest - len(end)].strip("-") + end


def folder_there(base: str, home: str, directory: str) -> str:
    """Return the folder of a job below a folder that jobs share, by its folder in the store.

    >>> folder_there("/mnt/nemo", "/home/me/.nemo_run", "/home/me/.nemo_run/experiments/x/x_1/job")
    '/mnt/nemo/experiments/x/x_1/job'
    """
    path = PurePosixPath(directory)
    if path.is_relative_to(home):
        return posixpath.join(base, path.relative_to(home))
    experiment = path.parent  # in a store elsewhere
    return posixpath.join(base, "experiments", experiment_mark(str(experiment.parent)), experiment.name, path.name)


def experiment_mark(experiment_folder: str) -> str:
    """Return what stands in the names of all attempts of one experiment, and in no other's."""
    return digest(experiment_folder)[:8]


def mark_in(name: str) -> str:
    """Return the mark of the experiment in a name.

    >>> mark_in("train-model-v2-7d128cdc-31e5a-1")
    '7d128cdc'
    """
    return name.split("-")[-3]


def digest(text: str) -> str:
    """Return a digest of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
