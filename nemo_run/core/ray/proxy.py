"""A dashboard that needs headers, as a port of this machine that needs none: its secret is in the address.

Any page in a browser, and any user of this machine, can send requests to a port here.  What is passed on, with the
user's token, is below a random path that only the user is told, for the host names of this machine, and leads to no
other address than the dashboard's own.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    import httpx

    from nemo_run.core.ray.engine import Dashboard

_OURS = ("connection", "content-encoding", "content-length", "host", "origin", "authorization", "transfer-encoding")
_PRIVATE = ("cookie", "referer", "x-ray-authorization", "forwarded", "x-forwarded-host")  # of the browser
_HOSTS = ("127.0.0.1", "localhost")


@contextlib.contextmanager
def serving(dashboard: Dashboard, port: int) -> Iterator[str]:
    """Serve a dashboard on a port of this machine, a free one for 0; gives its address, whose path is secret.

    Raises:
        ExecutorError: The port is in use.
    """
    import httpx

    with httpx.Client(headers=dict(dashboard.headers), timeout=60.0) as client:
        try:
            server = _Server(("127.0.0.1", port), _Handler)
        except OSError as e:
            raise ExecutorError(f"port {port} of this machine cannot be used: {e.strerror}; choose another") from e
        server.way = _Way(client, dashboard, f"/{secrets.token_urlsafe(24)}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{server.way.prefix}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def is_plain(path: str) -> bool:
    """Check that a path stays below the one that it is added to, however often it is decoded.

    >>> [is_plain(path) for path in ("/api/jobs/?a=..", "/../x", "/a/%252e%252e/b", "//other", "x")]
    [True, False, False, False, False]
    """
    path = path.partition("?")[0]
    while (decoded := unquote(path)) != path:
        path = decoded
    parts = path.replace("\\", "/").split("/")
    return path.startswith("/") and not path.startswith("//") and ".." not in parts and path.isprintable()


class _Way(NamedTuple):
    client: httpx.Client
    dashboard: Dashboard
    prefix: str


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    way: _Way


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        import httpx

        if refused := self._refused():
            self.send_error(*refused)
            return
        way = self.server.way
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() not in (*_OURS, *_PRIVATE)}
        if way.dashboard.token:
            headers["Authorization"] = f"Bearer {way.dashboard.token()}"
        url = way.dashboard.url + self.path.removeprefix(way.prefix)
        try:
            with way.client.stream(self.command, url, content=body, headers=headers) as answer:
                self._answer(answer)
        except httpx.HTTPError:
            self.send_error(502, "the cluster does not answer")

    def _refused(self) -> tuple[int, str] | None:
        """Return the code and the words with which a request is refused; ``None`` where it is passed on."""
        if (self.headers.get("host") or "").partition(":")[0] not in _HOSTS:
            return 421, "this is for 127.0.0.1 only"
        prefix = self.server.way.prefix
        given, rest = self.path[: len(prefix)], self.path[len(prefix) :]
        if not hmac.compare_digest(given.encode(), prefix.encode()) or not is_plain(rest):
            return 404, "no such address; use the one that was printed"
        if not (self.headers.get("content-length") or "0").isdecimal() or self.headers.get("transfer-encoding"):
            return 411, "a length is needed"
        return None

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name.lower() not in _OURS:
                self.send_header(name, value)
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        for piece in answer.iter_bytes():
            self.wfile.write(piece)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _pass_on  # noqa: N815
