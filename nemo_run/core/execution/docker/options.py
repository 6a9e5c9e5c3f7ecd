"""Options of Docker as users write them, and as the Docker SDK takes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from nemo_run.errors import ExecutorError

DEFAULT_NETWORK = "nemo_run"

OURS = ("image", "command", "name", "detach", "remove", "auto_remove", "tty", "volumes", "ports")
"""Arguments of the SDK that are not for ``additional_kwargs``."""


def ulimit(text: str) -> dict[str, Any]:
    """``name=soft[:hard]``, or with a colon in place of the equals sign, as the SDK takes it.

    >>> ulimit("nofile=1024:2048"), ulimit("memlock:-1")
    ({'name': 'nofile', 'soft': 1024, 'hard': 2048}, {'name': 'memlock', 'soft': -1, 'hard': -1})
    """
    match = re.fullmatch(r"(\w+)[=:](-?\d+)(?::(-?\d+))?", text)
    if not match:
        raise ExecutorError(f"DockerExecutor.ulimits: {text!r} is not a limit; write e.g. 'nofile=1024:2048'")
    name, soft, hard = match.groups()
    return {"name": name, "soft": int(soft), "hard": int(hard or soft)}


def _parts_of_port(text: str) -> tuple[str, ...]:
    """Return the address and port of this machine, the container's port, and the protocol; empty where not given."""
    match = re.fullmatch(r"(?:(?:(\[[0-9a-fA-F:]+\]|[0-9.]+):)?(\d*):)?(\d+)(/tcp|/udp|/sctp)?", str(text))
    if not match or not all(int(port) < 65536 for port in match.group(2, 3) if port):
        raise ExecutorError(
            f"DockerExecutor.ports: {text!r} is not a port; write '8080', '8080:80', or '127.0.0.1:8080:80/udp', "
            "the port of this machine first"
        )
    return tuple(part or "" for part in match.groups())


def port_bindings(ports: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """``[[address:]port on this machine:]port in the container[/udp]``, as the SDK takes it.

    >>> port_bindings(["8080:80", "127.0.0.1:53:53/udp"])
    {'80/tcp': [{'HostPort': '8080'}], '53/udp': [{'HostPort': '53', 'HostIp': '127.0.0.1'}]}
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in ports:
        address, host, inside, protocol = _parts_of_port(text)
        binding = {"HostPort": host or ("" if ":" in str(text) else inside)}
        if address:
            binding["HostIp"] = address.strip("[]")
        bindings.setdefault(f"{inside}{protocol or '/tcp'}", []).append(binding)
    return bindings
