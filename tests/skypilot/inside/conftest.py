from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.skypilot.inside.experiments")

from tests.services import skypilot  # noqa: E402

if not skypilot.is_inside():
    collect_ignore_glob = ["test_*.py"]  # ../test_inside.py runs them where SkyPilot is


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.filterwarnings(r"ignore:::(sky|requests|sqlalchemy|pydantic)\b"))


@contextlib.contextmanager
def client_of(server: skypilot.ApiServer | skypilot.Double) -> Iterator[None]:
    """SkyPilot's client in this process uses this server. One server for a process: the client keeps its address."""
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            for name, value in server.environment().items():
                patch.setenv(name, value)
            warnings.simplefilter("ignore")
            import sky.jobs

            assert sky.__version__ == skypilot.VERSION
            yield
    finally:
        server.stop()
