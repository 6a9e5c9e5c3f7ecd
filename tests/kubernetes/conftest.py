from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from nemo_run.core.execution.pods.client import KubernetesClient, default_connection
from tests.services.kubernetes import KubernetesCluster
from tests.support import work as work


@pytest.fixture(autouse=True)
def kubeconfig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is the one that executors use by default, in tests that need one."""
    if request.node.get_closest_marker("needs"):
        cluster = request.getfixturevalue("kubernetes_node")
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))


@pytest.fixture(scope="session")
def namespace(kubernetes_node: KubernetesCluster) -> Iterator[str]:
    """A namespace for all tests that leave nothing in it."""
    with kubernetes_node.namespace() as name:
        yield name


@pytest.fixture
def own_namespace(kubernetes_node: KubernetesCluster) -> Iterator[str]:
    """A namespace for one test."""
    with kubernetes_node.namespace() as name:
        yield name


@pytest.fixture
def cluster(kubeconfig: None) -> Iterator[KubernetesClient]:
    """The cluster, as the engine speaks to it."""
    with contextlib.closing(KubernetesClient(default_connection())) as cluster:
        yield cluster
