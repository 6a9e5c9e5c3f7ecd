"""Packagers made of other packagers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nemo_run.core.packaging.archive import Entry, leads_out, merge, placed, read_archive
from nemo_run.core.packaging.base import ArchivePackager, Packager
from nemo_run.errors import PackagingError


@dataclass(kw_only=True)
class HybridPackager(ArchivePackager):
    """Packages what several packagers package, in one archive.

    Attributes:
        sub_packagers: A list, whose packages are laid over each other (of two files with one name the later counts), or
            a dictionary from the folder that a package goes into to its packager.
        extract_at_root: Lay the packages of a dictionary over each other too.

    Example:
        >>> data = ConditionalPackager(Packager(), when=Path.is_dir)
        >>> list(HybridPackager({"code": Packager(), "data": data}).sub_packagers)
        ['code', 'data']
    """

    sub_packagers: dict[str, Packager] | list[Packager] = field(default_factory=dict, kw_only=False)
    extract_at_root: bool = False

    def entries(self, path: Path) -> Iterator[Entry]:
        """Return the entries of all packagers."""
        members = [(folder, entries_of(packager, path)) for folder, packager in self._members()]
        return merge([placed(entries, folder) if folder else entries for folder, entries in members])

    def _members(self) -> list[tuple[str, Packager]]:
        if isinstance(self.sub_packagers, dict):
            folders = ["" if self.extract_at_root else folder for folder in self.sub_packagers]
            return [
                (_safe(folder), packager) for folder, packager in zip(folders, self.sub_packagers.values(), strict=True)
            ]
        return [("", packager) for packager in self.sub_packagers]


@dataclass(kw_only=True)
class ConditionalPackager(ArchivePackager):
    """Packages only if a condition holds when the job is packaged.

    Attributes:
        packager: The packager.
        when: Asked with the folder that is packaged.

    Example:
        >>> packager = ConditionalPackager(Packager(), when=Path.exists)
        >>> list(packager.entries(Path(".")))
        []
    """

    packager: Packager = field(kw_only=False)
    when: Callable[[Path], bool]

    def entries(self, path: Path) -> Iterator[Entry]:
        """Return the entries of the packager, or none."""
        return entries_of(self.packager, path) if self.when(path) else iter(())


def entries_of(packager: Packager, path: Path) -> Iterator[Entry]:
    """Yield what a packager packages, whether or not it has a way of its own to write its archive."""
    if isinstance(packager, ArchivePackager) and type(packager).package is ArchivePackager.package:
        yield from packager.entries(path)
        return
    with tempfile.TemporaryDirectory(prefix="nemorun-package-") as folder:
        archive = packager.package(path, folder, "package")
        if archive:
            yield from read_archive(archive)


def _safe(folder: str) -> str:
    if folder and leads_out(folder):
        raise PackagingError(f"{folder!r} cannot be the place of a package: name a folder, such as 'third_party/lib'")
    return folder.rstrip("/")
