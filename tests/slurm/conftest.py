from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("nemo_run.testing")

from nemo_run.core.execution.base import Command, TaskRequest  # noqa: E402
from nemo_run.core.execution.slurm import SlurmExecutor  # noqa: E402
from nemo_run.core.execution.slurm.backend import SlurmBackend  # noqa: E402
from nemo_run.core.packaging.base import Packager  # noqa: E402
from nemo_run.core.tunnel.client import LocalTunnel, SSHTunnel  # noqa: E402
from tests.services.slurm import USER, SlurmCluster  # noqa: E402
from tests.services.sshd import Sshd  # noqa: E402


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def overtime(running_cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[SlurmBackend, str]:
    """A job that will reach its time limit, of which Slurm's shortest is a minute: it is started early."""
    folder = tmp_path_factory.mktemp("overtime") / "e" / "late"
    folder.mkdir(parents=True)
    executor = SlurmExecutor(time="00:01:00", packager=Packager(), mem="100M")
    executor.assign("e", str(folder.parent), "late", "late")
    backend = SlurmBackend(executor.tunnel.connection())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(running_cluster.configuration))
        plan = backend.render([TaskRequest("e", "late", str(folder), executor, Command(("sleep", "600")), cwd="/")])[0]
        return backend, backend.start(plan, 1)


@pytest.fixture(autouse=True)
def _overtime(overtime: tuple[SlurmBackend, str]) -> None:
    """Start it with the first test."""


@pytest.fixture(scope="session")
def running_login(running_cluster: SlurmCluster) -> Iterator[Sshd]:
    server = Sshd((USER,), {"SLURM_CONF": str(running_cluster.configuration)})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cluster(running_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """The cluster, to be used from this machine."""
    monkeypatch.setenv("SLURM_CONF", str(running_cluster.configuration))
    return running_cluster


@pytest.fixture
def login(running_login: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """The login host of the cluster."""
    for name, value in running_login.client_environment().items():
        monkeypatch.setenv(name, value)
    return running_login


@pytest.fixture
def jobs_folder() -> Iterator[Path]:
    """A folder of the ordinary user."""
    folder = Path(tempfile.mkdtemp(prefix="nr-jobs-"))
    shutil.chown(folder, USER)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def remote(cluster: SlurmCluster, login: Sshd, jobs_folder: Path) -> SSHTunnel:
    """The way to the cluster, as an ordinary user."""
    return SSHTunnel(host="cluster", user=USER, job_dir=f"{jobs_folder}/it's here")


@pytest.fixture
def here(cluster: SlurmCluster) -> LocalTunnel:
    """The cluster that this machine is part of."""
    return LocalTunnel(job_dir="")


@pytest.fixture
def executor(remote: SSHTunnel) -> SlurmExecutor:
    return SlurmExecutor(tunnel=remote, packager=Packager(), mem="100M", wait_time_for_group_job=0)


@pytest.fixture
def image(cluster: SlurmCluster) -> str:
    """An image with variables of its own; its programs are those below /usr, which has to be mounted."""
    folder = cluster.folder / "images" / "pytorch"
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    (folder / "etc" / "environment").write_text("OF_IMAGE=image\nOF_BOTH=image\nLISTED=image\n")
    for name in ("bin", "lib", "lib64"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"usr/{name}")
    return folder.name
