from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dgxcloud import executors, server
from tests.support import work as work


@pytest.fixture(scope="session")
def running() -> Iterator[server.Server]:
    with server.Server() as service:
        yield service


@pytest.fixture(autouse=True)
def service(running: server.Server) -> Iterator[server.Server]:
    """The service, with nothing on it."""
    running.requests.clear()
    executors.use(running)
    yield running
    running.end_all()
