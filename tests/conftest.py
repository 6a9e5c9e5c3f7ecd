"""What every test gets: a store of its own, and skips that cannot go unnoticed.

A test that needs something not every machine has says so: ``@pytest.mark.needs("docker")``. Where the machine has it,
the test runs; where not, it is skipped. Any other skip hides a test that this machine can run: it is reported loudly.
With ``CI=true`` neither will do: what a test needs must be there, and a hidden skip fails the run.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Tests start hundreds of interpreters: none of them is to compile again what another has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Before any engine's tests import them.
pytest.register_assert_rewrite("nemo_run.testing", "tests.kubernetes.contract")

from tests.dgxcloud import pods  # noqa: E402
from tests.services import (  # noqa: E402
    compat,
    docker,
    installed,
    kubernetes,
    leptonai,
    nemo_run_original,
    registry,
    s3,
    skypilot,
    slurm,
    sshd,
    trackers,
)


def _answers(*command: str) -> bool:
    """Is the program installed, and does this call of it succeed?"""
    if shutil.which(command[0]) is None:
        return False
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@dataclass(frozen=True)
class Thing:
    """What a test may need: how to see whether this machine has it, and how to get it."""

    is_there: Callable[[], bool]
    how_to_get: str


def _package(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _browser() -> bool:
    """Is there a browser, and what drives it? In CI, as root, the browser is installed first."""
    packages = all(importlib.util.find_spec(name) for name in ("playwright", "axe_playwright_python"))
    return packages and installed(("chromium",), ("chromium",))


_SHELLS = ("tcsh", "zsh", "fish")
_AS_ROOT = "run the tests as root, with CI=true for what they need to be installed"
_ENVIRONMENT = "CI=true makes an environment for it"
THINGS: dict[str, Thing] = {
    "docker": Thing(docker.available, f"an engine that answers (DOCKER_HOST), or {_AS_ROOT}"),
    "chromium": Thing(_browser, "apt-get install chromium; pip install '.[browser]'"),
    "dockerd": Thing(docker.can_be_started, _AS_ROOT),
    "dot": Thing(lambda: _answers("dot", "-V"), "apt-get install graphviz"),
    "pods": Thing(pods.available, "run the tests as root, where unshare(1) may make namespaces"),
    "mounts": Thing(lambda: _answers("unshare", "-m", "true"), "run the tests where unshare(1) may make namespaces"),
    "git": Thing(lambda: _answers("git", "--version"), "apt-get install git"),
    "rsync": Thing(lambda: installed(("rsync",), ("rsync",)), "apt-get install rsync"),
    **{name: Thing(functools.partial(installed, (name,), (name,)), f"apt-get install {name}") for name in _SHELLS},
    "ray": Thing(_package("ray"), "pip install '.[ray]'"),
    "leptonai": Thing(leptonai.available, _ENVIRONMENT),
    "compat": Thing(compat.available, _ENVIRONMENT),
    "NeMo-Run 0.11.1": Thing(nemo_run_original.available, _ENVIRONMENT),
    "docker registry": Thing(registry.available, "apt-get install docker-registry"),
    "uv": Thing(_package("uv"), "pip install uv"),
    "s3": Thing(s3.available, _ENVIRONMENT),
    "kubernetes api": Thing(kubernetes.available, _AS_ROOT),
    "kubernetes node": Thing(kubernetes.node_available, _AS_ROOT),
    "kubernetes for SkyPilot": Thing(skypilot.can_see_kubernetes, _AS_ROOT),
    "machines for SkyPilot": Thing(skypilot.has_machines, _AS_ROOT),
    "skypilot": Thing(skypilot.available, _ENVIRONMENT),
    "slurm cluster": Thing(slurm.available, _AS_ROOT),
    "sshd": Thing(sshd.available, "apt-get install openssh-server openssh-client"),
    "trackers": Thing(trackers.available, _ENVIRONMENT),
    "sphinx": Thing(_package("furo"), "pip install '.[docs]'"),
    "torch": Thing(_package("torch"), "pip install '.[launchers]'"),
    "nvidia-resiliency-ext": Thing(_package("nvidia_resiliency_ext"), "pip install '.[launchers]'"),
    "mypy": Thing(_package("mypy"), "pip install '.[dev]'"),
    "pyright": Thing(_package("pyright"), "pip install '.[dev]'"),
    "notebooks": Thing(lambda: _package("nbclient")() and _package("ipykernel")(), "pip install '.[test]'"),
    "numpy": Thing(_package("numpy"), "pip install numpy"),
    "scikit-learn": Thing(_package("sklearn"), "pip install '.[demo]'"),
    "Python 3.11": Thing(lambda: sys.version_info >= (3, 11), "run the tests on a later Python"),
    "root": Thing(lambda: os.geteuid() == 0, "run the tests as root"),
    "unprivileged user": Thing(lambda: os.geteuid() != 0, "run the tests as an ordinary user"),
}
TOGETHER = {
    "benchmarks", "dgxcloud", "docker", "hardening", "kubeflow", "kuberay", "kubernetes", "lepton", "ray", "skypilot",
    "slurm",
}  # fmt: skip
"""Folders whose tests run in one process each, where several processes share the work: they share services."""
_LONGEST_FIRST = ("skypilot", "slurm", "kubernetes", "dgxcloud", "kuberay", "docker", "ray", "hardening", "benchmarks")
_NO_ENGINES = {
    "dot",
    "git",
    "mypy",
    "numpy",
    "pyright",
    "Python 3.11",
    "nvidia-resiliency-ext",
    "root",
    "scikit-learn",
    "torch",
    "unprivileged user",
}
_CI_MAY_LACK = {"unprivileged user"}  # it runs as root
_LACKS = "the machine lacks"
_hidden_skips = pytest.StashKey[list[str]]()
_lacking = pytest.StashKey[Counter[str]]()


@functools.cache
def _has(thing: str) -> bool:
    return THINGS[thing].is_there()


@pytest.fixture(autouse=True)
def nemorun_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own ``$NEMORUN_HOME``."""
    home = tmp_path / "nemorun-home"
    monkeypatch.setenv("NEMORUN_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def kubernetes_api() -> Iterator[kubernetes.KubernetesCluster]:
    """A Kubernetes API; nothing acts on what is written there, unless another test has asked for a node."""
    cluster = kubernetes.KubernetesCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def kubernetes_node(kubernetes_api: kubernetes.KubernetesCluster) -> kubernetes.KubernetesCluster:
    """A Kubernetes cluster with a node."""
    kubernetes_api.add_node()
    return kubernetes_api


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-engines", action="store_true", help="skip what needs an engine, everywhere")


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts the tests in the background has SIGINT ignored; what tests start is to be interruptible.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_hidden_skips], config.stash[_lacking] = [], Counter()
    config.pluginmanager.register(_SkipWatch(config.stash[_hidden_skips], config.stash[_lacking]))


