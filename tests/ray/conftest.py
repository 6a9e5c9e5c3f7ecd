from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_run import LocalExecutor
from nemo_run.run.ray import RayCluster
from tests.ray.clusters import processes_of


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of all tests here: starting Ray takes so long that they share a cluster."""
    return tmp_path_factory.mktemp("ray") / "home"


@pytest.fixture(autouse=True)
def nemorun_home(ray_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEMORUN_HOME", str(ray_home))
    return ray_home


@pytest.fixture(scope="session")
def running_cluster(ray_home: Path) -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMORUN_HOME", str(ray_home))
        cluster = RayCluster("shared", LocalExecutor(nodes=2))
        try:
            cluster.start(timeout=240)
            yield cluster
        finally:
            cluster.stop()
        stored = cluster.stored()
        assert stored is not None
        assert processes_of(stored.record) == {}


@pytest.fixture
def cluster(running_cluster: RayCluster) -> RayCluster:
    """A cluster with two nodes on this machine."""
    return running_cluster


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with code, part of which git ignores."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hello.txt").write_text("hello\n")
    (folder / ".gitignore").write_text("*.ckpt\n")
    (folder / "large.ckpt").write_text("weights")
    return folder
