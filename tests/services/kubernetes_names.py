"""The name server of a test cluster: it knows the pods behind headless services, by their host names."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

DOMAIN = "cluster.local"
_ADDRESS, _INTERNET, _NO_SUCH_NAME = 1, 1, 3


class NameServer:
    """Answers on port 53 of an address of this machine."""

    def __init__(self, address: str, core: Callable[[], Any]) -> None:
        """Begin to answer.

        Args:
            address: The address.
            core: Gives a client of the API.
        """
        self._core = core
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # the thread wakes up
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, sender = self._socket.recvfrom(512)
            except OSError:
                return
            if not query:
                return
            with contextlib.suppress(OSError):
                self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += query[at] + 1
        question, kind = query[12 : at + 5], struct.unpack(">H", query[at + 1 : at + 3])[0]
        addresses = self._addresses(labels)
        given = addresses if kind == _ADDRESS else []
        flags = 0x8580 if addresses else 0x8580 | _NO_SUCH_NAME
        head = query[:2] + struct.pack(">HHHHH", flags, 1, len(given), 0, 0)
        records = [
            struct.pack(">HHHIH", 0xC00C, _ADDRESS, _INTERNET, 1, 4) + socket.inet_aton(address) for address in given
        ]
        return head + question + b"".join(records)

    def _addresses(self, labels: list[str]) -> list[str]:
        """Addresses of ``[<host>.]<service>.<namespace>.svc.cluster.local``."""
        *names, kind, first, second = labels if len(labels) > 4 else ["", "", "", "", ""]
        if [kind, first, second] != ["svc", *DOMAIN.split(".")] or len(names) not in (2, 3):
            return []
        *host, service, namespace = names
        try:
            found = self._core().read_namespaced_endpoints(service, namespace)
        except Exception:  # noqa: BLE001  (there is no such service, or no API any longer)
            return []
        entries = [entry for subset in found.subsets or [] for entry in subset.addresses or []]
        return [entry.ip for entry in entries if not host or entry.hostname == host[0]]
