from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from nemo_run.core.execution.pods.client import KubernetesClient, default_connection
from nemo_run.errors import ExecutorError
from tests.kubeflow import crds
from tests.kubeflow.operator import Trainer
from tests.services.kubernetes import KubernetesCluster
from tests.support import eventually, work as work


@pytest.fixture(autouse=True)
def kubeconfig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is the one that executors use by default, in tests that need one."""
    if request.node.get_closest_marker("needs"):
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("kubernetes_node").kubeconfig))


@pytest.fixture(scope="session")
def plain_cluster(kubernetes_node: KubernetesCluster) -> Iterator[KubernetesClient]:
    connection = default_connection(kubeconfig=str(kubernetes_node.kubeconfig))
    with contextlib.closing(KubernetesClient(connection)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def install(kubernetes_node: KubernetesCluster, plain_cluster: KubernetesClient) -> Callable[[str], None]:
    """Installs a version of Kubeflow Trainer, or replaces another one by it."""

    def install(version: str) -> None:
        for definition in crds.definitions(version):
            plain_cluster.apply(definition)
        eventually(lambda: _serves(kubernetes_node, version))
        plain_cluster.apply(crds.RUNTIME)

    return install


def _serves(node: KubernetesCluster, version: str) -> bool:
    """Whether what is dropped of an object is what this version drops."""
    field = next(iter(crds.overrides(version)))
    job = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": f"probe-{time.time_ns()}", "namespace": "default"},
        "spec": {"runtimeRef": {"name": "x"}, field: []},
    }
    with contextlib.closing(KubernetesClient(default_connection(kubeconfig=str(node.kubeconfig)))) as cluster:
        if not all(cluster.serves(job["apiVersion"], kind) for kind in ("TrainJob", "ClusterTrainingRuntime")):
            return False
        path = cluster.path(job["apiVersion"], "TrainJob", "default")
        try:
            kept = cluster.request("POST", path, body=job, params={"dryRun": "All"})
        except ExecutorError:
            return False
    return field in (kept or {}).get("spec", {})


@pytest.fixture(scope="session")
def namespace(
    kubernetes_node: KubernetesCluster, plain_cluster: KubernetesClient, install: Callable[[str], None]
) -> Iterator[str]:
    """A namespace that an operator looks after, with the newest version."""
    install("2.2")
    with kubernetes_node.namespace() as name, Trainer(plain_cluster, name) as operator:
        yield name
        assert not operator.errors, operator.errors[0]
