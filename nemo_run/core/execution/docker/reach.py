"""The way to a container: this machine, from which its ports are reached by its address."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nemo_run.core.tunnel.client import LocalTunnel


@dataclass(kw_only=True)
class ContainerTunnel(LocalTunnel):
    """This machine, with the address of one container.

    Attributes:
        address: The address; empty where the container has none of its own.
    """

    address: str = ""

    @contextlib.contextmanager
    def forward(self, port: int, host: str = "localhost", local_port: int | None = None) -> Iterator[int]:
        """Forward a port of this machine to one of the container; its names for itself are not known here."""
        there = host if _is_elsewhere(host) else self.address or "localhost"
        with super().forward(port, there, local_port) as here:
            yield here


def _is_elsewhere(host: str) -> bool:
    """Return whether a host is an address, and not one by which a container means itself."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def address_of(found: Mapping[str, Any]) -> str:
    """Return the address of a container; empty where it has the network of this machine, or none."""
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return next((str(network["IPAddress"]) for network in networks.values() if network.get("IPAddress")), "")
