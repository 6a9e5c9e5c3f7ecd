"""Artifacts that came with the log of an attempt."""

from __future__ import annotations

from pathlib import Path

from nemo_run.core.execution.shared import leftovers


def unpack_left(attempt: Path, folder: Path) -> dict[str, str]:
    """Unpack the artifacts that came with the log of an attempt, and return what was left out."""
    archive, said = attempt / "artifacts.tar.gz", attempt / "artifacts.left"
    if not archive.exists():
        return {}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    seen_as, _, words = (said.read_bytes() if said.exists() else b"").partition(b"\n")
    with archive.open("rb") as packed:
        left = leftovers.unpack(packed, folder, seen_as.decode("utf-8", "surrogateescape"))
    archive.unlink()
    return left | leftovers.complaints(words)
