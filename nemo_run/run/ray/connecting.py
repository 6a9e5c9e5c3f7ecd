"""Ray drivers of this machine, such as a notebook, on a cluster: they are let in, and find it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from nemo_run.core.rest import is_loopback

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" has a driver keep to 127.0.0.1, where local clusters listen


def let_in(headers: Mapping[str, str], address: str) -> None:
    """Have this process, and those that it starts, be let in by a cluster.

    Args:
        headers: With which its dashboard is asked; the token is taken from them.
        address: Where it is joined directly; empty for one elsewhere. One on this machine listens on 127.0.0.1 only.
    """
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    if token := headers.get("Authorization", "").removeprefix("Bearer "):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    if is_loopback(f"http://{address}"):
        os.environ[_LOOPBACK] = "0"
    else:
        os.environ.pop(_LOOPBACK, None)
    if "ray" in sys.modules:
        _read_again()


def _read_again() -> None:
    """Have a Ray that is imported already read its variables again."""
    with suppress(ImportError, AttributeError):  # older ones know no tokens
        raylet = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
    with suppress(ImportError, AttributeError):
        constants = importlib.import_module("ray._private.ray_constants")
        constants.ENABLE_RAY_CLUSTER = os.environ.get(_LOOPBACK) != "0"  # type: ignore[attr-defined]
