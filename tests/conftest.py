"""What every test gets: a store of its own, and skips that cannot go unnoticed.

A test that needs something not every machine has says so: ``@pytest.mark.needs("docker")``. Where the machine has it,
the test runs; where not, it is skipped. Any other skip hides a test that this machine can run: it is reported loudly.
With ``CI=true`` neither will do: what a test needs must be there, and a hidden skip fails the run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before any engine's tests import them.
pytest.register_assert_rewrite("tests.execution.contract", "tests.kubernetes.contract")

from tests.dgxcloud import pods  # noqa: E402
from tests.services import docker, kubernetes, leptonai, skypilot, slurm, sshd  # noqa: E402


def _answers(*command: str) -> bool:
    """Is the program installed, and does this call of it succeed?"""
    if shutil.which(command[0]) is None:
        return False
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


# What a test may need, and how to see whether this machine has it.
THINGS: dict[str, Callable[[], bool]] = {
    "docker": docker.available,
    "dockerd": docker.can_be_started,
    "dot": lambda: _answers("dot", "-V"),
    "pods": pods.available,
    "git": lambda: _answers("git", "--version"),
    "ray": lambda: importlib.util.find_spec("ray") is not None,
    "leptonai": leptonai.available,
    "kubernetes api": kubernetes.available,
    "kubernetes node": kubernetes.node_available,
    "kubernetes for SkyPilot": skypilot.can_see_kubernetes,
    "machines for SkyPilot": skypilot.has_machines,
    "skypilot": skypilot.available,
    "slurm cluster": slurm.available,
    "sshd": sshd.available,
    "torch": lambda: importlib.util.find_spec("torch") is not None,
    "nvidia-resiliency-ext": lambda: importlib.util.find_spec("nvidia_resiliency_ext") is not None,
    "root": lambda: os.geteuid() == 0,
    "unprivileged user": lambda: os.geteuid() != 0,
}
_CI_MAY_LACK = {"unprivileged user"}  # it runs as root
_LACKS = "the machine lacks"
_hidden_skips = pytest.StashKey[list[str]]()


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


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts the tests in the background has SIGINT ignored; what tests start is to be interruptible.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_hidden_skips] = []
    config.pluginmanager.register(_SkipWatch(config.stash[_hidden_skips]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    needed = [thing for marker in item.iter_markers("needs") for thing in marker.args]
    if lacking := [thing for thing in needed if not THINGS[thing]()]:
        if os.environ.get("CI") == "true" and set(lacking) - _CI_MAY_LACK:
            pytest.fail(f"this machine lacks: {', '.join(lacking)}; CI must have it (see .ci/run)", pytrace=False)
        item.user_properties.append((_LACKS, lacking))
        pytest.skip(f"this machine lacks: {', '.join(lacking)}")


class _SkipWatch:
    """Collects the skips that are not due to the machine."""

    def __init__(self, hidden: list[str]) -> None:
        self.hidden = hidden

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if _LACKS not in dict(report.user_properties):
            self._watch(report)

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
    if hidden := config.stash[_hidden_skips]:
        terminalreporter.section("skipped, though this machine can run it: a failure in CI", red=True)
        for line in hidden:
            terminalreporter.line(line)
