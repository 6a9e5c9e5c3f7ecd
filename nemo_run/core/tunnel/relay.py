"""Forwarding a port of this machine to another one, without SSH."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from nemo_run.errors import TunnelError

_BLOCK = 1 << 16


class Relay:
    """Accepts connections on a port of this machine and passes them on, while it is entered."""

    def __init__(self, local_port: int, host: str, port: int) -> None:
        """Pass on what comes to ``127.0.0.1:local_port`` to ``host:port``."""
        self._target = (host, port)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", local_port))
        except OSError as e:
            self._listener.close()
            raise TunnelError(f"port {local_port} of this machine cannot be forwarded: {e.strerror}") from e
        self._listener.listen()

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True, name=f"nemo-run relay to {self._target}").start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target, timeout=20) as server:
            server.settimeout(None)
            peers = {client: server, server: client}
            open_ends = set(peers)
            while open_ends:
                for source in select.select(list(open_ends), [], [])[0]:
                    data = source.recv(_BLOCK)
                    if data:
                        peers[source].sendall(data)
                    else:
                        open_ends.discard(source)
                        peers[source].shutdown(socket.SHUT_WR)
