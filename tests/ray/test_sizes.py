"""How large a cluster on this machine is: what the executor says is told to Ray, and divided among the nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.errors import ExecutorError
from nemo_run.run.ray import RayCluster, RayJob
from tests.ray.clusters import processes_of, record_of
from tests.support import eventually

pytestmark = pytest.mark.needs("ray")

MEBIBYTE = 1 << 20
NODES = """
import json, ray, sys
ray.init(log_to_driver=False, logging_level="ERROR")
json.dump([node["Resources"] for node in ray.nodes()], open(sys.argv[1], "w"))
"""


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """A cluster of two nodes, started where the folder for temporary files has a long name."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)  # it is found again
    cluster = RayCluster("measured", LocalExecutor(nodes=2, memory="8G"))
    cluster.start(timeout=240, resources={"slot": 3}, object_store_memory="400M")
    yield cluster
    cluster.stop()
    assert processes_of(record_of(cluster)) == {}


def test_sizes_are_divided_among_the_nodes(measured: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "nodes.py").write_text(NODES)
    out = tmp_path / "out.json"
    job = RayJob("sizes", LocalExecutor(), cluster_name="measured")
    job.start(f"python nodes.py {out}", str(tmp_path / "code"), entrypoint_resources={"slot": 2}).wait()
    found = json.loads(out.read_text())
    assert sorted(node["slot"] for node in found) == [1, 2]
    assert [round(node["object_store_memory"] / MEBIBYTE) for node in found] == [200, 200]
    assert [round(node["memory"] / MEBIBYTE) for node in found] == [3896, 3896]


def test_a_cluster_on_which_nothing_runs_ends_by_itself() -> None:
    cluster = RayCluster("idle", LocalExecutor())
    cluster.start(wait_until_ready=False, idle_timeout=1)
    eventually(lambda: cluster.status(display=False)["state"] == "stopped", "it has ended by itself", within=240)
    assert cluster.status(display=False)["reason"] == "nothing has run on it for 1 s"
    assert processes_of(record_of(cluster)) == {}


def test_ray_counts_in_whole_numbers() -> None:
    with pytest.raises(ExecutorError, match=r"resources\['half'\]=0\.5: Ray counts in whole numbers"):
        RayCluster("measured", LocalExecutor()).start(dryrun=True, resources={"half": 0.5})  # type: ignore[dict-item]


def test_engines_with_another_way_for_sizes_say_so() -> None:
    from nemo_run.core.execution.kuberay import KubeRayExecutor

    with pytest.raises(ExecutorError, match="not for this engine; give them in ray_head_start_params"):
        RayCluster("measured", KubeRayExecutor()).start(dryrun=True, resources={"slot": 1})
