"""Somebody is told when an experiment has ended: by a real request, or a command."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import ExperimentError, ReceivedExperimentError
from nemo_run.run import notifying
from tests.support import bash, eventually


class Service(ThreadingHTTPServer):
    """Takes messages; refuses the first few."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.messages: list[dict[str, Any]] = []
        self.refusals = 0
        self.seen = 0
        self.moved_to = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/s3cr3t-7"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen += 1
        if self.server.seen <= self.server.refusals:
            self.send_response(503)
        elif self.server.moved_to:
            self.send_response(302)
            self.send_header("Location", self.server.moved_to)
        else:
            self.server.messages.append(json.loads(body))
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(notifying, "_TRIES", (0.0, 0.0, 0.0))
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def launched(service: Service, script: str = "exit 3", when: str = "end", **how: bool) -> run.Experiment:
    with run.Experiment("told", clean_mode=True) as exp:
        exp.add(bash(script), name="a")
        exp.notify(service.url, when=when)
        exp.run(**how)
    return exp


@pytest.mark.parametrize("how", [{}, {"detach": True}, {"direct": True, "check": False}], ids=str)
def test_the_message_says_how_it_ended(work: Path, service: Service, how: dict[str, bool]) -> None:
    exp = launched(service, **how)
    (message,) = eventually(lambda: service.messages)
    assert (message["id"], message["title"], message["state"]) == (exp.id, "told", "FAILED")
    assert message["jobs"]["a"]["exit_code"] == 3
    assert message["text"] == f"experiment told FAILED: 1 failed ({exp.id})"
    exp.wait()


@pytest.mark.parametrize(("script", "count"), [("exit 0", 0), ("exit 1", 1)])
def test_only_failures(work: Path, service: Service, script: str, count: int) -> None:
    launched(service, script, when="failure")
    assert len(service.messages) == count


def test_it_is_tried_again_and_told_once(work: Path, service: Service) -> None:
    service.refusals = 2
    exp = launched(service)
    assert len(service.messages) == 1
    run.Experiment.from_id(exp.id).resume()
    assert len(service.messages) == 1
    exp.rerun()
    assert len(service.messages) == 2


def test_what_is_not_delivered_changes_nothing_and_is_logged_without_the_address(
    work: Path, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusals = 99
    exp = launched(service)
    assert exp.results()["a"].exit_code == 3
    assert "127.0.0.1 answered with 503" in caplog.text
    assert "s3cr3t-7" not in caplog.text


def test_nothing_is_sent_on_to_another_address(work: Path, service: Service) -> None:
    with Service() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        service.moved_to = other.url
        launched(service)
        other.shutdown()
    assert service.seen == 3
    assert other.seen == 0


def test_a_command_gets_the_message(work: Path) -> None:
    with run.Experiment("told", clean_mode=True) as exp:
        exp.add(bash("exit 0"), name="a")
        exp.notify(["sh", "-c", "cat > message.json"])
        exp.run()
    assert json.loads((work / "message.json").read_text())["state"] == "SUCCEEDED"


@pytest.mark.parametrize("to", ["", "chat", "http://chat.example/x", "https://", "file:///etc/passwd", [], [3]])
def test_what_is_no_address_is_refused(to: Any) -> None:
    with pytest.raises(ExperimentError, match=r"https|list"):
        run.Experiment("x").notify(to)


def test_an_address_that_somebody_has_changed_gets_nothing(work: Path, service: Service) -> None:
    with run.Experiment("told", clean_mode=True) as exp:
        exp.add(bash("until [ -e go ]; do sleep 0.05; done"), name="a")
        exp.notify(service.url)
        exp.run(detach=True)
    file = exp.directory / notifying.FILE
    assert file.stat().st_mode & 0o077 == 0
    os.kill(exp._its_store.controller()["pid"], 9)
    file.write_text(file.read_text().replace("hooks", "evil"))
    (work / "go").touch()
    with pytest.raises(ReceivedExperimentError, match=r"notify\.json"):
        run.Experiment.from_id(exp.id).resume()
    assert service.seen == 0
