"""All kinds of artifacts, from pods of root and of another user, with and without a volume."""

from __future__ import annotations

import pytest

import nemo_run as run
from tests import kinds_of_artifacts
from tests.services.kubernetes import IMAGE, KubernetesCluster

pytestmark = pytest.mark.needs("kubernetes node")


@pytest.mark.parametrize("on_volume", [False, True])
@pytest.mark.parametrize("user", [0, 1234])
def test_all_kinds(user: int, on_volume: bool, own_namespace: str, kubernetes_node: KubernetesCluster) -> None:
    if on_volume:
        kubernetes_node.make_volume(own_namespace, "work").chmod(0o777)
    executor = run.KubernetesExecutor(
        image=IMAGE,
        namespace=own_namespace,
        packager=run.Packager(),
        workdir_pvc="work" if on_volume else None,
        pod_spec_overrides={"securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user}},
        grace=2,
    )
    with run.Experiment("kinds", executor=executor) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="t")
        exp.run()
    kinds_of_artifacts.check(exp, "t", as_root=user == 0)
