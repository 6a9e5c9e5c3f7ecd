"""Services that tasks announce, on this machine; on a cluster they are in tests/slurm."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError
from nemo_run.run.services import Service, parse
from tests.support import eventually

SERVER = """
exec python3 - <<'END'
import http.server, os, pathlib, socket
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["NEMO_RUN_TASK"].encode())
server = http.server.HTTPServer(("", 0), Answer)
pathlib.Path(os.environ["NEMO_RUN_SERVICES"], "web").write_text(f"{os.environ.get('HOST', '')}{server.server_port}")
server.serve_forever()
END
"""


def get(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        return bytes(answer.read())


HOSTS = ("", "127.0.0.1:", "some-name-of-its-own:")
"""What a task may announce as the host of its service, where it runs in a container or pod of its own."""


def check_is_reached(executor: run.Executor, host: str) -> None:
    """Check that a service of a task that runs elsewhere is found and reached from here."""
    with run.Experiment("services", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline=SERVER, env={"HOST": host}), name="serve")
        exp.run(detach=True)
        try:
            with exp.forward("serve", "web", timeout=120) as port:
                assert get(port) == b"serve"
        finally:
            exp.cancel("serve")


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("8888", Service("x", "localhost", 8888)),
        ("node1:80\n", Service("x", "node1", 80)),
        ("[::1]:80", Service("x", "::1", 80)),
        ("http://node1", None),
        ("", None),
        ("a b:1", None),
    ],
)
def test_addresses(text: str, service: Service | None) -> None:
    assert parse("x", text) == service


def test_a_service_is_found_and_reached() -> None:
    with run.Experiment("services", clean_mode=True) as experiment:
        experiment.add(run.Script(inline=SERVER, env={"HOST": "127.0.0.1:"}), name="serve")
        experiment.run(detach=True)
        with experiment.forward("serve", "web", timeout=60) as port:
            assert get(port) == b"serve"
        assert experiment.services("serve")["web"][0] == "127.0.0.1"
        with pytest.raises(ExperimentError, match=r"no service 'x' within 0 s; it has announced: web"):
            experiment.forward("serve", "x", timeout=0).__enter__()
        command = [sys.executable, "-m", "nemo_run", "experiment", "forward", experiment.id, "serve", "web"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as forward:
            assert forward.stdout is not None
            assert get(int(forward.stdout.readline().rpartition(":")[2])) == b"serve"
            experiment.cancel("serve")
            try:
                assert "job 'serve' has ended" in forward.communicate(timeout=60)[1]
            finally:
                forward.kill()
        with pytest.raises(ExperimentError, match=r"'serve' has ended.*announced: web"):
            experiment.forward("serve", "web").__enter__()


def test_a_port_that_is_taken_is_told() -> None:
    with run.Experiment("services", clean_mode=True) as experiment:
        experiment.add(run.Script(inline=SERVER), name="serve")
        experiment.run(detach=True)
        eventually(lambda: experiment.services("serve"))
        with (
            experiment.forward("serve", "web") as port,
            pytest.raises(run.NemoRunError, match=f"port {port} of this machine cannot be forwarded"),
        ):
            experiment.forward("serve", "web", port).__enter__()
        experiment.cancel("serve")
