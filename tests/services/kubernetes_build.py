"""Builds Kubernetes 1.20 from Debian's own source package, of which Debian itself ships the client only.

``python -m tests.services.kubernetes_build`` does so by hand. It takes about five minutes, 4 GB of disk for the time
being, and a Debian mirror. The result is kept in ``~/.cache/nemo-run-tests``, or where ``$XDG_CACHE_HOME`` says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.services import installed

BINARIES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nemo-run-tests", "kubernetes-1.20")

_VERSION = "1.20.2"
_PACKAGES = ("golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev")
_REFLECT = "github.com/modern-go/reflect2"  # the vendored one does not build with Go 1.18 or later: Debian's is taken
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Waiting times that no test needs: for a Docker daemon that is not there, and until a pod that has ended is let go.
_SHORTER = {
    "vendor/github.com/google/cadvisor/container/docker/factory.go": ("rootDirRetries = 5\n", "rootDirRetries = 0\n"),
    "pkg/kubelet/kubelet.go": ("ContainerGCPeriod = time.Minute\n", "ContainerGCPeriod = time.Second\n"),
    "pkg/kubelet/status/status_manager.go": ("syncPeriod = 10 * time.Second\n", "syncPeriod = time.Second\n"),
}


def built() -> bool:
    """Are all of them there?"""
    return all(os.access(CACHE / name, os.X_OK) for name in BINARIES)


def build() -> None:
    """Build them, unless they are there. Of several processes one builds, and the others wait for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built():
            return
        installed(("make", "xz", "rsync"), ("make", "xz-utils", "rsync", "ca-certificates"))
        start = time.monotonic()
        _say("building Kubernetes from Debian's source, once for all test runs: about five minutes")
        with _scratch() as folder:
            _build_in(folder)
        _say(f"Kubernetes is built ({time.monotonic() - start:.0f} s)")


def _say(text: str) -> None:
    print(f"\n[tests/services] {text}", file=sys.__stderr__, flush=True)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nr-k8s-build-"))
    try:
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{output[-4000:]}")
    return output


def _build_in(folder: Path) -> None:
    apt = _own_apt(folder)
    downloads = folder / "downloads"
    downloads.mkdir()
    _run(["apt-get", *apt, "download", *_PACKAGES], downloads)
    _run(["apt-get", *apt, "source", "--download-only", "kubernetes"], downloads)
    for package in downloads.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")], folder)
    (folder / "gopath/src/k8s.io").mkdir(parents=True)
    _run(["tar", "-xzf", str(next(downloads.glob("kubernetes_*.orig.tar.gz")))], folder)
    source = folder / f"kubernetes-{_VERSION}"
    shutil.rmtree(source / "vendor" / _REFLECT)
    shutil.copytree(folder / "root/usr/share/gocode/src" / _REFLECT, source / "vendor" / _REFLECT)
    for name, (old, new) in _SHORTER.items():
        text = (source / name).read_text()
        if old not in text:
            raise RuntimeError(f"{name}: there is no {old!r} any longer")
        (source / name).write_text(text.replace(old, new))
    (folder / "gopath/src/k8s.io/kubernetes").symlink_to(source)
    _make(folder)
    for name in BINARIES:
        shutil.copy(source / "_output/bin" / name, CACHE / f"{name}.new")
        (CACHE / f"{name}.new").replace(CACHE / name)


def _own_apt(folder: Path) -> list[str]:
    """Options of apt-get for lists of our own, with sources; the machine's own lists are left as they are."""
    wanted = ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)"]
    known = [line.split() for line in _run(wanted, folder).splitlines()]
    mirrors = [site for site, *rest in known if rest == ["bookworm", "main"]]
    if not mirrors:
        raise RuntimeError("apt knows no mirror of Debian 12 (bookworm), from whose source Kubernetes is built")
    sources = folder / "sources.list"
    sources.write_text("".join(f"{t} [signed-by={_KEYRING}] {mirrors[0]} bookworm main\n" for t in ("deb", "deb-src")))
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = [
        f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=/dev/null", f"Dir::State::lists={folder}/lists",
        f"Dir::Cache={folder}/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    arguments = ["-q", *(word for option in options for word in ("-o", option))]
    _run(["apt-get", *arguments, "update"], folder)
    return arguments


def _make(folder: Path) -> None:
    version = folder / "version"
    version.write_text(
        f"KUBE_GIT_COMMIT=''\nKUBE_GIT_TREE_STATE=clean\nKUBE_GIT_VERSION=v{_VERSION}\n"
        "KUBE_GIT_MAJOR=1\nKUBE_GIT_MINOR=20\n"
    )
    go = folder / "root/usr/lib/go-1.19"
    (folder / "home").mkdir()
    env = {
        "PATH": f"{go}/bin:{os.environ['PATH']}", "HOME": str(folder / "home"), "GOROOT": str(go),
        "GOPATH": str(folder / "gopath"), "GOCACHE": str(folder / "gocache"), "GOPROXY": "off", "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0", "KUBE_GIT_VERSION_FILE": str(version), "SOURCE_DATE_EPOCH": "1610544000",
    }  # fmt: skip
    where = folder / "gopath/src/k8s.io/kubernetes"
    for names in (BINARIES[:1], BINARIES[1:]):
        # a shell's working directory would be the folder behind the link, which is not in GOPATH
        what = " ".join(f"cmd/{name}" for name in names)
        _run(["make", "-C", str(where), f"WHAT={what}"], folder, {**env, "PWD": str(where)})


if __name__ == "__main__":
    build()
