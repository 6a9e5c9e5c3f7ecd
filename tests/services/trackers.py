"""An environment of its own with the trackers that metrics are forwarded to, and a server of MLflow.

It is of its own because MLflow brings some eighty packages, with versions that others do not want.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.services import environment

_NAME = "trackers-1"
PYTHON = environment.python(_NAME)
_PACKAGES = ("mlflow>=3.1", "tensorboard>=2.19", "wandb>=0.20")


def available() -> bool:
    """Is the environment there? In CI, it is made first; on your machine, ``CI=true`` does that once."""
    return environment.available(_NAME, *_PACKAGES, *environment.own_requirements())  # ourselves: the working tree


def free_port() -> int:
    """Return a port of this machine on which nothing answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """Start a server of MLflow with its files in a folder; its address."""
    address = f"http://127.0.0.1:{port}"
    argv = [
        PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=env, cwd=folder, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while not _answers(f"{address}/health"):
            said = (folder / "server.log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"the server does not start:\n{said}"
            assert time.monotonic() < deadline, f"the server does not answer:\n{said}"
            time.sleep(0.1)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)  # it has workers
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
