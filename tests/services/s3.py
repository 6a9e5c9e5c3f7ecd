"""A server that speaks S3 on this machine, and an environment of its own with a client of it.

It is of its own because botocore and recent Kubernetes clients want different versions of python-dateutil.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping

from tests.services import environment

_NAME = "s3-1"
PYTHON = environment.python(_NAME)
_PACKAGES = ("s3fs>=2024.2", "moto[s3]>=5.0", "flask", "flask-cors")


def available() -> bool:
    """Is the environment there? In CI, it is made first; on your machine, ``CI=true`` does that once."""
    return environment.available(_NAME, *_PACKAGES, *environment.own_requirements())  # ourselves: the working tree


@contextlib.contextmanager
def server() -> Iterator[Mapping[str, str]]:
    """Start a server with no bucket; the variables by which a client finds it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [PYTHON, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server does not start"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tested",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()
