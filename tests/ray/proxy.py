"""A way to a Ray dashboard that breaks when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class FaultyProxy:
    """Passes connections on to a port of this machine, and cuts those that it is told to cut.

    Attributes:
        target: The port.
        cut: For the first line of a request, the number of bytes of the answer after which the connection is cut;
            ``None`` to leave it alone. What was asked has arrived by then.
        seen: The first lines of all requests.
    """

    target: int
    cut: Callable[[str], int | None] = lambda _: None
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server, contextlib.suppress(OSError):
            limits: list[int | None] = [None]
            threading.Thread(target=self._requests, args=(client, server, limits), daemon=True).start()
            while data := server.recv(1 << 16):
                if limits[0] is not None:
                    data = data[: limits[0]]
                    limits[0] -= len(data)
                client.sendall(data)
                if limits[0] == 0:
                    break
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self, client: socket.socket, server: socket.socket, limits: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                line = data.split(b"\r\n")[0]
                if line.endswith(b" HTTP/1.1"):
                    request = line.decode().removesuffix(" HTTP/1.1")
                    self.seen.append(request)
                    limits[0] = self.cut(request)
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
