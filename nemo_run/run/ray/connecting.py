"""Ray drivers of this machine, such as a notebook, on a cluster: they are let in, and find it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" has a driver keep to 127.0.0.1, where local clusters listen


def let_in(headers: Mapping[str, str], *, on_loopback: bool) -> None:
    """Have this process, and those that it starts, be let in by a cluster.

    Args:
        headers: With which its dashboard is asked; the token is taken from them.
        on_loopback: Whether the cluster listens on 127.0.0.1 only.
    """
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    if token := headers.get("Authorization", "").removeprefix("Bearer "):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    if on_loopback:
        os.environ[_LOOPBACK] = "0"
    if "ray" in sys.modules:
        _read_again(on_loopback=on_loopback)


def _read_again(*, on_loopback: bool) -> None:
    """Have a Ray that is imported already read its variables again."""
    with suppress(ImportError, AttributeError):  # older ones know no tokens
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
    with suppress(ImportError, AttributeError):
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = not on_loopback
