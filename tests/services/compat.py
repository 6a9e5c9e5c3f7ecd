"""An environment with the extra ``compat``, of its own: TorchX wants an old urllib3."""

from __future__ import annotations

from tests.services import environment

_NAME = "compat-1"
PYTHON = environment.python(_NAME)


def available() -> bool:
    """Is it there? In CI, it is installed first; on your machine, ``CI=true`` does that once."""
    return environment.available(_NAME, f"{environment.ROOT}[compat]")
