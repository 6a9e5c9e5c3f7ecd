"""Handles of attempts on a Slurm cluster."""

from __future__ import annotations

from dataclasses import dataclass

_SCHEME = "slurm://"


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

    @classmethod
    def parse(cls, text: str) -> Handle:
        """Return the handle that :meth:`__str__` wrote."""
        rest, _, member = text.removeprefix(_SCHEME).partition("#")
        job, slash, folder = rest.partition("/")
        return cls(job, slash + folder, int(member) if member else None)