def group_of(test: str) -> str | None:
    """Return the group of a test, which it shares services with; all that start Ray look for each other's processes."""
    folders = test.partition("::")[0].split("/")
    return "ray" if folders[-1] == "test_ray.py" else next((name for name in folders if name in TOGETHER), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, so that no process has it left at the end."""

    def place(item: pytest.Item) -> int:
        group = group_of(item.nodeid)
        return _LONGEST_FIRST.index(group) if group in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a group in one process.

    The marks of pytest-xdist (``--dist loadgroup``) would do, but its 3.8 does not see them with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid) or nodeid

    config.option.loadscopereorder = False  # by numbers of tests, which say nothing of their time
    return ByGroup(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [thing for marker in item.iter_markers("needs") for thing in marker.args]
    left_out = set(needed) - _NO_ENGINES if item.config.getoption("without_engines") else set()
    if lacking := [thing for thing in needed if thing in left_out or not _has(thing)]:
        if os.environ.get("CI") == "true" and set(lacking) - _CI_MAY_LACK:
            pytest.fail(f"this machine lacks: {', '.join(lacking)}; CI must have it (see .ci/run)", pytrace=False)
        item.user_properties.append((_LACKS, lacking))
        pytest.skip(f"this machine lacks: {', '.join(lacking)}")


class _SkipWatch:
    """Collects the skips: what the machine lacks, and those that are not due to the machine."""

    def __init__(self, hidden: list[str], lacking: Counter[str]) -> None:
        self.hidden, self.lacking = hidden, lacking

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        things = dict(report.user_properties).get(_LACKS)
        if things is None:
            self._watch(report)
        elif report.skipped:
            self.lacking.update(map(str, things))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._watch(report)

    def _watch(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.hidden.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (
        session.config.stash[_hidden_skips]
        and os.environ.get("CI") == "true"
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lacking := config.stash[_lacking]:
        terminalreporter.section("NOT TESTED: this machine lacks", yellow=True, bold=True)
        for thing, count in lacking.most_common():
            tests = "1 test" if count == 1 else f"{count} tests"
            terminalreporter.line(f"{thing}: {tests} skipped; to have it: {THINGS[thing].how_to_get}")
    if hidden := config.stash[_hidden_skips]:
        terminalreporter.section("skipped, though this machine can run it: a failure in CI", red=True)
        for line in hidden:
            terminalreporter.line(line)
