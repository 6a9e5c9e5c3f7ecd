"""DGX Cloud: with the pods of its workloads on a real Kubernetes cluster, whose API is asked for what they write."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.rest import RestClient
from nemo_run.run.experiment import Experiment
from nemo_run.testing import HOSTILE
from tests.dgxcloud import executors, server
from tests.dgxcloud.executors import make_executor
from tests.dgxcloud.pods import Network, Pod
from tests.services.kubernetes import IMAGE, KubernetesCluster
from tests.support import bash, eventually, states

pytestmark = pytest.mark.needs("kubernetes node")


class KubernetesPod(Pod):
    """A pod of a real cluster."""

    def __init__(self, cluster: Server, name: str, folder: Path, ended: Callable[[], None]) -> None:
        super().__init__(name, folder, ended)
        self._core, self._namespace = cluster.core, cluster.namespace

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        volumes: Mapping[str, str],
        hosts: Sequence[str],
        network: Network | None = None,
    ) -> None:
        container = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": list(argv),
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "volumeMounts": [{"name": "volume", "mountPath": path} for path in volumes],
        }
        claim = {"name": "volume", "persistentVolumeClaim": {"claimName": server.CLAIM["claimName"]}}
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": [claim] if volumes else []}
        self._core.create_namespaced_pod(self._namespace, {"metadata": {"name": self.name}, "spec": spec})
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        while self.ended is None:
            try:
                status = self._core.read_namespaced_pod(self.name, self._namespace).status
            except (ApiException, HTTPError):  # it is gone, or the cluster is
                self.code, self.ended = 143, time.time()
                break
            for container in status.container_statuses or []:
                if container.state.running:
                    self.started = container.state.running.started_at.timestamp()
                if ended := container.state.terminated:
                    self.started = ended.started_at.timestamp()
                    self.code, self.ended = ended.exit_code, ended.finished_at.timestamp()
            time.sleep(0.1)
        self._on_end()

    def stop(self, grace: float) -> None:
        from kubernetes.client import ApiException

        with contextlib.suppress(ApiException):
            self._core.delete_namespaced_pod(self.name, self._namespace, grace_period_seconds=int(grace))
            while True:
                self._core.read_namespaced_pod(self.name, self._namespace)
                time.sleep(0.1)


class Server(server.Server):
    """The service, over a real cluster."""

    def __init__(self, cluster: KubernetesCluster, namespace: str) -> None:
        super().__init__()
        self.core, self.namespace = cluster.core(), namespace
        self.volume = cluster.make_volume(namespace, str(server.CLAIM["claimName"]))
        self._token = (cluster.folder / "tokens.csv").read_text().split(",")[0]

    def make_pod(self, name: str, ended: Callable[[], None]) -> Pod:
        return KubernetesPod(self, name, self.folder, ended)

    def new_token(self) -> str:
        return self._token


@pytest.fixture
def cloud(kubernetes_node: KubernetesCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(kubernetes_node.folder / "ca.crt"))
    with kubernetes_node.namespace() as namespace, Server(kubernetes_node, namespace) as cloud:
        executors.use(cloud)
        yield cloud


def options(cluster: KubernetesCluster) -> dict[str, Any]:
    import yaml

    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return {"kube_apiserver_url": config["clusters"][0]["cluster"]["server"]}


def test_values_logs_exit_codes_and_artifacts(
    cloud: Server, kubernetes_node: KubernetesCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {f"VALUE_{name.upper()}": value for name, value in HOSTILE.items()}
    values["EXPANDED"] = "$(VALUE_EMPTY) $$ $(HOME)"
    check = "import os; open(os.environ['NEMO_RUN_ARTIFACTS'] + '/values', 'w').write(repr(dict(os.environ)))"
    lines = "for i in 1 2 3; do echo line $i; sleep 0.3; done"
    script = f'python3 -c "{check}"; {lines}; head -c 30000 /dev/urandom > x; exit 7'
    with Experiment("kubernetes", executor=make_executor(env_vars=values, **options(kubernetes_node))) as experiment:
        experiment.add(bash(script), name="task", artifacts=["x"])
        experiment.run(tail_logs=True)
    assert states(experiment) == {"task": "FAILED"}
    assert experiment.status(return_dict=True)["task"]["exit_code"] == 7  # type: ignore[index]
    followed = capsys.readouterr().out
    assert [line for line in followed.splitlines() if "line" in line][-1:] == ["task/0 line 3"], followed
    files = {artifact.path: Path(artifact.file) for artifact in experiment.artifacts()}
    arrived = eval(files["values"].read_text())
    assert {name: arrived[name] for name in values} == values
    assert files["x"].stat().st_size == 30_000


def test_cancelling(cloud: Server, kubernetes_node: KubernetesCluster, capsys: pytest.CaptureFixture[str]) -> None:
    with Experiment("cancelled", executor=make_executor(**options(kubernetes_node))) as experiment:
        experiment.add(bash("trap 'echo cleaned; exit 0' TERM; echo begun; while :; do sleep 0.05; done"), name="task")
        experiment.run(detach=True)
        eventually(lambda: states(experiment) == {"task": "RUNNING"})
        eventually(lambda: b"begun" in b"".join(path.read_bytes() for path in cloud.volume.rglob("log")))
        experiment.cancel("task")
        eventually(lambda: states(experiment) == {"task": "CANCELLED"})
    capsys.readouterr()
    experiment.logs("task")
    assert capsys.readouterr().out.endswith("begun\ntask/0 cleaned\n")


def test_a_port_of_a_pod_is_reached_through_the_cluster(cloud: Server, kubernetes_node: KubernetesCluster) -> None:
    with Experiment("port", executor=make_executor(**options(kubernetes_node))) as experiment:
        experiment.add(bash("echo content > file; exec python3 -m http.server 8265"), name="task")
        experiment.run(detach=True)
        [workload] = eventually(lambda: [w for w in cloud.workloads.values() if w.pods and w.pods[0].started])
        with contextlib.closing(make_executor(**options(kubernetes_node)).backend()) as backend:
            url = backend.client.pod_proxy_url(cloud.namespace, workload.pods[0].name, 8265)
            client = RestClient(url, service="the pod", extra="dgxcloud", token=backend.client.token_source())
            with client.stream("/file") as pieces:
                assert b"".join(pieces) == b"content\n"
            client.close()
        experiment.cancel("task")
        eventually(lambda: states(experiment) == {"task": "CANCELLED"})
