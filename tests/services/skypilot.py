"""SkyPilot: an environment of its own, its API server, and machines for it: those of the tests' Slurm cluster.

SkyPilot wants older versions of packages than other tests do, so it has an environment of its own, which is kept. On a
Slurm cluster it starts jobs without anything from the internet but packages; these come from that environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

from tests.services import environment, installed, processes_with, slurm
from tests.services.slurm import SlurmCluster
from tests.services.sshd import Sshd, available as sshd_available

VERSION = "0.14.1"
_PACKAGES = (f"skypilot[kubernetes,slurm]=={VERSION}", "uv>=0.5", "docker>=7.0", "hypothesis>=6.100", "pytest>=8.2")
_CACHE = Path("/var/cache/nemo-run-tests") if os.geteuid() == 0 else Path.home() / ".cache" / "nemo-run-tests"
ENVIRONMENT = _CACHE / f"skypilot-{VERSION}"
"""The environment; any user can read it if root has made it."""


def is_inside() -> bool:
    """Is this the environment that has SkyPilot?"""
    try:
        return metadata.version("skypilot") == VERSION
    except metadata.PackageNotFoundError:
        return False


def available() -> bool:
    """Is there an environment with SkyPilot? In CI it is made first."""
    if is_inside() or (ENVIRONMENT / "complete").exists():
        return True
    if os.environ.get("CI") == "true":
        make_environment()
    return (ENVIRONMENT / "complete").exists()


def has_machines() -> bool:
    """Can SkyPilot have machines here, those of a Slurm cluster?"""
    return available() and slurm.available() and sshd_available() and installed(("rsync",), ("rsync",))


def make_environment() -> None:
    """Make the environment, unless it is there: SkyPilot, and what this package and its tests need."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (ENVIRONMENT / "complete").exists():
            return
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([_python(), "-m", "venv", "--without-pip", ENVIRONMENT], check=True)
        wanted = [*_PACKAGES, *environment.own_requirements()]
        tools = _CACHE / "uv"  # far quicker than pip
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", tools, "uv"], check=True)
        uv = [tools / "bin" / "uv", "pip", "install", "-q", "--python", ENVIRONMENT / "bin" / "python"]
        done = subprocess.run([*uv, *wanted], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        subprocess.run(["chmod", "-R", "a+rX", _CACHE], check=True)
        (ENVIRONMENT / "complete").touch()


def _python() -> str:
    """A Python that every user can run: the system's, if it is new enough."""
    for minor in (13, 12, 11, 10):
        if Path(f"/usr/bin/python3.{minor}").exists():
            return f"/usr/bin/python3.{minor}"
    return sys.executable


def can_see_kubernetes() -> bool:
    """Has SkyPilot the programs without which it takes no Kubernetes cluster?"""
    return available() and installed(("nc", "socat"), ("netcat-openbsd", "socat"))


class Machines:
    """The Slurm cluster, with a login node and an ordinary user for SkyPilot. Needs root."""

    def __init__(self) -> None:
        self.user = f"nr-sky-{os.getpid()}"
        self.cluster = SlurmCluster()
        self.home = self.cluster.folder / "home"
        self.tools = self.cluster.folder / "bin"
        subprocess.run(
            ["useradd", "--create-home", "--home-dir", self.home, "--shell", "/bin/bash", self.user], check=True
        )
        subprocess.run(["usermod", "--password", "*", self.user], check=True)
        self.login = Sshd((self.user,))
        self._make_tools()

    def start(self) -> None:
        """Start it."""
        with (self.login.folder / "sshd_config").open("a") as config:
            config.write(f"\nSetEnv SLURM_CONF={self.cluster.configuration}\n")
        self.cluster.start()
        self.login.start()

    def _make_tools(self) -> None:
        """What SkyPilot would fetch for a node, from the environment: the program uv, and the packages."""
        self.tools.mkdir(mode=0o755)
        python = (
            os.path.realpath(ENVIRONMENT / "bin" / "python") if not is_inside() else os.path.realpath(sys.executable)
        )
        root = Path(sys.prefix) if is_inside() else ENVIRONMENT
        site = sysconfig.get_path("purelib", vars={"base": str(root)}) if is_inside() else ""
        site = site or str(next((root / "lib").glob("python3.*")) / "site-packages")
        self._tool("uv", f"""\
#!/bin/bash
# Makes a node's environment out of the packages of another one.
arguments=()
for argument in "$@"; do
  [ "$argument" = 3.10 ] && argument={python}
  arguments+=("$argument")
  case $argument in *skypilot-runtime) runtime=$argument ;; esac
done
case "$1 $2" in
"venv --seed")
  if [ -n "$runtime" ]; then
    {python} -m venv --without-pip "$runtime" || exit
    echo {site} > "$(echo "$runtime"/lib/python3.*/site-packages)/other.pth"
    exit
  fi ;;
"pip install") arguments+=(--no-deps) ;;
esac
exec {root}/bin/uv --offline "${{arguments[@]}}"
""")  # fmt: skip
        self._tool("curl", """\
#!/bin/sh
# Gives the installer of uv, and nothing else.
case "$*" in
*astral.sh/uv*) printf 'mkdir -p "$UV_INSTALL_DIR" && ln -sf %s "$UV_INSTALL_DIR/uv"\\n' "$(dirname "$0")/uv" ;;
*) exit 6 ;;
esac
""")  # fmt: skip
        profile = self.home / ".profile"
        profile.write_text(f"export PATH={self.tools}:$PATH\n")
        shutil.chown(profile, self.user)

    def _tool(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)

    def ssh_config(self) -> str:
        """The cluster for ``~/.slurm/config``."""
        return (
            f"Host test\n  HostName {self.login.host}\n  Port {self.login.port}\n  User {self.user}\n"
            f"  IdentityFile {self.login.identity}\n  IdentitiesOnly yes\n"
        )

    def stop(self) -> None:
        """End it, and remove its user and files."""
        self.cluster.ask("scancel", "--user", self.user)
        deadline = time.monotonic() + 30
        while self.cluster.ask("squeue", "-h", "-u", self.user) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.login.stop()
        self.cluster.stop()
        subprocess.run(["pkill", "-KILL", "-u", self.user], check=False)
        subprocess.run(["userdel", "--force", self.user], capture_output=True, check=False)
        shutil.rmtree(self.cluster.folder, ignore_errors=True)


class ApiServer:
    """SkyPilot's API server on the loopback interface, with a home folder of its own."""

    def __init__(self, machines: Machines | None = None, kubeconfig: str = "", *, managed_jobs: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-sky-"))
        self.home = self.folder / "home"
        (self.home / ".sky").mkdir(parents=True)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = int(s.getsockname()[1])
        clouds = ["kubernetes"] if kubeconfig else []
        config: dict[str, object] = {"jobs": {"controller": {"consolidation_mode": True}}} if managed_jobs else {}
        if machines is not None:
            (self.home / ".slurm").mkdir()
            (self.home / ".slurm" / "config").write_text(machines.ssh_config())
            nodes = machines.cluster.folder / "nodes"
            nodes.mkdir(mode=0o777)
            nodes.chmod(0o777)
            config["slurm"] = {"cluster_configs": {"test": {"tmpdir": str(nodes)}}}
            clouds.append("slurm")
        (self.home / ".sky" / "config.yaml").write_text(json.dumps({"allowed_clouds": clouds, **config}))
        self._kubeconfig = kubeconfig
        _write_catalogs(self.home)
        self._make_offline()

    def _make_offline(self) -> None:
        """Its managed jobs go on only while a known address in the internet answers: let its own stand for that."""
        (self.folder / "python").mkdir()
        (self.folder / "python" / "sitecustomize.py").write_text(f"""
import importlib.machinery, sys

class Offline(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "sky.backends.backend_utils":
            return None
        spec = super().find_spec(name, path, target)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module._TEST_IP_LIST = ["http://127.0.0.1:{self.port}/api/health"]
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Offline)
""")

    def environment(self) -> dict[str, str]:
        """Variables with which SkyPilot's client uses this server."""
        return {
            "HOME": str(self.home),
            "KUBECONFIG": self._kubeconfig or str(self.folder / "no-kubeconfig"),
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.port),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        done = self._sky("api", "start", "--host", "127.0.0.1", "--port", str(self.port))
        assert done.returncode == 0, done.stdout + done.stderr
        done = self._sky("check")
        assert done.returncode == 0, done.stdout + done.stderr

    def _sky(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.environment(), "PYTHONPATH": str(self.folder / "python")}
        argv = [Path(sys.executable).with_name("sky"), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=env)

    def stop(self) -> None:
        """End it and what it has started, and remove its files."""
        self._sky("api", "stop")
        for pid in processes_with(f"HOME={self.home}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_catalogs(home: Path) -> None:
    """What SkyPilot would fetch to know the names of GPUs, and the image of pods."""
    files = {
        "common/accelerators.csv": "AcceleratorName,Clouds\nA100,Kubernetes\nH100,Kubernetes\n",
        "common/metadata.csv": "GPU,MemoryGB,Manufacturer\nA100,40,NVIDIA\nH100,80,NVIDIA\n",
        "kubernetes/images.csv": "Tag,Region,OS,OSVersion,ImageId,CreationDate\n"
        + "".join(
            f"skypilot:custom-{kind}-ubuntu-2004,,ubuntu,20.04,docker:example.com/{kind},20260101\n"
            for kind in ("cpu", "gpu")
        ),
    }
    for name, text in files.items():
        path = home / ".sky" / "catalogs" / "v8" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Double:
    """What stands in for SkyPilot's API server; see ``skypilot_double.py``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nr-sky-"))
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = int(s.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Variables with which SkyPilot's client uses it."""
        return {
            "HOME": str(self.folder),
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(self.port),
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = Path(__file__).with_name("skypilot_double.py")
        argv = [sys.executable, program, self.folder, "-m", "sky.server.server", f"--port={self.port}"]
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **self.environment()}
            )
        deadline = time.monotonic() + 120
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and what runs on it, and remove its files."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        for pid in processes_with(f"HOME={self.folder}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        shutil.rmtree(self.folder, ignore_errors=True)
