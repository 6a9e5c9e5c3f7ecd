"""A Python environment with this package and what it requires, and nothing of its extras."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import nemo_run

_PACKAGE = Path(nemo_run.__file__).parent


def make(folder: Path) -> Path:
    """Make the environment below a folder, and return its interpreter.

    The required distributions are those that are installed here: their files are linked, so nothing is downloaded.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "nemo_run").symlink_to(_PACKAGE)
    for required in _required("nemo-run"):
        for path in _top_level(required):
            (packages / path.name).symlink_to(path)
    return folder / "bin" / "python"


def _required(name: str) -> list[Distribution]:
    """Return what a distribution requires without any extra, and what that requires, and so on."""
    found: dict[str, Distribution] = {}
    names = list(_requirements(distribution(name)))
    while names:
        if (key := names.pop().lower().replace("_", "-")) not in found:
            found[key] = distribution(key)
            names += _requirements(found[key])
    return list(found.values())


def _requirements(of: Distribution) -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in of.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def _top_level(of: Distribution) -> set[Path]:
    """Return the folders and files that a distribution has in ``site-packages``."""
    names = {file.parts[0] for file in of.files or () if file.parts[0] != ".." and file.parts[0] != "__pycache__"}
    return {Path(str(of.locate_file(name))) for name in names}
