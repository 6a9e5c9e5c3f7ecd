"""Pods that the cluster takes away: by a taint, a drain, a lack of disk; each is told apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.pods.client import KubernetesClient
from tests.services.kubernetes import IMAGE
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")


@contextlib.contextmanager
def running(namespace: str, text: str = "echo begun; sleep 300", **options: Any) -> Iterator[run.Experiment]:
    """An experiment whose task runs, or has ended before anybody saw that; at the end it has ended."""
    executor = run.KubernetesExecutor(image=IMAGE, namespace=namespace, packager=run.Packager(), grace=2, **options)
    exp = run.Experiment("taken", executor=executor, clean_mode=True)
    exp.add(run.Script(inline=text), name="t")
    exp.run(detach=True)
    eventually(lambda: (state := exp.results()["t"].state).is_final or state is JobState.RUNNING, within=120)
    yield exp
    exp.wait()
    result: Any = exp.results()["t"]
    assert (result.state, result.exit_code) == (JobState.FAILED, None)


@contextlib.contextmanager
def changed_node(cluster: KubernetesClient, **spec: Any) -> Iterator[str]:
    """The node with a change of its specification, which is taken back."""
    [node] = cluster.objects("v1", "Node", "")
    name = node["metadata"]["name"]
    cluster.patch("v1", "Node", "", name, {"spec": spec})
    try:
        yield name
    finally:
        cluster.patch("v1", "Node", "", name, {"spec": dict.fromkeys(spec)})
        eventually(lambda: not (cluster.get("v1", "Node", "", name) or {})["spec"].get("taints"))


def test_a_taint(own_namespace: str, cluster: KubernetesClient, work: Path) -> None:
    with running(own_namespace) as exp:
        taint = {"key": "repair", "value": "soon", "effect": "NoExecute"}
        with changed_node(cluster, taints=[taint]):
            exp.wait()
    assert exp.results()["t"].reason.startswith("evicted from its node, which has a taint")


def test_a_drain(own_namespace: str, cluster: KubernetesClient, work: Path) -> None:
    with running(own_namespace) as exp, changed_node(cluster, unschedulable=True) as node:
        for pod in cluster.objects("v1", "Pod", own_namespace):
            evict(cluster, own_namespace, pod["metadata"]["name"])
        exp.wait()
    assert exp.results()["t"].reason.startswith(f"its node {node!r} is being drained")


def test_too_much_disk(own_namespace: str, work: Path) -> None:
    text = "head -c 30000000 /dev/zero > /tmp/large; sleep 300"
    restarts, limits = run.Restarts(backoff=0), {"ephemeral-storage": "10Mi"}
    with running(own_namespace, text, extra_resource_limits=limits, restarts=restarts) as exp:
        exp.wait()
    assert exp.progress()["t"].tasks[0].restarts == 0, "it is its program that used too much"
    assert exp.results()["t"].reason.startswith("evicted: ")


GOES_ON = 'echo "restart $NEMO_RUN_RESTART $NEMO_RUN_RESTART_CAUSE"; test "$NEMO_RUN_RESTART" != 0 || sleep 300'


@pytest.mark.parametrize(
    ("how", "cause"), [("taint", "preemption"), ("drain", "preemption"), ("delete", "node failure")]
)
def test_a_task_that_the_cluster_takes_away_is_restarted(
    how: str, cause: str, own_namespace: str, cluster: KubernetesClient, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = run.KubernetesExecutor(
        image=IMAGE,
        namespace=own_namespace,
        packager=run.Packager(),
        grace=2,
        restarts=run.Restarts(on={cause}, backoff=0),
    )
    exp = run.Experiment("goes-on", executor=executor)
    exp.add(run.Script(inline=GOES_ON), name="t")
    exp.run(detach=True)
    eventually(lambda: exp.results()["t"].state is JobState.RUNNING, within=120)
    taint = {"key": "repair", "value": "soon", "effect": "NoExecute"}
    change: dict[str, Any] = {"taint": {"taints": [taint]}, "drain": {"unschedulable": True}}.get(how, {})
    with changed_node(cluster, **change):
        for pod in cluster.objects("v1", "Pod", own_namespace) if how != "taint" else []:
            evict(cluster, own_namespace, pod["metadata"]["name"], how)
        eventually(lambda: exp.progress()["t"].tasks[0].restarts, "it is restarted", within=120)
    assert exp.wait()["t"].state is JobState.SUCCEEDED
    task = exp.progress()["t"].tasks[0]
    assert ([entry["cause"] for entry in task.history], task.tries) == ([cause], 1)
    capfd.readouterr()
    exp.logs("t")
    assert f"restart 1 {cause}" in capfd.readouterr().out


def evict(cluster: KubernetesClient, namespace: str, name: str, how: str = "drain") -> None:
    """Take a pod away as a drain does, or as somebody who deletes it."""
    if how == "delete":
        cluster.delete("v1", "Pod", namespace, name)
        return
    body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    cluster.request("POST", f"{cluster.path('v1', 'Pod', namespace, name)}/eviction", body=body)


def test_a_task_is_restarted_after_its_time_limit_in_a_pod(own_namespace: str, work: Path) -> None:
    executor = run.KubernetesExecutor(
        image=IMAGE, namespace=own_namespace, packager=run.Packager(), grace=1, timeout=3,
        restarts=run.Restarts(backoff=0),
    )  # fmt: skip
    exp = run.Experiment("limited", executor=executor)
    exp.add(run.Script(inline='case "$NEMO_RUN_RESTART" in 0) sleep 300;; 1) exit 85;; esac'), name="t")
    exp.run(detach=True)
    assert exp.wait()["t"].state is JobState.SUCCEEDED
    task = exp.progress()["t"].tasks[0]
    assert [entry["cause"] for entry in task.history] == ["time limit", "continued"]
