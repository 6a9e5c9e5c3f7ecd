"""What every packager has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_run.config.mixin import ConfigurableMixin
from nemo_run.errors import PackagingError

if TYPE_CHECKING:
    from nemo_run.core.packaging.archive import Entry


@dataclass(kw_only=True)
class Packager(ConfigurableMixin):
    """Says which code goes with a job. This one ships none: the code is where the job runs, in its image perhaps.

    To package in a way of your own, subclass it and override :meth:`package`.

    Attributes:
        debug: Ask the executor for its debug flags.
        symlink_from_remote_dir: A folder on the cluster to link to, instead of sending code (Slurm only).

    Example:
        >>> Packager().package(Path("."), job_dir="/tmp/job", name="train")
        ''
    """

    debug: bool = False
    symlink_from_remote_dir: str | None = None

    def package(self, path: Path, job_dir: str, name: str) -> str:
        """Package the code.

        Args:
            path: The folder that the code is in.
            job_dir: Folder of the job, where the archive goes.
            name: Name of the archive, without a suffix.

        Returns:
            Path of the archive, a tar file that any ``tar`` unpacks; empty where no code is shipped.
        """
        return ""

    def setup(self) -> None:
        """Called on the executor's side before the job starts; does nothing unless overridden."""


@dataclass(kw_only=True)
class ArchivePackager(Packager, ABC):
    """A packager that says what goes into the archive; how it is written is the same for all.

    Override :meth:`entries` of a subclass to change what is packaged.
    """

    @abstractmethod
    def entries(self, path: Path) -> Iterator[Entry]:
        """Return the content of the archive; of two entries with one name the first counts."""

    def package(self, path: Path, job_dir: str, name: str) -> str:
        """Write ``{job_dir}/{name}.tar.gz``, unless it is there already: a job is packaged once.

        Raises:
            PackagingError: The code cannot be packaged; the message says why.
        """
        from nemo_run.core.packaging.archive import write_archive

        if Path(name).name != name:
            raise PackagingError(f"{name!r} cannot be the name of a package: it is not the name of a file")
        archive = Path(job_dir, f"{name}.tar.gz")
        if not archive.exists():
            write_archive(self.entries(Path(path)), archive)
        return str(archive)
