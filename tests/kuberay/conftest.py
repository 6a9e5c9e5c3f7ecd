from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from nemo_run.core.execution.kuberay import KubeRayExecutor
from nemo_run.core.execution.pods.client import KubernetesClient, default_connection
from tests.kuberay import crds, support
from tests.kuberay.operator import KubeRay
from tests.services.kubernetes import KubernetesCluster
from tests.support import eventually

CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "")


@pytest.fixture(scope="session")
def kubeconfig(kubernetes_node: KubernetesCluster) -> str:
    return str(kubernetes_node.kubeconfig)


@pytest.fixture(scope="session")
def cluster(kubeconfig: str) -> Iterator[KubernetesClient]:
    """A cluster that has the custom resources."""
    with contextlib.closing(KubernetesClient(default_connection(kubeconfig=kubeconfig))) as cluster:
        for definition in crds.DEFINITIONS:
            cluster.apply(definition)
        for definition in crds.DEFINITIONS:
            name = definition["metadata"]["name"]
            eventually(lambda name=name: _is_established(cluster, name), f"{name} is established")  # type: ignore[misc]
        yield cluster


def _is_established(cluster: KubernetesClient, name: str) -> bool:
    conditions = ((cluster.get(*CRD, name) or {}).get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)


@pytest.fixture(scope="session")
def unwatched(kubernetes_node: KubernetesCluster, cluster: KubernetesClient) -> Iterator[str]:
    """A namespace that no operator looks after."""
    with kubernetes_node.namespace() as name:
        yield name


@pytest.fixture(scope="session")
def namespace(kubernetes_node: KubernetesCluster, cluster: KubernetesClient) -> Iterator[str]:
    """A namespace that an operator looks after."""
    with kubernetes_node.namespace() as name, KubeRay(cluster, name) as operator:
        yield name
    assert operator.errors == []


@pytest.fixture
def executor(namespace: str, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> KubeRayExecutor:
    """Clusters of one small worker."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    return support.executor(namespace)


@pytest.fixture
def sized(namespace: str, kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., KubeRayExecutor]:
    """Clusters with other options."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    return lambda **options: support.executor(**{"namespace": namespace, **options})
