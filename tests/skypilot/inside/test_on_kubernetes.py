"""SkyPilot's API server and optimiser on a real Kubernetes API, which has nodes on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nemo_run as run
from nemo_run.errors import ExecutorError
from tests.services.kubernetes import KubernetesCluster
from tests.services.skypilot import ApiServer
from tests.skypilot.inside.conftest import client_of
from tests.support import work as work  # noqa: PLC0414

pytestmark = pytest.mark.needs("kubernetes api", "kubernetes for SkyPilot")


@pytest.fixture(scope="module", autouse=True)
def _skypilot() -> Iterator[None]:
    cluster = KubernetesCluster()
    try:
        cluster.start()
        for name, gpu in (("big", "h100"), ("small", "")):
            _add_node(cluster, name, gpu)
        with client_of(ApiServer(kubeconfig=str(cluster.kubeconfig))):
            yield
    finally:
        cluster.stop()


def _add_node(cluster: KubernetesCluster, name: str, gpu: str) -> None:
    size = {"cpu": "32", "memory": "256Gi", "pods": "110", **({"nvidia.com/gpu": "8"} if gpu else {})}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "on paper"}
    labels = {"kubernetes.io/hostname": name, **({"skypilot.co/accelerator": gpu} if gpu else {})}
    core = cluster.core()
    core.create_node({"metadata": {"name": name, "labels": labels}})
    core.patch_node_status(name, {"status": {"capacity": size, "allocatable": size, "conditions": [ready]}})


def make(cls: Any = run.SkypilotExecutor, **options: Any) -> Any:
    return cls(packager=run.Packager(), **{"infra": "k8s", **options})


def dry_run(executor: Any, capsys: pytest.CaptureFixture[str]) -> str:
    exp = run.Experiment("exp", executor=executor)
    exp.add(run.Script(inline="echo hello"), name="job")
    exp.dryrun()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"cpus": "4+"}, "4"),
        ({"gpus": "H100", "gpus_per_node": 8}, "H100:8"),
        ({"gpus": ["A100", "H100"], "gpus_per_node": 2}, "H100:2"),
        ({"infra": None, "cloud": ["none", "kubernetes"], "cpus": [64, 2]}, "2"),
        ({"infra": None, "cpus": 2}, "2"),
    ],
)
@pytest.mark.parametrize("cls", [run.SkypilotExecutor, run.SkypilotJobsExecutor])
def test_a_dry_run_shows_the_choice_and_its_price(
    cls: Any, options: dict[str, Any], chosen: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = dry_run(make(cls, **options), capsys).splitlines()
    choices = [line for line in lines if "✔" in line]
    assert len(choices) == 1, lines
    choice = choices[0]
    assert "Kubernetes" in choice
    assert chosen in choice.split()
    assert "0.00" in choice.split()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gpus": "A100", "gpus_per_node": 8}, "A100"),
        ({"gpus": "H100", "gpus_per_node": 16}, "H100"),
        ({"cpus": 64}, "64"),
        ({"memory": "999+"}, "999"),
        ({"infra": "k8s/elsewhere"}, "elsewhere"),
        ({"infra": "aws"}, "(?i)aws"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_starts(
    options: dict[str, Any], reason: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "SkyPilot refuses" in dry_run(make(**options), capsys)
    exp = run.Experiment("exp", executor=make(**options))
    exp.add(run.Script(inline="true"), name="job")
    with pytest.raises(ExecutorError, match=f"SkyPilot refuses.*{reason}" if "?" not in reason else reason):
        exp.run()
