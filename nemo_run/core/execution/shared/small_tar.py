"""Small tar files, made in memory."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def tar_of(files: Mapping[str, bytes | Path], *, mode: int | None = 0o600, modified: int = 0) -> bytes:
    """Return the files as a tar file; the same files give the same bytes.

    Args:
        files: Content, or a file of this machine, by name; a name that ends in a slash is that of a folder.
        mode: Permissions of the files; ``None``: those of the files of this machine.
        modified: When all were modified, in seconds since the epoch.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, source in files.items():
            entry = tarfile.TarInfo(name)
            entry.mtime = modified
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                tar.addfile(entry)
                continue
            content = source.read_bytes() if isinstance(source, Path) else source
            entry.mode = 0o600 if mode is None else mode
            if mode is None and isinstance(source, Path):
                entry.mode = source.stat().st_mode & 0o777
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def zipped(content: bytes) -> bytes:
    """Return bytes compressed by gzip; equal bytes give equal bytes."""
    import gzip

    return gzip.compress(content, mtime=0)


def folder_archive(folder: str | Path) -> bytes:
    """Return what is below a folder as a gzipped tar file."""
    below = [path for path in sorted(Path(folder).rglob("*")) if path.is_dir() or path.is_file()]
    names = (path.relative_to(folder).as_posix() for path in below)
    files = {f"{name}/" if path.is_dir() else name: path for name, path in zip(names, below, strict=True)}
    return zipped(tar_of(files, mode=None))
