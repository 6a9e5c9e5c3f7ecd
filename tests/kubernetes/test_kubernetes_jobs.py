"""Plain Kubernetes: what may become of pods, on a real cluster with a real node."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nemo_run.core.execution.base import Command, JobState, Plan, TaskRequest, TaskStatus
from nemo_run.core.execution.kubernetes import KubernetesExecutor
from nemo_run.core.execution.kubernetes.backend import KubernetesBackend
from nemo_run.core.execution.pods.attempt import PodHandle
from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.core.execution.pods.objects import ATTEMPT_LABEL
from nemo_run.core.packaging.base import Packager
from nemo_run.errors import EngineUnreachableError, ExecutorError
from tests.services.kubernetes import GPUS, IMAGE, KubernetesCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")


class Jobs:
    """Starts shell scripts in pods and looks at them."""

    def __init__(self, folder: Path, namespace: str, cluster: KubernetesClient) -> None:
        self.folder, self.namespace, self.cluster = folder, namespace, cluster
        self.backend = KubernetesBackend()
        self.handles: list[str] = []

    def plan(self, script: str, *args: str, name: str = "", **options: Any) -> Plan:
        name = name or f"job-{len(list(self.folder.iterdir()))}"
        folder = self.folder / name
        (folder / "artifacts").mkdir(parents=True)
        given = {"image": IMAGE, "namespace": self.namespace, "packager": Packager(), "grace": 2}
        executor = KubernetesExecutor(**{**given, **options})
        executor.check()
        env = {**executor.env_vars, "NEMO_RUN_ARTIFACTS": str(folder / "artifacts")}
        command = Command(("bash", "-c", script, "script", *args), env)
        request = TaskRequest("experiment", name, str(folder), executor, command, cwd=str(self.folder))
        return Plan.from_json(json.loads(json.dumps(self.backend.render([request])[0].to_json())))

    def submit(self, plan: Plan, attempt: int = 1) -> str:
        self.handles.append(self.backend.start(plan, attempt))
        return self.handles[-1]

    def start(self, script: str, *args: str, **options: Any) -> str:
        return self.submit(self.plan(script, *args, **options))

    def status(self, handle: str) -> TaskStatus:
        return self.backend.states([handle])[handle]

    def until(self, handle: str, condition: Callable[[TaskStatus], Any]) -> TaskStatus:
        def look() -> TaskStatus | None:
            self.backend.wait([handle], 0.2)
            status = self.status(handle)
            return status if condition(status) else None

        status = eventually(look, f"{handle}: {condition}")
        assert status is not None
        return status

    def end(self, handle: str) -> TaskStatus:
        return self.until(handle, lambda status: status.state.is_final)

    def log(self, handle: str, rank: int | None = None) -> str:
        reader = self.backend.open_log(handle, rank)
        text = b"".join(iter(reader.read, b"")).decode()
        reader.close()
        return text

    def pod(self, handle: str) -> dict[str, Any]:
        name = handle.split("/")[3]
        [pod] = eventually(lambda: self.cluster.pods(self.namespace, f"{ATTEMPT_LABEL}={name}"))
        return pod


@pytest.fixture
def jobs(tmp_path: Path, namespace: str, cluster: KubernetesClient) -> Iterator[Jobs]:
    folder = tmp_path / "jobs"
    folder.mkdir()
    jobs = Jobs(folder, namespace, cluster)
    yield jobs
    jobs.backend.cancel(jobs.handles)
    for handle in jobs.handles:
        jobs.end(handle)
    jobs.backend.close()


# pods that do not start


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpu_requests": "5000"}, "cpu"),
        ({"gpus_per_node": GPUS + 1}, "nvidia.com/gpu"),
        ({"node_selector": {"a": "b"}}, "nodes"),
    ],
)
def test_a_pod_that_no_node_takes_waits_and_says_why(jobs: Jobs, options: dict[str, Any], words: str) -> None:
    handle = jobs.start("true", **options)
    status = jobs.until(handle, lambda status: status.reason)
    assert status.state is JobState.PENDING
    assert status.reason.startswith("unschedulable: ")
    assert words in status.reason
    jobs.backend.cancel([handle])
    assert jobs.end(handle).state is JobState.CANCELLED


def test_an_image_that_cannot_be_pulled(jobs: Jobs) -> None:
    waiting = jobs.start("true", image="localhost/no/such:image")
    status = jobs.until(waiting, lambda status: status.reason)
    assert status.state is JobState.PENDING
    assert "'localhost/no/such:image' cannot be pulled" in status.reason
    failing = jobs.end(jobs.start("true", image="localhost/no/such:image", start_timeout=0))
    assert (failing.state, failing.exit_code) == (JobState.FAILED, None)
    assert "'localhost/no/such:image' cannot be pulled" in failing.reason


def test_gpus_are_given_by_the_scheduler(jobs: Jobs) -> None:
    handle = jobs.start("sleep 60", gpus_per_node=GPUS)
    second = jobs.start("true", gpus_per_node=1)
    assert "nvidia.com/gpu" in jobs.until(second, lambda status: status.reason).reason
    assert jobs.pod(handle)["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(GPUS)
    jobs.backend.cancel([handle])
    assert jobs.end(second).state is JobState.SUCCEEDED


# pods that end


def test_out_of_memory(jobs: Jobs) -> None:
    status = jobs.end(jobs.start("exec python3 -c 'bytearray(200 << 20)'", memory_limits="64Mi"))
    assert (status.state, status.exit_code, status.lost) == (JobState.FAILED, 137, False)
    assert status.reason == "out of memory: it needed more than 48Mi"  # the keeper has the rest


def test_a_pod_that_somebody_deletes_is_lost_and_runs_only_once(
    jobs: Jobs, cluster: KubernetesClient, tmp_path: Path
) -> None:
    handle = jobs.start("echo begun; exec sleep 300")
    jobs.until(handle, lambda status: status.state is JobState.RUNNING)
    cluster.delete("v1", "Pod", jobs.namespace, jobs.pod(handle)["metadata"]["name"])
    status = jobs.end(handle)
    assert (status.state, status.exit_code, status.lost) == (JobState.FAILED, None, True)
    assert "was deleted" in status.reason
    assert jobs.log(handle) == "begun\n"


def test_a_job_that_somebody_deletes_is_lost(jobs: Jobs, cluster: KubernetesClient) -> None:
    handle = jobs.start("exec sleep 300")
    name = jobs.pod(handle)["metadata"]["labels"]["job-name"]
    cluster.delete("batch/v1", "Job", jobs.namespace, name)
    status = jobs.end(handle)
    assert (status.state, status.lost) == (JobState.FAILED, True)
    assert "was deleted" in status.reason


def test_what_was_submitted_while_the_cluster_was_asked_is_not_lost(jobs: Jobs) -> None:
    handle = jobs.start("sleep 300")
    assert not jobs.backend._missing(PodHandle.parse(handle)).state.is_final
    assert not jobs.status(handle).state.is_final


def test_a_node_that_is_lost(jobs: Jobs, kubernetes_node: KubernetesCluster) -> None:
    handle, cancelled = jobs.start("echo begun; sleep 300"), jobs.start("sleep 300")
    for each in (handle, cancelled):
        jobs.until(each, lambda status: status.state is JobState.RUNNING)
    kubernetes_node.kill_node()
    try:
        status = jobs.until(handle, lambda status: status.reason)
        assert (status.state, status.reason) == (JobState.RUNNING, "its node does not answer")
        jobs.backend.cancel([cancelled])
    finally:
        kubernetes_node.start_node()
    status = jobs.end(handle)
    assert (status.state, status.exit_code, status.lost) == (JobState.FAILED, None, True)
    assert jobs.end(cancelled).state is JobState.CANCELLED


# several nodes


def test_several_nodes_know_of_each_other(jobs: Jobs, cluster: KubernetesClient) -> None:
    script = 'echo "$NODE_RANK of $NNODES: $(hostname), ${1}"; [ "$NODE_RANK" != 1 ] || echo once'
    handle = jobs.start(script, "$$${head_node_ip_var}", num_nodes=3, nprocs_per_node=4)
    name = handle.split("/")[3]
    assert jobs.end(handle).exit_code == 0
    lines = [f"{rank} of 3: node-0-{rank}, node-0-0.{name}" for rank in range(3)]
    assert sorted(jobs.log(handle).splitlines()) == sorted(
        [*(f"[{r}] {line}" for r, line in enumerate(lines)), "[1] once"]
    )
    assert jobs.backend.ranks(handle) == [0, 1, 2]
    assert jobs.log(handle, rank=2) == f"{lines[2]}\n"


def test_the_address_of_the_first_node_leads_to_it(jobs: Jobs) -> None:
    script = """
