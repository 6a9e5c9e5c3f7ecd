from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker as sdk
import pytest

from tests.services import docker
from tests.support import work as work


@pytest.fixture(scope="session")
def dockerd() -> Iterator[docker.Dockerd]:
    """An engine of our own."""
    engine = docker.Dockerd()
    engine.start()
    yield engine
    engine.purge()


@pytest.fixture
def stoppable(dockerd: docker.Dockerd) -> Iterator[docker.Dockerd]:
    """The engine of our own, for a test that may leave it stopped."""
    yield dockerd
    dockerd.stop()
    dockerd.start()


@pytest.fixture(scope="session")
def docker_host(request: pytest.FixtureRequest) -> str:
    """Address of an engine that has the image of the tests."""
    host = docker.engine_here() or str(request.getfixturevalue("dockerd").host)
    with contextlib.closing(sdk.DockerClient(base_url=host)) as client:
        docker.make_image(client)
    return host


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that need an engine, it is the one that executors use by default."""
    if request.node.get_closest_marker("needs"):
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("docker_host"))


@pytest.fixture
def client(docker_host: str) -> Iterator[sdk.DockerClient]:
    with contextlib.closing(sdk.DockerClient(base_url=docker_host)) as client:
        yield client
