"""NVIDIA's NeMo-Run, in a virtual environment of its own: it is imported by the same name as ours."""

from __future__ import annotations

from tests.services import environment

VERSION = "0.11.1"
_NAME = f"nemo-run-{VERSION}"
PYTHON = environment.python(_NAME)


def available() -> bool:
    """Is it there? In CI, it is installed first; on your machine, ``CI=true`` does that once."""
    # The version of Lepton's SDK that it was released with; it is imported with the package itself.
    return environment.available(_NAME, f"nemo_run=={VERSION}", "leptonai==0.27.3")