if [ "$NODE_RANK" = 0 ]; then exec python3 -c '
import socket
with socket.create_server(("", 29500)) as server:
    for _ in range(2):
        connection, _ = server.accept()
        print(connection.recv(100).decode())
'; fi
exec python3 -c '
import os, socket, time
while True:
    try:
        with socket.create_connection((os.environ["MASTER_ADDR"], 29500), 5) as connection:
            connection.sendall(b"hello from " + os.environ["NODE_RANK"].encode())
        break
    except OSError as e:
        print(e, flush=True)
        time.sleep(0.2)
'"""
    handle = jobs.start(script, num_nodes=3)
    assert jobs.end(handle).exit_code == 0
    assert sorted(jobs.log(handle, rank=0).splitlines()) == ["hello from 1", "hello from 2"]


def test_one_node_that_fails_ends_the_others(jobs: Jobs) -> None:
    handle = jobs.start('[ "$NODE_RANK" = 1 ] && exit 3; echo waits; exec sleep 300', num_nodes=3)
    status = jobs.end(handle)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert status.reason.startswith("node 1")


# what is left behind, and what is not


def test_secrets_are_in_no_job_and_nothing_is_left_behind(
    own_namespace: str, tmp_path: Path, cluster: KubernetesClient
) -> None:
    (tmp_path / "jobs").mkdir()
    jobs = Jobs(tmp_path / "jobs", own_namespace, cluster)
    secret = "s3cr3t $(HOME) é"
    handle = jobs.start('echo "$HF_TOKEN"; sleep 1', env_vars={"HF_TOKEN": secret}, num_nodes=2)
    listed = json.dumps(cluster.objects("batch/v1", "Job", own_namespace))
    assert "HF_TOKEN" in listed
    assert "s3cr3t" not in listed
    jobs.end(handle)
    assert jobs.log(handle, rank=0) == f"{secret}\n"

    def left() -> list[str]:
        kinds = [("batch/v1", "Job"), ("v1", "Pod"), ("v1", "Secret"), ("v1", "Service")]
        objects = [obj for kind in kinds for obj in cluster.objects(*kind, own_namespace)]
        return [obj["metadata"]["name"] for obj in objects if "default-token" not in obj["metadata"]["name"]]

    eventually(lambda: not left(), "nothing is left")
    jobs.backend.close()


