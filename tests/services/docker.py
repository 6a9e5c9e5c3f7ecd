"""A Docker engine: the one that this machine has, or as root one of its own; and an image of this machine's Python.

Nothing is pulled: no registry is needed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import requests

from tests.services import installed

IMAGE = f"localhost/nemo-run-test-py{sys.version_info[0]}.{sys.version_info[1]}:latest"
"""An image with a shell and Python, and nothing else."""

_PROGRAMS = (
    "base64", "bash", "cat", "chmod", "cp", "date", "env", "find", "gzip", "head", "hostname", "id", "ln", "ls",
    "mkdir", "mkfifo", "mv", "od", "pwd", "rm", "seq", "sh", "sleep", "stat", "tail", "tar", "tee", "touch", "tr",
    "true", "wc", "yes",
)  # fmt: skip


def engine_here() -> str:
    """Address of the engine that this machine has; empty where it has none that answers."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return host if answers(host) else ""


def answers(host: str) -> bool:
    """Does this engine answer?"""
    if host.startswith("unix://"):  # the SDK would leave a socket open where nobody listens
        with socket.socket(socket.AF_UNIX) as s:
            if s.connect_ex(host.removeprefix("unix://")):
                return False
    with contextlib.closing(docker.DockerClient(base_url=host, version="1.41", timeout=5)) as client:
        try:
            return bool(client.api.version(api_version=False))
        except (docker.errors.DockerException, requests.RequestException):
            return False


def is_podman(client: docker.DockerClient) -> bool:
    """Is it Podman that answers?"""
    return "Podman" in str(client.version().get("Components"))


def can_be_started() -> bool:
    """Can an engine of our own be started here? Not beside another one: they would share the firewall's chains."""
    return os.geteuid() == 0 and not engine_here() and installed(("dockerd", "iptables"), ("docker.io", "iptables"))


def available() -> bool:
    """Is there an engine for tests?"""
    return bool(engine_here()) or can_be_started()


class Dockerd:
    """An engine of our own, with data of its own that goes with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-docker-"))
        self.host = f"unix://{self.folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None
        hook = self.folder / "bin" / "nvidia-container-runtime-hook"  # where it is, an engine accepts wishes for GPUs
        hook.parent.mkdir()
        hook.write_text("#!/bin/sh\nexit 0\n")
        hook.chmod(0o755)

    def start(self, live_restore: bool = True) -> None:
        """Start it if it does not run, and wait until it answers.

        Args:
            live_restore: Containers live on when it is stopped.
        """
        if self._process is not None:
            return
        argv = [
            shutil.which("dockerd") or "/usr/sbin/dockerd", "-H", self.host, "--group", str(os.getgid()),
            "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
            "--pidfile", str(self.folder / "pid"), "--bridge", "none", "--ip", "127.0.0.1",
            "--default-address-pool", "base=10.213.0.0/16,size=24",
        ]  # fmt: skip
        argv += ["--live-restore"] if live_restore else []
        env = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"}
        log = self.folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env
            )
        deadline = time.monotonic() + 60
        while not answers(self.host):
            assert self._process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.05)

    def client(self) -> contextlib.closing[docker.DockerClient]:
        """A client, to be closed."""
        return contextlib.closing(docker.DockerClient(base_url=self.host))

    def stop(self) -> None:
        """End it as a service manager does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None

    def purge(self) -> None:
        """Remove all containers and networks, end it, and remove its data."""
        self.start()
        with self.client() as client:
            for container in client.containers.list(all=True):
                container.remove(force=True)
            client.networks.prune()
        self.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(str(self.folder)):
                subprocess.run(["umount", line.split()[1]], check=False, capture_output=True)
        shutil.rmtree(self.folder)


def make_image(client: docker.DockerClient) -> None:
    """Make the image, unless the engine has it."""
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(IMAGE)
        return
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_root(tar)
    repository, _, tag = IMAGE.rpartition(":")  # Podman knows no other tag than "latest" here
    client.api.import_image_from_data(
        buffer.getvalue(), repository=repository, tag=tag, changes=["ENV PATH=/usr/local/bin:/usr/bin:/bin"]
    )


def add_root(tar: tarfile.TarFile) -> None:
    """Put a root file system into a tar file."""
    for name, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o755), ("proc", 0o755), ("sys", 0o755)):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, mode
        tar.addfile(folder)
    _add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    _add_text(tar, "etc/nsswitch.conf", "hosts: files dns\n")
    binaries = {f"/bin/{name}": path for name in _PROGRAMS if (path := shutil.which(name))}
    binaries["/usr/local/bin/python3"] = os.path.realpath(sys.executable)
    library = Path(sysconfig.get_path("stdlib"))
    for path in _modules(library):
        tar.add(path, f"usr/local/lib/{library.name}/{path.relative_to(library)}")
        if path.suffix == ".so":
            binaries[str(path)] = ""
    for target, source in binaries.items():
        if source:
            _add_file(tar, os.path.realpath(source), target)
    for shared in sorted(shared_libraries([source or target for target, source in binaries.items()])):
        _add_file(tar, os.path.realpath(shared), shared)


def _modules(library: Path) -> Iterator[Path]:
    """The standard library, without what no test needs."""
    left_out = {
        "site-packages",
        "dist-packages",
        "__pycache__",
        "test",
        "tests",
        "idlelib",
        "ensurepip",
        "lib2to3",
        "tkinter",
    }
    for folder, names, files in os.walk(library):
        names[:] = [name for name in names if name not in left_out and not name.startswith("config-")]
        yield from (Path(folder, name) for name in files if not name.endswith((".pyc", ".a")))


def shared_libraries(binaries: list[str]) -> set[str]:
    output = subprocess.run(
        ["ldd", *map(os.path.realpath, binaries)], capture_output=True, text=True, check=False
    ).stdout
    found = set(re.findall(r"(?m)^\t(?:\S+ => )?(/\S+) \(0x", output))
    folder = next(str(Path(path).parent) for path in found if "/libc.so" in path)
    return found | {f"{folder}/{name}" for name in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")}


def _add_file(tar: tarfile.TarFile, source: str, target: str) -> None:
    if not Path(source).exists():
        return
    info = tar.gettarinfo(source, target.lstrip("/"))
    info.type, info.mode = tarfile.REGTYPE, 0o755
    with Path(source).open("rb") as f:
        info.size = os.fstat(f.fileno()).st_size
        tar.addfile(info, f)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(text)
    tar.addfile(info, io.BytesIO(text.encode()))
