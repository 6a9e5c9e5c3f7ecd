from __future__ import annotations

from collections.abc import Iterator

import pytest

from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel, Tunnel
from tests.services.sshd import Sshd


@pytest.fixture(scope="session")
def running_server() -> Iterator[Sshd]:
    server = Sshd()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running_server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """The server, and what a client needs. Connections are kept from test to test."""
    for name, value in running_server.client_environment().items():
        monkeypatch.setenv(name, value)
    return running_server


@pytest.fixture
def ssh(server: Sshd) -> SSHTunnel:
    return SSHTunnel(host="cluster", user="", job_dir="/tmp/x")


@pytest.fixture(params=["local", pytest.param("ssh", marks=pytest.mark.needs("sshd"))])
def tunnel(request: pytest.FixtureRequest) -> Tunnel:
    return LocalTunnel(job_dir="/tmp/x") if request.param == "local" else request.getfixturevalue("ssh")
