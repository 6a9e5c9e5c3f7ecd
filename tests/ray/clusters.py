"""What the tests of Ray have in common."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from nemo_run.core.execution.local import supervisor
from nemo_run.run.ray import RayCluster
from tests.support import eventually


def processes_of(record: dict[str, Any]) -> dict[int, str]:
    """Living processes of a local cluster: by the mark of its supervisor, and by the folder that Ray works in."""
    marked = supervisor.members(record["handle"].removeprefix("local://"))
    found = dict.fromkeys(marked, "marked")
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and record["temp_dir"].encode() in (path / "cmdline").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
    return found


def record_of(cluster: RayCluster) -> dict[str, Any]:
    """What is remembered of a cluster."""
    stored = cluster.stored()
    assert stored is not None
    return stored.record


def ask(cluster: RayCluster, path: str, port: int = 0) -> Any:
    """What the REST API of a local cluster says to who has the token; through a forwarded port, or directly."""
    status = cluster.status(display=False)
    base = f"http://127.0.0.1:{port}" if port else status["dashboard"]
    headers = {"Authorization": f"Bearer {Path(status['token_file']).read_text()}"}
    with urllib.request.urlopen(urllib.request.Request(f"{base}{path}", headers=headers)) as answer:
        return json.load(answer)


def wait_for(path: Path) -> None:
    """Wait for a file that a job writes."""
    eventually(path.exists, f"{path} is there")


def shell_waits_for(path: Path) -> str:
    """A shell command that waits for a file."""
    return f"until [ -e {path} ]; do sleep 0.05; done"
