"""A dashboard that needs a token, as a port of this machine: the token goes nowhere else."""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from nemo_run.core.ray.engine import Dashboard
from nemo_run.core.ray.proxy import serving
from nemo_run.errors import ExecutorError


class Seen(NamedTuple):
    service: str
    path: str
    headers: dict[str, str]


class Services:
    """Two services of this machine: the dashboard, and one of somebody else."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.ports = {name: self._start(name) for name in ("dashboard", "theirs")}

    def _start(self, name: str) -> int:
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length") or 0))
                seen.append(Seen(name, self.path, headers))
                self.send_response(200)
                self.send_header("content-length", str(2 + len(body)))
                self.end_headers()
                self.wfile.write(b"ok" + body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def address(services: Services) -> Iterator[str]:
    headers = {"Authorization": "Bearer made-up"}
    with serving(Dashboard(f"http://127.0.0.1:{services.ports['dashboard']}/ws/dashboard", headers), 0) as address:
        yield address


def test_the_address_that_was_given_leads_to_the_dashboard(address: str, services: Services) -> None:
    for path in ("/api/jobs/?limit=..", "/", "/api/a%20b"):
        request = urllib.request.Request(address + path, headers={"Cookie": "mine=1", "Referer": address})
        with urllib.request.urlopen(request) as answer:
            assert answer.read() == b"ok"
    with urllib.request.urlopen(urllib.request.Request(f"{address}/api/jobs/", data=b"body")) as answer:
        assert answer.read() == b"okbody"
    paths = ["/ws/dashboard/api/jobs/?limit=..", "/ws/dashboard/", "/ws/dashboard/api/a%20b", "/ws/dashboard/api/jobs/"]
    assert [one.path for one in services.seen] == paths
    for one in services.seen:
        assert one.headers["authorization"] == "Bearer made-up"
        assert not {"cookie", "referer"} & set(one.headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "rebound.example.org", ""])
@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:THEIRS/steal",
        "/../../jobs",
        "/api/jobs/",
        "SECRET/../../jobs",
        "SECRET/%2e%2e/jobs",
        "SECRET/a/%252E%252e/%2e%2e/jobs",
        "SECRET/..%5cjobs",
        "SECRET//127.0.0.1:THEIRS/steal",
        "SECRET@127.0.0.1:THEIRS/steal",
        "http://127.0.0.1:THEIRSSECRET/",
    ],
)
def test_the_token_goes_nowhere_else(address: str, services: Services, path: str, host: str) -> None:
    url = urlsplit(address)
    target = path.replace("THEIRS", str(services.ports["theirs"])).replace("SECRET", url.path)
    assert ask(url.port or 0, target, host).partition(b" ")[2][:1] == b"4"
    assert services.seen == []


@pytest.mark.parametrize("host", ["rebound.example.org", "127.0.0.1.example.org", "", "[::1]"])
def test_other_names_of_the_host_are_refused(address: str, services: Services, host: str) -> None:
    url = urlsplit(address)
    assert ask(url.port or 0, f"{url.path}/api/jobs/", host).startswith(b"HTTP/1.0 421 ")
    assert services.seen == []


def test_each_address_is_another_one(address: str) -> None:
    with serving(Dashboard("http://127.0.0.1:1"), 0) as other:
        assert len(urlsplit(other).path) > 20
        assert urlsplit(other).path != urlsplit(address).path
        with pytest.raises(urllib.error.HTTPError, match="502"):
            urllib.request.urlopen(f"{other}/")


def test_a_port_in_use_is_named(address: str) -> None:
    port = urlsplit(address).port or 0
    with pytest.raises(ExecutorError, match=str(port)), serving(Dashboard("http://127.0.0.1:1"), port):
        pass


def ask(port: int, target: str, host: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(20)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(4096):
            answer += data
        return answer
