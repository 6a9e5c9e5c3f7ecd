"""Queues: Volcano as a small scheduler on the real node; Kueue as far as an old cluster has what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.kubernetes import queue as queues
from nemo_run.core.execution.kubernetes.look import Snapshot
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.errors import ExecutorError
from tests.kuberay.crds import ANYTHING
from tests.kubernetes import volcano
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import eventually

KUEUE = "kueue.x-k8s.io"


def executor_in(namespace: str, **options: Any) -> run.KubernetesExecutor:
    given = {"image": IMAGE, "namespace": namespace, "packager": run.Packager(), "grace": 2, "queue": "team"}
    return run.KubernetesExecutor(**{**given, **options})


def begin(executor: run.Executor, text: str) -> run.Experiment:
    exp = run.Experiment("queued", executor=executor, clean_mode=True)
    exp.add(run.Script(inline=text), name="t")
    exp.run(detach=True)
    return exp


@pytest.fixture
def kinds(cluster: KubernetesClient, kubernetes_node: KubernetesCluster) -> Iterator[Any]:
    """Installs kinds of objects, and takes them away again."""
    installed = []

    def install(*definitions: Any) -> None:
        for definition in definitions:
            cluster.apply(definition)
            installed.append(definition["metadata"]["name"])
            group, version = definition["spec"]["group"], definition["spec"]["versions"][0]["name"]
            kind = definition["spec"]["names"]["kind"]
            eventually(lambda: cluster.serves(f"{group}/{version}", kind) or cluster._resources.clear())  # noqa: B023

    yield install
    for name in installed:
        cluster.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)
    groups = {name.partition(".")[2] for name in installed}
    eventually(lambda: not any(map(cluster.served_version, groups)))
    cluster._resources.clear()


@pytest.fixture
def scheduler(own_namespace: str, cluster: KubernetesClient, kinds: Any) -> Iterator[volcano.Volcano]:
    kinds(*volcano.DEFINITIONS)
    queue = {"apiVersion": volcano.API, "kind": "Queue", "metadata": {"name": "team"}, "spec": {"weight": 1}}
    eventually(lambda: _made(cluster, queue))
    with volcano.Volcano(cluster, own_namespace) as scheduler:
        yield scheduler
    assert not scheduler.errors, scheduler.errors[0]


def _made(cluster: KubernetesClient, obj: Any) -> bool:
    try:
        return cluster.create(obj) is not None
    except ExecutorError:
        return False


@pytest.mark.needs("kubernetes node")
def test_the_nodes_of_a_task_start_at_once_or_not_at_all(
    scheduler: volcano.Volcano, own_namespace: str, cluster: KubernetesClient
) -> None:
    scheduler.room = 1
    exp = begin(executor_in(own_namespace, num_nodes=2), 'echo "node $NODE_RANK of $NNODES"')
    words = "in queue 'team': 2/2 tasks in gang unschedulable"
    eventually(lambda: exp.results()["t"].reason.startswith(words), within=120)
    assert exp.results()["t"].state is JobState.PENDING
    pods = cluster.objects("v1", "Pod", own_namespace)
    assert [pod["spec"].get("nodeName") for pod in pods] == [None, None]
    scheduler.room = 2
    exp.wait()
    assert exp.results()["t"].state is JobState.SUCCEEDED
    eventually(lambda: not cluster.objects(volcano.API, "PodGroup", own_namespace))


@pytest.mark.needs("kubernetes node")
def test_what_its_queue_preempts_is_told_and_waits_there_again(
    scheduler: volcano.Volcano, own_namespace: str, work: Path
) -> None:
    scheduler.room = 1
    text = "[ $NEMO_RUN_ATTEMPT = 2 ] || sleep 300"
    exp = begin(executor_in(own_namespace, retries=1, retry_delay=0.1), text)
    eventually(lambda: exp.results()["t"].state is JobState.RUNNING, within=120)
    scheduler.room = 0
    scheduler.preempt()
    eventually(lambda: exp.results()["t"].reason.startswith("in queue 'team'"), within=120)
    scheduler.room = 1
    exp.wait()
    assert exp.results()["t"].state is JobState.SUCCEEDED
    [task] = exp._its_store.read_progress(exp._its_store.read_definition().job("t")).tasks
    assert "evicted from its queue: Pod is evicted, because of preempt" in str(task.history)


@pytest.mark.needs("kubernetes node")
def test_a_queue_that_is_not_there_is_refused_before_anything_starts(
    own_namespace: str, cluster: KubernetesClient, kinds: Any
) -> None:
    with pytest.raises(ExecutorError, match="has neither Kueue nor Volcano"):
        begin(executor_in(own_namespace), "true")
    kinds(*volcano.DEFINITIONS)
    with pytest.raises(ExecutorError, match=r"has no Queue of that name; see: kubectl get queues"):
        begin(executor_in(own_namespace), "true")
    kinds(volcano.definition(KUEUE, "v1beta1", "LocalQueue", "localqueues", clusterQueue=ANYTHING))
    with pytest.raises(ExecutorError, match=f"kubectl get localqueues -n {own_namespace}"):
        begin(executor_in(own_namespace), "true")
    metadata = {"name": "team", "namespace": own_namespace}
    queue = {"apiVersion": f"{KUEUE}/v1beta1", "kind": "LocalQueue", "metadata": metadata}
    eventually(lambda: _made(cluster, queue))
    with pytest.raises(ExecutorError, match="one by one"):
        begin(executor_in(own_namespace, num_nodes=2), "true")
    exp = begin(executor_in(own_namespace, keep_job=True), "true")
    exp.wait()  # nothing holds it back here
    [job] = cluster.objects("batch/v1", "Job", own_namespace)
    assert job["metadata"]["labels"][f"{KUEUE}/queue-name"] == "team"


class Answers:
    """Stands for a cluster with Kueue, which the real one here is too old for: it drops ``suspend`` of Jobs."""

    def __init__(self, *conditions: dict[str, str]) -> None:
        self._conditions = list(conditions)

    def served_version(self, group: str) -> str:
        return f"{group}/v1beta1"

    def objects(self, version: str, kind: str, namespace: str, selector: str) -> list[Any]:
        assert (version, kind, selector) == (f"{KUEUE}/v1beta1", "Workload", f"{KUEUE}/job-uid=1")
        return [{"status": {"conditions": self._conditions}}]


def _job(queue: str = "team", *, suspend: bool = True) -> dict[str, Any]:
    annotations = {"nemo-run/queue": queue} if queue else {}
    template = {"metadata": {"annotations": annotations}}
    return {"metadata": {"uid": "1", "namespace": "n"}, "spec": {"suspend": suspend, "template": template}}


@pytest.mark.parametrize(
    ("job", "conditions", "waiting", "ended"),
    [
        (_job(), [], "in queue 'team'", "preempted in queue 'team'"),
        (
            _job(),
            [{"type": "QuotaReserved", "message": "insufficient quota for cpu"}],
            "in queue 'team': insufficient quota for cpu",
            "preempted in queue 'team'",
        ),
        (
            _job(),
            [{"type": "Evicted", "reason": "Preempted", "message": "for another workload"}],
            "in queue 'team'",
            "preempted in queue 'team': for another workload",
        ),
        (
            _job(),
            [{"type": "Evicted", "reason": "PodsReadyTimeout", "message": "too slow"}],
            "in queue 'team'",
            "evicted in queue 'team': too slow",
        ),
        (_job(""), [], "suspended", "suspended"),
        (_job(suspend=False), [], None, ""),
    ],
)
def test_what_kueue_says(job: Any, conditions: list[dict[str, str]], waiting: str | None, ended: str) -> None:
    answers: Any = Answers(*conditions)
    if waiting is not None:
        assert queues.why_waiting(answers, job) == waiting
    assert queues.why_suspended(answers, [job]) == ended


def test_a_job_that_is_held_back_again_has_lost_its_pod(tmp_path: Path) -> None:
    attempt = PodHandle("n", "nr-a-1", 1, tmp_path)
    snapshot = Snapshot(attempt, {}, {0: _job()})
    assert not snapshot.deleted
    (tmp_path / "pod-0").write_text("uid of the first")
    assert snapshot.deleted
