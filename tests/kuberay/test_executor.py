"""What a KubeRayExecutor describes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.kuberay import KubeRayExecutor, KubeRayWorkerGroup
from nemo_run.core.execution.kuberay.spec import object_of
from nemo_run.core.ray.engine import ClusterSpec
from nemo_run.errors import ExecutorError

CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
MOUNT = {"name": "data", "mountPath": "/data"}


def _container(template: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = template["spec"]["containers"][0]
    return container


def test_a_cluster_without_options() -> None:
    body = KubeRayExecutor().get_cluster_body("mine")
    head = body["spec"]["headGroupSpec"]
    container = _container(head["template"])
    assert (body["apiVersion"], body["kind"]) == ("ray.io/v1", "RayCluster")
    assert body["metadata"] == {"name": "mine", "namespace": "default", "labels": {}}
    assert "workerGroupSpecs" not in body["spec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["rayStartParams"] == {"dashboard-host": "0.0.0.0"}  # within the pod
    assert (container["name"], container["image"]) == ("ray-head", "rayproject/ray:2.43.0")
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"} == container["resources"]["requests"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["/bin/sh", "-c", "ray stop"]


def test_a_group_of_workers() -> None:
    group = KubeRayWorkerGroup(
        "gpu",
        replicas=2,
        min_replicas=0,
        max_replicas=4,
        gpus_per_worker=8,
        cpu_requests="4",
        memory_limits="64Gi",
        labels={"tier": 1, "spot": True},
        annotations={"my.org/note": "a b"},
    )
    executor = KubeRayExecutor(
        env_vars={"A": "1"}, worker_groups=[group], ray_worker_start_params={"num-cpus": 0, "block": True}
    )
    described = executor.get_cluster_body("mine")["spec"]["workerGroupSpecs"][0]
    assert {key: described[key] for key in ("groupName", "replicas", "minReplicas", "maxReplicas")} == {
        "groupName": "gpu", "replicas": 2, "minReplicas": 0, "maxReplicas": 4,
    }  # fmt: skip
    assert described["rayStartParams"] == {"num-cpus": "0", "block": "true"}
    assert described["template"]["metadata"] == {
        "labels": {"tier": "1", "spot": "true"},
        "annotations": {"my.org/note": "a b"},
    }
    container = _container(described["template"])
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert container["resources"] == {
        "requests": {"cpu": "4", "nvidia.com/gpu": 8},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": 8},
    }
    assert (executor.nnodes(), executor.nproc_per_node()) == (3, 8)


def test_a_cluster_whose_groups_have_limits_has_rays_autoscaler() -> None:
    group = KubeRayWorkerGroup("cpu", replicas=1, min_replicas=0, max_replicas=4)
    spec = KubeRayExecutor(worker_groups=[group]).get_cluster_body("mine")["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    fixed = KubeRayExecutor(
        worker_groups=[KubeRayWorkerGroup("cpu", replicas=2)],
        cluster_kwargs={"gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}},
    ).get_cluster_body("mine")["spec"]
    assert "enableInTreeAutoscaling" not in fixed
    assert fixed["gcsFaultToleranceOptions"] == {"redisAddress": "redis:6379"}


def test_idle_workers_and_a_lost_head_have_options_of_their_own() -> None:
    group = KubeRayWorkerGroup("cpu", replicas=2, min_replicas=0)
    spec = KubeRayExecutor(worker_groups=[group], worker_idle_timeout=90, redis_address="redis:6379").get_cluster_body(
        "mine"
    )["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"] == {"idleTimeoutSeconds": 90}
    assert spec["gcsFaultToleranceOptions"] == {"redisAddress": "redis:6379"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worker_idle_timeout": 90}, "no group of workers may shrink"),
        ({"active_deadline_seconds": 0}, "active_deadline_seconds=0; it is a number of seconds, 1 or more"),
        ({"worker_idle_timeout": 0}, "worker_idle_timeout=0; it is a number of seconds, 1 or more"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        KubeRayExecutor(**options).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_seconds_after_finished": 60, "active_deadline_seconds": 3600},
        {"job_kwargs": {"ttlSecondsAfterFinished": 60, "activeDeadlineSeconds": 3600}},
    ],
)
def test_a_job_has_the_limits_of_kubernetes(options: dict[str, Any]) -> None:
    executor = KubeRayExecutor(**options)
    spec = object_of(ClusterSpec("mine", executor, (), "train-1"))["spec"]
    assert (spec["ttlSecondsAfterFinished"], spec["activeDeadlineSeconds"]) == (60, 3600)
    assert spec["shutdownAfterJobFinishes"] is True


def test_kubernetes_fills_nothing_into_variables() -> None:
    spec = KubeRayExecutor(env_vars={"A": "p@$$w0rd $(HOME)"}).get_cluster_body("mine")["spec"]
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "p@$$$$w0rd $$(HOME)"}]


def test_a_group_that_does_not_scale() -> None:
    group = KubeRayWorkerGroup(group_name="w", replicas=3)
    assert (group.min_replicas, group.max_replicas) == (3, 3)


@pytest.mark.parametrize(("reuse", "expected"), [(True, ["data", "own"]), (False, ["own"])])
def test_volumes_of_the_head_beside_those_of_a_group(reuse: bool, expected: list[str]) -> None:
    group = KubeRayWorkerGroup("w", volumes=[{"name": "own"}], volume_mounts=[{"name": "own", "mountPath": "/own"}])
    executor = KubeRayExecutor(
        volumes=[CLAIM], volume_mounts=[MOUNT], worker_groups=[group], reuse_volumes_in_worker_groups=reuse
    )
    template = executor.get_cluster_body("mine")["spec"]["workerGroupSpecs"][0]["template"]
    assert [volume["name"] for volume in template["spec"]["volumes"]] == expected
    assert [mount["name"] for mount in _container(template)["volumeMounts"]] == expected


def test_further_fields_join_what_is_there() -> None:
    executor = KubeRayExecutor(
        env_vars={"A": "1", "B": "1"},
        volumes=[CLAIM],
        volume_mounts=[MOUNT],
        container_kwargs={"env": [{"name": "B", "value": "2"}], "securityContext": {"runAsUser": 0}},
        spec_kwargs={"volumes": [{"name": "scratch", "emptyDir": {}}], "schedulerName": "other"},
        lifecycle_kwargs={"postStart": {"exec": {"command": ["true"]}}},
    )
    template = executor.get_cluster_body("mine")["spec"]["headGroupSpec"]["template"]
    container = _container(template)
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert container["securityContext"] == {"runAsUser": 0}
    assert list(container["lifecycle"]) == ["preStop", "postStart"]
    assert template["spec"]["schedulerName"] == "other"
    assert [volume["name"] for volume in template["spec"]["volumes"]] == ["data", "scratch"]


def test_ports_beside_those_that_ray_needs() -> None:
    ports = [{"name": "dashboard", "containerPort": 8266}, {"name": "tensorboard", "containerPort": 6006}]
    body = KubeRayExecutor(head_ports=ports).get_cluster_body("mine")
    assert {p["name"]: p["containerPort"] for p in _container(body["spec"]["headGroupSpec"]["template"])["ports"]} == {
        "gcs-server": 6379, "client": 10001, "dashboard": 8266, "tensorboard": 6006,
    }  # fmt: skip


def test_the_object_shares_nothing_with_the_executor() -> None:
    executor = KubeRayExecutor(volumes=[{"name": "data", "emptyDir": {}}])
    before = executor.clone()
    body = executor.get_cluster_body("mine")
    body["spec"]["headGroupSpec"]["template"]["spec"]["volumes"][0]["emptyDir"]["medium"] = "Memory"
    body["metadata"]["labels"]["x"] = "y"
    assert executor == before


def _group(**options: Any) -> dict[str, Any]:
    return {"worker_groups": [KubeRayWorkerGroup(**{"group_name": "w", **options})]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"namespace": "My_Team"}, r"namespace: 'My_Team'"),
        ({"namespace": "n" * 64}, r"64 characters"),
        ({"image": "an image"}, r"image: 'an image'"),
        ({"head_cpu": "four"}, r"head_cpu: 'four'"),
        ({"head_memory": "2GB"}, r"head_memory: '2GB'"),
        ({"service_type": "clusterip"}, r"service_type='clusterip'"),
        ({"ray_head_start_params": {"--num-cpus": 1}}, r"without dashes"),
        ({"ray_worker_start_params": {"resources": {"a": 1}}}, r"\['resources'\] must be text"),
        ({"labels": {"team": "a b"}}, r"labels\['team'\]: 'a b'"),
        ({"labels": {"-team": "a"}}, r"'-team' is no key"),
        ({"head_ports": [{"name": "x", "containerPort": 70000}]}, r"head_ports\[0\].*between 1 and 65535"),
        ({"head_ports": [{"containerPort": 80}]}, r"head_ports\[0\] needs a 'name'"),
        ({"volumes": [{"emptyDir": {}}]}, r"volumes\[0\] needs a 'name'"),
        ({"volume_mounts": [MOUNT]}, r"there is no volume 'data'; there are: none"),
        ({"volumes": [CLAIM], "volume_mounts": [{"name": "data", "mountPath": "data"}]}, r"begins with '/'"),
        ({"spec_kwargs": {"x": {1, 2}}}, r"spec_kwargs must be values that JSON can hold"),
        (_group(group_name="My Group"), r"worker_groups\[0\].group_name: 'My Group'"),
        (_group(replicas=-1, min_replicas=0), r"\(w\).replicas must be a number"),
        (_group(replicas=4, max_replicas=2), r"replicas=4 is not between min_replicas=4 and max_replicas=2"),
        (_group(gpus_per_worker="8"), r"gpus_per_worker must be a number"),
        (_group(memory_requests="2Gi", memory_limits="2G"), r"memory_requests is more than memory_limits"),
        (_group(labels={"a": "/"}), r"worker_groups\[0\] \(w\).labels"),
        (_group(annotations={"a b": "x"}), r"annotations: 'a b'"),
        (_group(volume_mounts=[MOUNT]), r"worker_groups\[0\].volume_mounts\[0\]: there is no volume 'data'"),
        ({"worker_groups": [KubeRayWorkerGroup("w"), KubeRayWorkerGroup("w")]}, r"another group is called 'w'"),
        ({"env_vars": {"1A": "x"}}, r"'1A' is not a name"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ExecutorError, match=words):
        KubeRayExecutor(**options).check()


@pytest.mark.parametrize(
    ("name", "words"), [("Mine", "lower-case"), ("1st", "begin with a letter"), ("m" * 54, "54 characters")]
)
def test_names_that_the_operator_would_refuse(name: str, words: str) -> None:
    with pytest.raises(ExecutorError, match=words):
        KubeRayExecutor().get_cluster_body(name)


@pytest.mark.parametrize("quantity", ["4", "0.5", "500m", "16Gi", "1e3", "12Ei", 2])
def test_quantities(quantity: Any) -> None:
    KubeRayExecutor(head_cpu=quantity, head_memory=quantity).check()


def test_tasks_of_an_experiment_do_not_run_on_it() -> None:
    with run.Experiment("e") as exp:
        exp.add(run.Script(inline="true"), executor=KubeRayExecutor(), name="t")
        with pytest.raises(ExecutorError, match="RayJob"):
            exp.run()
