"""A registry of images on this machine, without a password or with one."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.services import installed

# bcrypt of "secret"
_USERS = "tester:$2y$05$Wcb4REV0ywC8Gt1.2V8IL.lmuCiubs/f.dZgXsPlaU0qzLk1O6Y5S\n"


def available() -> bool:
    """Is the program there? In CI, as root, it is installed."""
    return installed(("docker-registry",), ("docker-registry",))


@contextlib.contextmanager
def registry(folder: Path, *, with_password: bool = False) -> Iterator[str]:
    """Start a registry; its address, as the first part of an image's name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "users").write_text(_USERS)
    auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/users}}}}\n" if with_password else ""
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    return False
