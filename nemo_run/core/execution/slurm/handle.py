"""Handles of attempts on a Slurm cluster."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from nemo_run.errors import ExecutorError

_SCHEME = "slurm://"
_HANDLE = re.compile(r"slurm://(?P<job>\d+(?:[_+]\d+)*)(?P<folder>/.*?)?(?:#(?P<member>\d+))?", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Handle:
    """An attempt on a cluster.

    Attributes:
        job: Id of the Slurm job.
        folder: The attempt's folder on the cluster.
        member: Which member of a job group it is; ``None`` where it is none.
    """

    job: str
    folder: str
    member: int | None = None

    def __str__(self) -> str:
        return f"{_SCHEME}{self.job}{self.folder}" + (f"#{self.member}" if self.member is not None else "")

    @property
    def artifacts(self) -> str:
        """Folder of the artifacts of its job."""
        return f"{posixpath.dirname(posixpath.dirname(self.folder))}/artifacts"

    @property
    def experiment(self) -> str:
        """Folder of the experiment of its job."""
        return posixpath.dirname(posixpath.dirname(posixpath.dirname(self.folder)))

    @classmethod
    def parse(cls, text: str) -> Handle:
        """Return the handle that :meth:`__str__` wrote.

        Raises:
            ExecutorError: It is none. What is in it becomes part of commands for the cluster.
        """
        found = _HANDLE.fullmatch(text)
        if not found:
            raise ExecutorError(f"{text!r:.200} is no handle of a Slurm job")
        return cls(found["job"], found["folder"] or "", int(found["member"]) if found["member"] else None)
