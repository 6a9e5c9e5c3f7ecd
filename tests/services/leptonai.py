"""The official SDK of Lepton, in a virtual environment of its own: it is large, and brings what we do not want."""

from __future__ import annotations

from tests.services import environment

VERSION = "0.47.1"
_NAME = f"leptonai-{VERSION}"
PYTHON = environment.python(_NAME)


def available() -> bool:
    """Is it there? In CI, it is installed first; on your machine, ``CI=true`` does that once."""
    return environment.available(_NAME, f"leptonai=={VERSION}")
