"""A dashboard that needs headers, as a port of this machine that needs none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    import httpx

    from nemo_run.core.ray.engine import Dashboard

_OURS = ("connection", "content-encoding", "content-length", "host", "origin", "authorization", "transfer-encoding")


@contextlib.contextmanager
def serving(dashboard: Dashboard, port: int) -> Iterator[None]:
    """Serve a dashboard as ``http://127.0.0.1:port``.

    Raises:
        ExecutorError: The port is in use.
    """
    import httpx

    with httpx.Client(base_url=dashboard.url, headers=dict(dashboard.headers), timeout=60.0) as client:
        handler = type("Handler", (_Handler,), {"client": client})
        try:
            server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as e:
            raise ExecutorError(f"port {port} of this machine cannot be used: {e.strerror}; choose another") from e
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    client: httpx.Client

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        import httpx

        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OURS}
        try:
            with self.client.stream(self.command, self.path, content=body, headers=headers) as answer:
                self.send_response(answer.status_code)
                for name, value in answer.headers.multi_items():
                    if name.lower() not in _OURS:
                        self.send_header(name, value)
                self.end_headers()
                for piece in answer.iter_bytes():
                    self.wfile.write(piece)
        except httpx.HTTPError as e:
            self.send_error(502, "the cluster does not answer", str(e))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass_on  # noqa: N815
