from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemo_run.core.execution.lepton import LeptonExecutor
from nemo_run.core.packaging.base import Packager
from tests.services.lepton import Lepton
from tests.support import no_process_left as no_process_left, work as work


@pytest.fixture
def lepton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lepton]:
    """A workspace, which executors use by default; ``python3`` of its images is the one that runs the tests."""
    server = Lepton(tmp_path / "lepton", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


@pytest.fixture
def mount(lepton: Lepton) -> Path:
    """Where the mount of jobs lies."""
    folder = lepton.folder / "mnt"
    folder.mkdir()
    return folder


def executor_on(mount: Path, **options: Any) -> LeptonExecutor:
    """An executor with that mount."""
    given = {
        "container_image": "example.com/team/train:1",
        "nemo_run_dir": f"{mount}/nemo",
        "mounts": [{"path": "/", "mount_path": str(mount), "from": "node-nfs:shared"}],
        "packager": Packager(),
        "resource_shape": "cpu.large",
        "shared_memory_size": 1024,
    }
    return LeptonExecutor(**{**given, **options})