def test_a_job_can_be_kept(jobs: Jobs, cluster: KubernetesClient) -> None:
    handle = jobs.start("echo kept", keep_job=True)
    jobs.end(handle)
    name = f"{handle.split('/')[3]}-0"
    assert cluster.get("batch/v1", "Job", jobs.namespace, name)["status"]["succeeded"] == 1  # type: ignore[index]
    cluster.delete("batch/v1", "Job", jobs.namespace, name)


def test_a_half_submitted_attempt_is_voided(jobs: Jobs, cluster: KubernetesClient) -> None:
    plan = jobs.plan("exec sleep 300", num_nodes=2)
    handle = jobs.submit(plan)
    name = handle.split("/")[3]
    cluster.delete("batch/v1", "Job", jobs.namespace, f"{name}-1")
    eventually(lambda: cluster.get("batch/v1", "Job", jobs.namespace, f"{name}-1") is None)
    (Path(plan.directory) / "attempts" / "1" / "submitted").unlink()
    assert jobs.backend.recover(plan, 1) is None
    eventually(lambda: not cluster.objects("batch/v1", "Job", jobs.namespace, f"{ATTEMPT_LABEL}={name}"))
    jobs.handles.remove(handle)


# artifacts and volumes


def test_artifacts_of_a_pod_that_is_gone(jobs: Jobs, tmp_path: Path) -> None:
    plan = jobs.plan(
        'mkdir "$NEMO_RUN_ARTIFACTS/a b"; head -c 100000 /dev/urandom > "$NEMO_RUN_ARTIFACTS/a b/c"; exit 3'
    )
    handle = jobs.submit(plan)
    assert jobs.end(handle).exit_code == 3
    jobs.backend.fetch_artifacts(plan, handle, [], tmp_path / "out")
    assert (tmp_path / "out" / "a b" / "c").stat().st_size == 100_000


def test_artifacts_that_are_too_large_are_an_error(jobs: Jobs, tmp_path: Path) -> None:
    plan = jobs.plan('head -c 6000000 /dev/urandom > "$NEMO_RUN_ARTIFACTS/large"')
    handle = jobs.submit(plan)
    assert jobs.end(handle).exit_code == 0
    with pytest.raises(ExecutorError, match="workdir_pvc"):
        jobs.backend.fetch_artifacts(plan, handle, [], tmp_path / "out")


