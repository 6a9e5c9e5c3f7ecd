"""What a real API server says of the objects, and what is said of clusters that do not come up."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nemo_run.core.execution.kuberay import KubeRayExecutor, KubeRayWorkerGroup
from nemo_run.core.execution.kuberay.spec import API, object_of
from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.core.ray.engine import ClusterSpec, ClusterState, get_engine
from nemo_run.errors import ExecutorError
from nemo_run.run.ray import RayCluster, RayJob
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")

Sized = Callable[..., KubeRayExecutor]

FULL: dict[str, Any] = {
    "labels": {"team": "x"},
    "service_type": "NodePort",
    "ray_head_start_params": {"num-cpus": 0, "block": True},
    "head_ports": [{"name": "tensorboard", "containerPort": 6006, "protocol": "TCP"}],
    "worker_groups": [
        KubeRayWorkerGroup(
            "gpu", replicas=2, max_replicas=4, gpus_per_worker=8, labels={"a": "b"}, annotations={"c": "d"}
        ),
        KubeRayWorkerGroup("cpu", replicas=0, cpu_requests="500m", cpu_limits="2", memory_requests="1Gi"),
    ],
    "container_kwargs": {
        "livenessProbe": {"tcpSocket": {"port": 6379}},
        "securityContext": {"runAsUser": 0},
        "envFrom": [{"secretRef": {"name": "s", "optional": True}}],
    },
    "spec_kwargs": {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
    "lifecycle_kwargs": {"postStart": {"exec": {"command": ["true"]}}},
    "worker_idle_timeout": 60,
    "redis_address": "redis:6379",
    "ttl_seconds_after_finished": 60,
    "active_deadline_seconds": 3600,
}


def _missing(sent: Any, got: Any, path: str = "") -> list[str]:
    """Where what was sent is not in what the server took."""
    if isinstance(sent, dict) and isinstance(got, dict):
        return [place for key in sent for place in _missing(sent[key], got.get(key), f"{path}.{key}")]
    if isinstance(sent, list) and isinstance(got, list) and len(sent) == len(got):
        return [place for i, item in enumerate(sent) for place in _missing(item, got[i], f"{path}[{i}]")]
    return [] if sent == got else [f"{path}: {sent!r} became {got!r}"]


@pytest.mark.parametrize("until_job", ["", "train-1"])
@pytest.mark.parametrize("options", [{}, FULL], ids=["plain", "full"])
def test_the_server_takes_all_of_an_object(
    cluster: KubernetesClient, sized: Sized, options: dict[str, Any], until_job: str
) -> None:
    executor = sized(**options)
    obj = object_of(ClusterSpec("mine", executor, ("echo hello",), until_job))
    path = cluster.path(API, obj["kind"], executor.namespace)
    made = cluster.request("POST", path, body=obj, params={"dryRun": "All"})
    assert _missing(obj, made) == []


def test_the_pods_of_an_object_are_taken_too(cluster: KubernetesClient, sized: Sized) -> None:
    executor = sized(**FULL)
    spec = object_of(ClusterSpec("mine", executor, (), "train-1"))["spec"]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    for template in (*(group["template"] for group in groups), spec["submitterPodTemplate"]):
        pod = {"metadata": {"generateName": "x-", **template.get("metadata", {})}, "spec": template["spec"]}
        path = cluster.path("v1", "Pod", executor.namespace)
        made = cluster.request("POST", path, body=pod, params={"dryRun": "All"}) or {}
        assert made["spec"]["containers"][0]["name"] == template["spec"]["containers"][0]["name"]


def test_a_refusal_is_in_the_words_of_the_server(sized: Sized) -> None:
    executor = sized(container_kwargs={"command": "not a list"})
    with pytest.raises(ExecutorError, match=r"(?s)refused \(422\).*command.*must be of type array"):
        RayCluster("refused", executor).start()


def test_a_dry_run_shows_the_object_without_secrets(
    executor: KubeRayExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    executor.env_vars |= {"WANDB_API_KEY": "topsecret", "LEVEL": "visible"}
    RayCluster("mine", executor).start(dryrun=True, pre_ray_start_commands=["echo before"])
    shown = capsys.readouterr().out
    assert "kind: RayCluster" in shown
    assert "echo before" in shown
    assert "visible" in shown
    assert "topsecret" not in shown
    RayJob("mine", executor).start("true", workdir="", dryrun=True)
    shown = capsys.readouterr().out
    assert "kind: RayJob" in shown
    assert "topsecret" not in shown


@contextlib.contextmanager
def _started(name: str, executor: KubeRayExecutor, **options: Any) -> Iterator[RayCluster]:
    cluster = RayCluster(name, executor)
    cluster.start(wait_until_ready=False, **options)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"worker_groups": [KubeRayWorkerGroup("big", gpus_per_worker=1000)]},
            r"big-worker-.*Insufficient nvidia.com/gpu",
        ),
        ({"image": "localhost/absent:1", "workers": 0}, r"head-.*the image 'localhost/absent:1' cannot be pulled"),
        ({"spec_kwargs": {"priorityClassName": "absent"}, "workers": 0}, r"no PriorityClass with name absent"),
    ],
    ids=["unschedulable", "image", "refused by the operator"],
)
def test_what_a_cluster_waits_for_is_said(sized: Sized, options: dict[str, Any], reason: str) -> None:
    with _started("waiting", sized(**options)) as cluster:
        status = eventually(
            lambda: (found := cluster.status(display=False)) and re.search(reason, found["reason"]) and found, reason
        )
        assert status["state"] == "starting"
        assert status["nodes_ready"] == 0


def test_a_failing_command_before_ray_is_shown_with_its_log(sized: Sized) -> None:
    cluster = RayCluster("failing", sized(workers=0))
    commands = ["echo about to fail", "false", "echo not reached"]
    cluster.start(wait_until_ready=False, pre_ray_start_commands=commands)
    eventually(lambda: "restarted" in cluster.status(display=False)["reason"], "it is restarted")
    with pytest.raises(ExecutorError, match=r"(?s)is not ready after 0.1 s.*restarted.*about to fail") as caught:
        cluster.start(timeout=0.1)  # type: ignore[arg-type]
    assert "not reached" not in str(caught.value)
    cluster.stop()


def test_without_an_operator_and_in_a_queue(sized: Sized, unwatched: str, cluster: KubernetesClient) -> None:
    with _started("alone", sized(namespace=unwatched)) as ray:
        assert ray.status(display=False)["reason"] == "its pods are not made yet by the KubeRay operator"
        name = ray.status(display=False)["object"].partition("/")[2]
        merge = "application/merge-patch+json"
        cluster.patch(API, "RayCluster", unwatched, name, {"spec": {"suspend": True}}, merge)  # as a queue does
        assert ray.status(display=False)["reason"] == "it is suspended"


def test_a_job_whose_cluster_does_not_come_up_leaves_nothing(cluster: KubernetesClient, sized: Sized) -> None:
    executor = sized(head_cpu="1000")
    job = RayJob("huge", executor, cluster_ready_timeout=2)
    with pytest.raises(ExecutorError, match="Insufficient cpu"):
        job.start("true", workdir="")
    names = [obj["metadata"]["name"] for obj in cluster.objects(API, "RayJob", executor.namespace)]
    assert [name for name in names if "huge" in name] == []


def test_a_job_that_takes_too_long_has_failed_for_its_deadline(sized: Sized) -> None:
    job = RayJob("late", sized(workers=0, head_cpu="1000", active_deadline_seconds=2), cluster_ready_timeout=300)
    with pytest.raises(ExecutorError, match=r"did not come up: failed \(.*activeDeadlineSeconds"):
        job.start("true", workdir="")


def test_objects_of_others_are_left_alone(cluster: KubernetesClient, executor: KubeRayExecutor, unwatched: str) -> None:
    executor.namespace = unwatched
    obj = object_of(ClusterSpec("taken", executor))
    obj["metadata"]["labels"] = {}
    cluster.create(obj)
    ray = RayCluster("taken", executor)
    with pytest.raises(ExecutorError, match="already, and it is not ours"):
        ray.start(wait_until_ready=False)
    ray.stop()
    assert cluster.get(API, "RayCluster", unwatched, obj["metadata"]["name"])


def test_what_somebody_else_made_instead_is_left_alone(
    executor: KubeRayExecutor, cluster: KubernetesClient, unwatched: str
) -> None:
    executor.namespace = unwatched
    engine, spec = get_engine("kuberay"), ClusterSpec("replaced", executor)
    record = engine.start(spec)
    where = (API, "RayCluster", unwatched, record["name"])
    cluster.delete(*where)
    assert engine.status(record).state is ClusterState.STOPPED
    cluster.create(object_of(spec))
    assert engine.status(record).state is ClusterState.STOPPED
    engine.stop(record)
    assert cluster.get(*where)


def test_a_name_that_is_too_long(executor: KubeRayExecutor) -> None:
    with pytest.raises(ExecutorError, match=r"characters, and may have 53 at most"):
        RayCluster("c" * 50, executor).start()
    with pytest.raises(ExecutorError, match=r"characters, and may have 47 at most"):
        RayJob("j" * 40, executor).start("true", workdir="")


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("echo before ray start", {}, "does not start Ray"),
        ("echo hello", {"container_kwargs": {"command": ["sleep", "1"]}}, "has a command of its own"),
    ],
)
def test_commands_that_would_keep_ray_from_starting(command: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ExecutorError, match=words):
        object_of(ClusterSpec("mine", KubeRayExecutor(**options), (command,)))


def test_the_submitter_has_nothing_of_a_node(sized: Sized) -> None:
    executor = sized(**FULL)
    executor.spec_kwargs = {"containers": [{"name": "sidecar", "image": "x"}]}
    spec = object_of(ClusterSpec("mine", executor, (), "train-1"))["spec"]
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (submitter,) = spec["submitterPodTemplate"]["spec"]["containers"]
    assert [container["name"] for container in head["containers"]] == ["ray-head", "sidecar"]
    assert {"lifecycle", "livenessProbe", "ports"} <= set(head["containers"][0])
    assert not {"lifecycle", "livenessProbe", "ports"} & set(submitter)
    assert submitter["volumeMounts"] == head["containers"][0]["volumeMounts"]
