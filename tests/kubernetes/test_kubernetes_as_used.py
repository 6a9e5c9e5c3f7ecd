"""Situations that users of Kubernetes have met, on a real cluster with a real node."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.kubernetes import KubernetesExecutor
from nemo_run.core.execution.pods.client import MANAGED_BY, MANAGER, KubernetesClient
from nemo_run.core.execution.pods.shipping import MOVER_LABEL
from nemo_run.errors import ExecutorError
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")

OURS = f"{MANAGED_BY}={MANAGER}"


@pytest.fixture
def make(own_namespace: str) -> Any:
    def make(**options: Any) -> KubernetesExecutor:
        given = {"image": IMAGE, "namespace": own_namespace, "packager": run.Packager(), "grace": 2}
        return KubernetesExecutor(**{**given, **options})

    return make


def launch(executor: KubernetesExecutor, text: str = "true") -> run.Experiment:
    with run.Experiment("exp", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline=text), name="t")
        exp.run()
    return exp


def job_of(executor: KubernetesExecutor, capsys: pytest.CaptureFixture[str], *names: str) -> list[dict[str, Any]]:
    """The Jobs that a dry run shows."""
    capsys.readouterr()
    with run.Experiment("exp", executor=executor) as exp:
        for name in names or ("t",):
            exp.add(run.Script(inline="true"), name=name)
        exp.dryrun()
    shown = capsys.readouterr().out
    documents = [part[part.index("apiVersion") :] for part in shown.split("\n\n") if "apiVersion" in part]
    found = [one for part in documents for one in yaml.safe_load_all(part) if isinstance(one, dict)]
    return [one for one in found if one.get("kind") == "Job"]


def test_a_pod_with_equal_requests_and_limits_is_guaranteed(make: Any, cluster: KubernetesClient) -> None:
    """And it costs no more than what was asked for."""
    same = {"cpu_requests": "500m", "cpu_limits": "500m", "memory_requests": "256Mi", "memory_limits": "256Mi"}
    executor = make(**same, keep_job=True)
    launch(executor, 'echo a > "$NEMO_RUN_ARTIFACTS/a"')
    [pod] = cluster.pods(executor.namespace, OURS)
    assert pod["status"]["qosClass"] == "Guaranteed"
    limits = [container["resources"]["limits"] for container in pod["spec"]["containers"]]
    assert [(entry["cpu"], entry["memory"]) for entry in limits] == [("400m", "224Mi"), ("100m", "32Mi")]


def test_a_quota_of_exactly_what_a_task_needs_is_enough(make: Any, cluster: KubernetesClient) -> None:
    same = {"cpu_requests": "1", "cpu_limits": "1", "memory_requests": "128Mi", "memory_limits": "128Mi"}
    executor = make(**same)
    hard = {"requests.cpu": "1", "limits.cpu": "1", "requests.memory": "128Mi", "limits.memory": "128Mi"}
    metadata = {"name": "exact", "namespace": executor.namespace}
    cluster.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
    exp = launch(executor, 'echo a > "$NEMO_RUN_ARTIFACTS/a"')
    assert exp.results()["t"].state is JobState.SUCCEEDED
    assert [artifact.path for artifact in exp.artifacts()] == ["a"]


def test_an_init_container_that_fails_is_named(make: Any) -> None:
    init = {"name": "fetch-data", "image": IMAGE, "command": ["sh", "-c", "echo no such bucket; exit 5"]}
    result = launch(make(pod_spec_overrides={"initContainers": [init]})).results()["t"]
    assert result.state is JobState.FAILED
    assert "the init container 'fetch-data' ended with exit code 5" in result.reason


def test_the_pod_that_copies_runs_where_the_task_may_and_goes(
    make: Any, cluster: KubernetesClient, kubernetes_node: KubernetesCluster, work: Path
) -> None:
    (work / "b.py").write_text("print('b')\n")
    executor = make(
        workdir_pvc="work",
        packager=run.PatternPackager(include=["*.py"], relative_path=str(work)),
        tolerations=[{"key": "dedicated", "operator": "Exists"}],
        node_selector={"kubernetes.io/hostname": "node1"},
        container_kwargs={"securityContext": {"allowPrivilegeEscalation": False}},
        pod_spec_overrides={"securityContext": {"runAsUser": 0}},
    )
    kubernetes_node.make_volume(executor.namespace, "work")
    seen, done = {}, threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.update({pod["metadata"]["name"]: pod["spec"] for pod in cluster.pods(executor.namespace, MOVER_LABEL)})

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        exp = launch(executor, "python3 b.py")
    finally:
        done.set()
        watcher.join()
    assert exp.results()["t"].state is JobState.SUCCEEDED
    assert seen
    for spec in seen.values():
        assert "dedicated" in [entry.get("key") for entry in spec["tolerations"]]
        assert spec["nodeSelector"] == {"kubernetes.io/hostname": "node1"}
        assert spec["securityContext"] == {"runAsUser": 0}
        assert spec["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False}
    assert not cluster.pods(executor.namespace, MOVER_LABEL)


def test_names_that_differ_have_folders_that_differ_on_a_volume(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("学習", "評価", "lr_0.1", "lr-0.1", "LR-0.1")
    jobs = job_of(make(workdir_pvc="work"), capsys, *names)
    folders = {
        entry["value"]
        for job in jobs
        for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if entry["name"] == "NEMO_RUN_ARTIFACTS"
    }
    assert len(folders) == len(names)


def test_a_kubeconfig_is_found_from_any_folder(
    make: Any, work: Path, kubernetes_node: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "kc.yaml").write_bytes(kubernetes_node.kubeconfig.read_bytes())
    monkeypatch.delenv("KUBECONFIG")
    assert make(kubeconfig="kc.yaml").connection()["kubeconfig"] == str(work / "kc.yaml")


@pytest.mark.parametrize("env", [{"BIG_TOKEN": "x" * 1_200_000}, {f"P{n}_TOKEN": "x" * 120_000 for n in range(12)}])
def test_nothing_is_left_of_a_launch_that_is_refused(env: dict[str, str], make: Any, cluster: KubernetesClient) -> None:
    """One value is too large for any program, or all of them together for a Secret."""
    executor = make(env_vars=env)
    try:
        said = launch(executor).results()["t"].reason
    except ExecutorError as error:
        said = str(error)
    assert "too l" in said.lower()
    for kind in ("Secret", "Service", "Pod"):
        assert not cluster.objects("v1", kind, executor.namespace, OURS)
    assert not cluster.objects("batch/v1", "Job", executor.namespace, OURS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"workdir_pvc": None, "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "no-such"}}]},
            "no-such",
        ),
        ({"volumes": [{"name": "d", "secret": {"secretName": "no-such-secret"}}]}, "no-such-secret"),
        ({"memory_requests": "512Mi", "memory_limits": "512Mi"}, "maximum memory usage per Container"),
    ],
)
def test_a_pod_that_will_never_start_says_why_and_fails_in_time(
    options: dict[str, Any], words: str, make: Any, cluster: KubernetesClient
) -> None:
    """A claim that is not there; a Secret that cannot be mounted; a pod that is refused at admission."""
    executor = make(start_timeout=1, **options)
    if executor.volumes:
        executor.volume_mounts = [{"name": "d", "mountPath": "/d"}]
    limits = [{"type": "Container", "max": {"memory": "256Mi"}}]
    metadata = {"name": "limits", "namespace": executor.namespace}
    cluster.create({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}})
    result = launch(executor).results()["t"]
    assert result.state is JobState.FAILED
    assert words in result.reason


def test_a_pod_that_is_preempted_is_told_from_one_that_somebody_deletes(make: Any, cluster: KubernetesClient) -> None:
    for name, value in (("nr-low", 1), ("nr-high", 1000)):
        found = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        cluster.provide({**found, "value": value})
    low = run.Experiment("low", executor=make(gpus_per_node=8, priority_class="nr-low"), clean_mode=True)
    low.add(run.Script(inline="sleep 300"), name="t")
    low.run(detach=True)
    eventually(lambda: low.results()["t"].state is JobState.RUNNING)
    high = launch(make(gpus_per_node=8, priority_class="nr-high"))
    assert high.results()["t"].state is JobState.SUCCEEDED
    low.wait()
    result = low.results()["t"]
    assert result.state is JobState.FAILED
    assert result.reason.startswith("preempted")


def test_a_second_container_that_keeps_running_does_not_keep_the_job(make: Any, cluster: KubernetesClient) -> None:
    sidecar = {"name": "sidecar", "image": IMAGE, "command": ["sleep", "600"]}
    executor = make(pod_spec_overrides={"containers": [sidecar]})
    exp = launch(executor, 'echo a > "$NEMO_RUN_ARTIFACTS/a"; exit 3')
    assert (exp.results()["t"].state, exp.results()["t"].exit_code) == (JobState.FAILED, 3)
    assert [artifact.path for artifact in exp.artifacts()] == ["a"]
    eventually(lambda: not cluster.pods(executor.namespace, OURS))


def test_secrets_inside_values_go_into_a_secret(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"DATABASE_URL": "postgres://me:pw-1@db/x", "GITHUB_PAT": "pw-2", "PLAIN": "http://db/x"}
    [job] = job_of(make(env_vars=values), capsys)
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    from_secret = {entry["name"] for entry in env if "secretKeyRef" in entry.get("valueFrom", {})}
    assert from_secret == {"DATABASE_URL", "GITHUB_PAT"}
    assert "pw-" not in str(job)


@pytest.mark.parametrize("on_volume", [False, True])
def test_restricted_pods_have_no_rights(
    on_volume: bool, make: Any, kubernetes_node: KubernetesCluster, work: Path
) -> None:
    """The task, and what hands over its files."""
    if on_volume:
        kubernetes_node.make_volume(make().namespace, "work").chmod(0o777)
    text = """cd "$NEMO_RUN_ARTIFACTS"; id -u > user; cat /proc/self/status > rights"""
    executor = make(restricted=True, workdir_pvc="work" if on_volume else None)
    exp = launch(executor, text)
    assert exp.results()["t"].state is JobState.SUCCEEDED, exp.results()["t"].reason
    files = {artifact.path: Path(artifact.file).read_text() for artifact in exp.artifacts()}
    rights = dict(line.split(":", 1) for line in files["rights"].splitlines())
    assert files["user"] == "1000\n"
    assert {name: rights[name].strip().lstrip("0") for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")} == {
        "CapEff": "", "CapBnd": "", "NoNewPrivs": "1", "Seccomp": "2",
    }  # fmt: skip


def test_what_pods_may_do_and_where_they_run(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    executor = make(restricted=True, run_as_user=1234, run_as_group=5, gpu_type="NVIDIA-H100", gpus_per_node=1)
    [job] = job_of(executor, capsys)
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100"}
    assert pod["securityContext"] == {
        "runAsUser": 1234, "runAsGroup": 5, "fsGroup": 5, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert [container["securityContext"] for container in pod["containers"]] == [rights, rights]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpu_requests": "much"}, "'much' is no amount of cpu"),
        ({"memory_requests": "2Gi", "memory_limits": "1Gi"}, "2Gi of memory are reserved, but only 1Gi"),
        ({"shm_size": "16 GB"}, "shm_size"),
        ({"restricted": True, "run_as_user": 0}, "is root"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked(options: dict[str, Any], words: str, make: Any) -> None:
    with pytest.raises(ExecutorError, match=words):
        make(**options).check()
