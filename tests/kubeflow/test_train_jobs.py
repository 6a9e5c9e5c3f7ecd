"""TrainJobs: accepted by a real API server in every version, and by the official models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import Command, Plan, TaskRequest
from nemo_run.core.execution.kubeflow import KubeflowExecutor, train_job as train_jobs
from nemo_run.core.execution.kubeflow.backend import KubeflowBackend
from nemo_run.errors import ExecutorError
from tests.kubeflow import crds
from tests.kubeflow.operator import patches

FIELDS = {"2.0": "podSpecOverrides", "2.1": "podTemplateOverrides", "2.2": "runtimePatches"}
EVERYTHING: dict[str, Any] = {
    "image": "example.com/train:1",
    "num_nodes": 2,
    "gpus_per_node": 8,
    "cpu_requests": "4",
    "memory_limits": "64Gi",
    "extra_resource_limits": {"rdma/ib": "1"},
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    "volume_mounts": [{"name": "data", "mountPath": "/data"}],
    "labels": {"team": "nlp"},
    "annotations": {"note": "x"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "env_list": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    "env_vars": {"A": "1", "API_TOKEN": "very secret"},
    "node_selector": {"pool": "a"},
    "launcher": "torchrun",
}
SINCE_2_1: dict[str, Any] = {
    "affinity": {"nodeAffinity": {}},
    "image_pull_secrets": ["registry"],
    "pod_labels": {"tier": "x"},
    "pod_annotations": {"networking.gke.io/interfaces": "[]"},
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("contexts: [{name: here, context: {cluster: c}}]\ncurrent-context: here\n")

    def plan(**options: Any) -> Plan:
        executor = KubeflowExecutor(**{"kubeconfig": str(kubeconfig), **options})
        executor.check()
        directory = tmp_path / "exp" / "job"
        directory.mkdir(parents=True, exist_ok=True)
        command = Command(("python3", "train.py", "$HOME", "--token=abc"), executor.env_vars, python=True)
        return KubeflowBackend(kubeconfig="", context="").render(
            [TaskRequest("exp", "job", str(directory), executor, command)]
        )[0]

    return plan


@pytest.mark.parametrize("field", train_jobs.OVERRIDES)
def test_the_same_pods_in_the_words_of_every_version(plan: Callable[..., Plan], field: str) -> None:
    described = plan(**EVERYTHING, **(SINCE_2_1 if field != "podSpecOverrides" else {})).spec["described"]
    metadata, pod = patches(train_jobs.for_version(field, described)["spec"])
    assert pod["nodeSelector"] == {"pool": "a"}
    assert pod["tolerations"] == EVERYTHING["tolerations"]
    assert {"name": "data", "mountPath": "/data"} in pod["containers"][0]["volumeMounts"]
    assert EVERYTHING["volumes"][0] in pod["volumes"]
    if field != "podSpecOverrides":
        assert metadata == {"labels": {"tier": "x"}, "annotations": {"networking.gke.io/interfaces": "[]"}}
        assert pod["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize("option", SINCE_2_1)
def test_what_the_oldest_version_cannot_say_is_an_error(plan: Callable[..., Plan], option: str) -> None:
    described = plan(image="x", **{option: SINCE_2_1[option]}).spec["described"]
    with pytest.raises(ExecutorError, match="too old for"):
        train_jobs.for_version("podSpecOverrides", described, "job")


def test_the_official_models_take_every_job(plan: Callable[..., Plan]) -> None:
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    job = train_jobs.for_version("runtimePatches", plan(**EVERYTHING, **SINCE_2_1).spec["described"])
    model = TrainerV1alpha1TrainJob.from_dict(job)
    assert model is not None
    assert not list(train_jobs.dropped(job, model.to_dict()))


def test_the_task_of_a_job(plan: Callable[..., Plan]) -> None:
    made = plan(**EVERYTHING)
    trainer = made.spec["described"]["job"]["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 8, "example.com/train:1")
    limits = {"memory": "64Gi", "nvidia.com/gpu": "8", "rdma/ib": "1"}
    assert trainer["resourcesPerNode"] == {"requests": {"cpu": "4"}, "limits": limits}
    assert "--rdzv-endpoint=$(PET_MASTER_ADDR):29500" in trainer["args"]
    assert "--node-rank=$(NODE_RANK)" in trainer["args"]
    assert trainer["args"][-2:] == ["$$HOME", "--token=abc"]
    assert trainer["env"][0]["name"] == "NODE_RANK"  # before those that use it
    assert made.spec["secrets"] == {"API_TOKEN": "very secret"}
    assert "very secret" not in str(made.spec["described"])


def test_a_dry_run_needs_no_cluster_and_hides_secrets(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    executor = KubeflowExecutor(image="x", env_vars={"API_TOKEN": "very secret"})
    with run.Experiment("exp", executor=executor) as exp:
        exp.add(run.Script(inline="echo", args=["--token=abc"]), name="job0")
        exp.dryrun()
    shown = capsys.readouterr().out
    assert "kind: TrainJob" in shown
    assert "very secret" not in shown
    assert "abc" not in shown


def test_the_body_for_a_command_of_ones_own() -> None:
    executor = KubeflowExecutor(image="x", num_nodes=2, env_vars={"A": "1"}, spec_kwargs={"suspend": True})
    body = executor.get_job_body("mine", ["bash", "launch.sh"])
    assert body["metadata"] == {"name": "mine", "namespace": "default"}
    assert body["spec"]["trainer"]["command"] == ["bash", "launch.sh"]
    assert body["spec"]["suspend"] is True
    assert body["spec"]["runtimeRef"] == {"name": "torch-distributed"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_nodes": 0}, "num_nodes must be at least 1"),
        ({"workdir_local_path": "."}, "needs a volume"),
        ({"workdir_local_path": "/no/such", "workdir_pvc": "w"}, "there is no folder '/no/such'"),
        ({"volume_mounts": [{"name": "a", "mountPath": "/a"}]}, "there is no volume 'a'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ExecutorError, match=words):
        KubeflowExecutor(**options).check()


# --- a real API server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def newest_afterwards(install: Callable[[str], None]) -> Iterator[None]:
    yield
    install("2.2")


@pytest.mark.needs("kubernetes node")
@pytest.mark.parametrize("version", crds.VERSIONS)
def test_an_api_server_of_every_version_takes_all_of_a_job(
    plan: Callable[..., Plan], install: Callable[[str], None], newest_afterwards: None, version: str
) -> None:
    install(version)
    made = plan(kubeconfig=None, **EVERYTHING, **(SINCE_2_1 if version != "2.0" else {}))
    backend = KubeflowBackend(**made.connection)
    backend.preflight([made])
    assert backend._served_field() == FIELDS[version]
    backend.close()


@pytest.mark.needs("kubernetes node")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime_ref": "no-such"}, "has no ClusterTrainingRuntime 'no-such'"),
        ({"priority_class": "high"}, r"would ignore .*priorityClassName"),
        ({"namespace": "no-such"}, "no-such"),
    ],
)
def test_what_the_cluster_would_not_do_is_an_error_before_anything_starts(
    plan: Callable[..., Plan], install: Callable[[str], None], options: dict[str, Any], words: str
) -> None:
    install("2.2")
    made = plan(kubeconfig=None, image="x", **options)
    backend = KubeflowBackend(**made.connection)
    with pytest.raises(ExecutorError, match=words):
        backend.preflight([made])
    backend.close()
