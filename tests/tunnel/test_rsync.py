"""Folders are copied with rsync, as existing code does it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_run.core.tunnel.client import SSHTunnel
from nemo_run.core.tunnel.rsync import rsync
from nemo_run.errors import CommandError

pytestmark = pytest.mark.needs("sshd", "rsync")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here" / "sub dir").mkdir(parents=True)
    for name in ("a.txt", "b.log", "sub dir/c.txt"):
        (tmp_path / "here" / name).write_text(name)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["tunnel", "connection"])
def test_a_folder_is_copied(ssh: SSHTunnel, folder: Path, kind: str) -> None:
    other = SimpleNamespace(host=ssh.host, user=ssh.user, port=ssh.port, connect_kwargs={})
    there = folder / "it's there" / "deep"
    rsync(ssh if kind == "tunnel" else other, f"{folder}/here", str(there), exclude="*.log")
    assert files(there) == {"here/a.txt", "here/sub dir/c.txt"}
    (folder / "here" / "a.txt").unlink()
    rsync(ssh, f"{folder}/here/", str(there / "here"), exclude=["*.log", "nothing"], delete=True)
    assert files(there) == {"here/sub dir/c.txt"}


def test_what_fails_says_why(ssh: SSHTunnel, folder: Path) -> None:
    with pytest.raises(CommandError, match=r"rsync to .*not-there.* failed") as raised:
        rsync(ssh, f"{folder}/not-there", str(folder / "x"), rsync_opts="--no-motd")
    assert raised.value.result.failed  # type: ignore[attr-defined]