def test_a_volume_carries_what_is_large(jobs: Jobs, kubernetes_node: KubernetesCluster, tmp_path: Path) -> None:
    claim = "work-" + jobs.folder.parent.name[-8:].replace("_", "0").lower()
    volume = kubernetes_node.make_volume(jobs.namespace, claim)
    options = {"workdir_pvc": claim, "num_nodes": 2}
    plan = jobs.plan('head -c 6000000 /dev/zero > "$NEMO_RUN_ARTIFACTS/large-$NODE_RANK"; ls', **options)
    jobs.backend.preflight([plan])
    handle = jobs.submit(plan)
    assert jobs.end(handle).exit_code == 0
    jobs.backend.fetch_artifacts(plan, handle, [], tmp_path / "out")
    assert sorted((path.name, path.stat().st_size) for path in (tmp_path / "out").iterdir()) == [
        ("large-0", 6_000_000), ("large-1", 6_000_000),
    ]  # fmt: skip
    [package] = (volume / ".packages").iterdir()
    sent = package.stat().st_mtime_ns
    jobs.backend.preflight([plan])
    assert package.stat().st_mtime_ns == sent

    executor = KubernetesExecutor(image=IMAGE, namespace=jobs.namespace, workdir_pvc=claim)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("here")
    executor.copy_to_workspace(str(tmp_path / "data"), "data set")
    assert (volume / "data set" / "x").read_text() == "here"
    executor.copy_from_workspace("data set/x", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "here"


def test_what_a_node_starts_again_on_a_volume_does_not_run_again(
    jobs: Jobs, kubernetes_node: KubernetesCluster
) -> None:
    volume = kubernetes_node.make_volume(jobs.namespace, "once")
    plan = jobs.plan("echo ran >> /nemo_run/count", workdir_pvc="once")
    jobs.backend.preflight([plan])
    first = jobs.submit(plan)
    assert jobs.end(first).exit_code == 0
    shutil.rmtree(PodHandle.parse(first).folder)  # as if nobody knew of it
    eventually(lambda: jobs.cluster.get("batch/v1", "Job", jobs.namespace, f"{PodHandle.parse(first).name}-0") is None)
    again = jobs.submit(plan)
    assert jobs.end(again).exit_code == 125
    assert jobs.log(again) == "this attempt has run before, and does not run again\n"
    assert (volume / "count").read_text() == "ran\n"


# errors before anything is launched


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"namespace": "no-such-namespace"}, "no-such-namespace"),
        ({"context": "alice"}, 'User "alice" cannot create resource "jobs"'),
        ({"pod_labels": {"a": "b c"}}, "a valid label"),
        ({"volumes": [{"name": "v"}], "volume_mounts": [{"name": "v"}]}, "mountPath"),
    ],
)
def test_what_the_cluster_would_refuse_is_an_error_before(
    jobs: Jobs, cluster: KubernetesClient, options: dict[str, Any], words: str
) -> None:
    plan = jobs.plan("true", **options)
    backend = KubernetesBackend(**plan.connection)
    with pytest.raises(ExecutorError, match=f"(?s)job 'job-0'.*{words}"):
        backend.preflight([plan])
    backend.close()
    assert not cluster.objects("batch/v1", "Job", jobs.namespace)


def test_code_that_is_too_large_is_an_error_before(jobs: Jobs, tmp_path: Path) -> None:
    plan = jobs.plan("true")
    Path(plan.directory, "main.pkl").write_bytes(b"small")
    jobs.backend.preflight([plan])

    Path(plan.directory, "main.pkl").write_bytes(os.urandom(7 << 20))
    with pytest.raises(ExecutorError, match=r"too large .*job 7\.\d MiB.*workdir_pvc"):
        jobs.backend.preflight([plan])


def test_a_task_of_some_megabytes_goes_in_pieces(jobs: Jobs) -> None:
    plan = jobs.plan('od -An -tx1 -N4 -j2999996 "$1"; wc -c < "$1"', "/nemo_run/main.pkl")

    content = os.urandom(3_000_000)
    Path(plan.directory, "main.pkl").write_bytes(content)
    handle = jobs.submit(plan)
    jobs.end(handle)
    assert jobs.log(handle).split() == [*(f"{byte:02x}" for byte in content[-4:]), "3000000"]


def test_an_api_that_does_not_answer(jobs: Jobs, kubernetes_node: KubernetesCluster, tmp_path: Path) -> None:
    text = json.loads(kubernetes_node.kubeconfig.read_text())
    text["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "other").write_text(json.dumps(text))
    backend = KubernetesBackend(kubeconfig=str(tmp_path / "other"), context="admin")
    plan = jobs.plan("true")
    for ask in (
        lambda: backend.preflight([plan]),
        lambda: backend.start(plan, 1),
        lambda: backend.recover(plan, 1),
        lambda: backend.states([backend.expected_handle(plan, 1)]),
    ):
        with pytest.raises(EngineUnreachableError, match=r"127\.0\.0\.1:1 does not answer.*kubectl"):
            ask()
    backend.close()


def test_what_is_described_is_what_the_cluster_takes(jobs: Jobs, cluster: KubernetesClient) -> None:
    plan = jobs.plan(
        "echo 'a: b' # $HOME\n\techo next",
        num_nodes=2,
        env_vars={"A_TOKEN": "s3cr3t", "B": "x\n- y"},
        tolerations=[{"key": "k"}],
    )
    documents = list(yaml.safe_load_all(jobs.backend.describe(plan)))
    assert [document["kind"] for document in documents] == ["Secret", "Job", "Service"]
    for document in documents[1:]:
        cluster.create_dry_run(document)
