"""Experiments with TrainJobs on a real cluster with a real node, and a small Trainer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.core.execution.base import JobState
from nemo_run.core.execution.kubeflow import KubeflowExecutor
from nemo_run.core.execution.kubeflow.standalone import KubeflowJobState
from nemo_run.core.execution.pods.client import KubernetesClient
from tests import kinds_of_artifacts
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import eventually

pytestmark = pytest.mark.needs("kubernetes node")


@pytest.fixture
def make(namespace: str) -> Any:
    def make(**options: Any) -> KubeflowExecutor:
        return KubeflowExecutor(**{"image": IMAGE, "namespace": namespace, "grace": 2, **options})

    return make


def log_of(exp: run.Experiment, capfdbinary: pytest.CaptureFixture[bytes]) -> list[str]:
    capfdbinary.readouterr()
    exp.logs("job0", follow=False)
    return [re.sub(r"^.*?/\d+ ", "", line) for line in capfdbinary.readouterr().out.decode().splitlines()]


def test_nodes_are_told_of_each_other_and_the_one_that_failed_is_named(
    make: Any, work: Path, capfdbinary: pytest.CaptureFixture[bytes], plain_cluster: KubernetesClient, namespace: str
) -> None:
    script = 'echo "$NODE_RANK of $NNODES"; test "$MASTER_ADDR" = "$PET_MASTER_ADDR" || exit 9; exit $NODE_RANK'
    with run.Experiment("exp", executor=make(num_nodes=2, env_vars={"A_TOKEN": "x"}), clean_mode=True) as exp:
        exp.add(run.Script(inline=script), name="job0")
        exp.run()
    result = exp.results()["job0"]
    assert (result.state, result.exit_code) == (JobState.FAILED, 1)
    assert result.reason.startswith("node 1")
    assert sorted(line[-6:] for line in log_of(exp, capfdbinary)) == ["0 of 2", "1 of 2"]
    assert not plain_cluster.objects("trainer.kubeflow.org/v1alpha1", "TrainJob", namespace)  # its log is here
    eventually(lambda: not [s for s in plain_cluster.objects("v1", "Secret", namespace) if "A_TOKEN" in s["data"]])


def test_a_pod_that_no_node_takes_waits_and_says_why(make: Any, work: Path) -> None:
    with run.Experiment("exp", executor=make(cpu_requests="4000"), clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="job0")
        exp.run(detach=True)
    eventually(lambda: "unschedulable" in exp.results()["job0"].reason.lower())
    assert exp.results()["job0"].state is JobState.PENDING
    exp.cancel("job0")
    exp.wait()
    assert exp.results()["job0"].state is JobState.CANCELLED


def test_an_image_that_cannot_be_had_fails_in_the_end(make: Any, work: Path) -> None:
    with run.Experiment("exp", executor=make(image="no.such/image:1", start_timeout=1), clean_mode=True) as exp:
        exp.add(run.Script(inline="true"), name="job0")
        exp.run()
    assert "cannot be pulled" in exp.results()["job0"].reason


def test_files_travel_by_a_volume(make: Any, kubernetes_node: KubernetesCluster, namespace: str, work: Path) -> None:
    volume = kubernetes_node.make_volume(namespace, "work")
    (work / "extra").mkdir()
    (work / "extra" / "word").write_text("from here")
    executor = make(workdir_pvc="work", data_mover_image=IMAGE, workdir_local_path=str(work / "extra"))
    with run.Experiment("exp", executor=executor, clean_mode=True) as exp:
        exp.add(run.Script(inline='find /nemo_run -name word -exec cp {} "$NEMO_RUN_ARTIFACTS" ";"'), name="job0")
        exp.run()
    assert [artifact.path for artifact in exp.artifacts("job0")] == ["word"]
    assert len(list(volume.rglob("code/word"))) == 1
    executor.copy_to_workspace(str(work / "extra"), "elsewhere")
    executor.copy_from_workspace("elsewhere", str(work / "back"))
    assert (work / "back" / "word").read_text() == "from here"


def test_train_jobs_without_an_experiment(make: Any, work: Path) -> None:
    executor = make(env_vars={"WORD": "hello"})
    name, state = executor.launch("Own Job", ["sh", "-c", "echo $WORD; sleep 1"], wait=True, poll_interval=1)
    assert name == "own-job"
    assert state in (KubeflowJobState.RUNNING, KubeflowJobState.SUCCEEDED)
    assert list(executor.fetch_logs(name, stream=True)) == ["hello"]
    assert executor.status(name) is KubeflowJobState.SUCCEEDED
    assert executor.cancel(name, wait=True, poll_interval=1) is True
    assert executor.status(name) is None
    assert executor.cancel(name) is None


@pytest.mark.parametrize("on_volume", [False, True])
def test_all_kinds_of_artifacts(
    on_volume: bool, make: Any, kubernetes_node: KubernetesCluster, namespace: str, work: Path
) -> None:
    options = {}
    if on_volume:
        kubernetes_node.make_volume(namespace, "kinds")
        options = {"workdir_pvc": "kinds", "data_mover_image": IMAGE}
    with run.Experiment("kinds", executor=make(**options), clean_mode=True) as exp:
        exp.add(kinds_of_artifacts.leaving_everything(), name="job0")
        exp.run()
    kinds_of_artifacts.check(exp, "job0", as_root=True)


def test_what_a_function_returns_comes_back_without_a_volume(make: Any, work: Path) -> None:
    with run.Experiment("value", executor=make(num_nodes=2), clean_mode=True) as exp:
        exp.add(run.Partial(divmod, 7, 2), name="job0")
        exp.run()
    assert exp.results()["job0"].state is JobState.SUCCEEDED, exp.results()["job0"].reason
    assert exp.result("job0") == (3, 1)
