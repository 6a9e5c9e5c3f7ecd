"""A service, or another program in its place, may answer with anything: that is told, and nothing else happens."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.base import Backend, get_backend
from nemo_run.core.rest import RestClient
from nemo_run.errors import ExecutorError, NemoRunError

MB = b" " * (1 << 20)


class Odd:
    """A service that answers every question with the same, but for its login."""

    def __init__(self) -> None:
        self.status, self.pieces, self.sent = 200, list[bytes](), 0
        odd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                login = self.path.endswith("/token")
                self.send_response(200 if login else odd.status)
                self.end_headers()
                pieces: Iterable[bytes] = [b'{"accessToken": "T", "expiresIn": 100}'] if login else odd.pieces
                try:
                    for piece in pieces:
                        self.wfile.write(piece)
                        odd.sent += len(piece)
                except OSError:
                    pass

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[Odd]:
    odd = Odd()
    yield odd
    odd.server.shutdown()
    odd.server.server_close()


_KUBECONFIG = """
{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}],
  clusters: [{{name: c, cluster: {{server: "{url}"}}}}], users: [{{name: u, user: {{token: x}}}}]}}
"""


@pytest.fixture(params=["lepton", "dgxcloud", "kubernetes", "kubeflow", "docker"])
def backend(
    request: pytest.FixtureRequest, service: Odd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Backend]:
    for name, value in (
        ("LEPTON_WORKSPACE_ID", "ws"),
        ("LEPTON_WORKSPACE_TOKEN", "x"),
        ("DGXCLOUD_CLIENT_SECRET", "x"),
    ):
        monkeypatch.setenv(name, value)
    options = {
        "lepton": {"workspace": "ws", "url": service.url, "origin": ""},
        "dgxcloud": {"base_url": service.url, "client_id": "c", "project_name": "p", "kube_apiserver_url": ""},
        "kubernetes": {"kubeconfig": str(tmp_path / "kubeconfig"), "context": "c"},
        "kubeflow": {"kubeconfig": str(tmp_path / "kubeconfig"), "context": "c"},
        "docker": {"host": service.url.replace("http", "tcp")},
    }
    (tmp_path / "kubeconfig").write_text(_KUBECONFIG.format(url=service.url))
    made = get_backend(request.param, options[request.param])
    yield made
    made.close()


def handle(backend: Backend, folder: Path) -> str:
    (folder / "attempts/1").mkdir(parents=True, exist_ok=True)
    (folder / "attempts/1/submitted").touch()
    return {
        "lepton": f"lepton://nr-mark-a-1{folder}", "dgxcloud": f"dgxcloud://training/nr-mark-a-1{folder}",
        "kubernetes": f"kubernetes://ns/nr-a-1/1{folder}/attempts/1",
        "kubeflow": f"kubeflow://ns/nr-a-1/1{folder}/attempts/1", "docker": f"docker://nr-a-1{folder}/attempts/1",
    }[backend.name]  # fmt: skip


ODD = (
    "[]", "null", '"x"', "5", "[null]", '["a"]', '{"jobs": [null]}', '{"jobs": "abc"}', '{"jobs": [{"metadata": 5}]}',
    '{"projects": null}', '{"projects": [null]}', '{"projects": [{"name": "p"}]}', '{"workloads": [5]}', "[" * 100000,
    "<html>", "\xff",
)  # fmt: skip


@pytest.mark.parametrize("text", ODD, ids=[text[:20].encode().hex() for text in ODD])
def test_an_odd_answer_is_our_own_error_or_none(text: str, backend: Backend, service: Odd, tmp_path: Path) -> None:
    service.pieces = [text.encode("latin-1")]
    one = handle(backend, tmp_path)
    for ask in (
        lambda: backend.states([one]),
        lambda: backend.cancel([one]),
        lambda: backend.ranks(one),
        lambda: backend.open_log(one).read(),
    ):
        try:
            ask()
        except NemoRunError as error:
            known = ("answer", "Lepton", "DGX", "log", "cluster", "Docker")
            assert any(word in str(error) for word in known)


def test_an_answer_without_end_is_given_up(backend: Backend, service: Odd, tmp_path: Path) -> None:
    service.pieces = [MB] * 600
    with pytest.raises(ExecutorError, match=r"more than (64|256) MiB"):
        backend.states([handle(backend, tmp_path)])
    assert service.sent < 350 << 20


def test_a_refusal_acts_on_no_terminal(backend: Backend, service: Odd, tmp_path: Path) -> None:
    service.status, service.pieces = 403, ["\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202eno".encode()]
    with pytest.raises(ExecutorError, match="OWNED") as caught:
        backend.states([handle(backend, tmp_path)])
    assert str(caught.value).isprintable()


def test_a_compressed_answer_is_measured_as_it_is_read(service: Odd) -> None:
    client = RestClient(service.url, service="S", extra="lepton")
    service.pieces = [b'{"a": 1}']
    assert client.get("x") == {"a": 1}
    client.close()
