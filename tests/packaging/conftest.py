"""Real git repositories, and a way to look into packages."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest


class Repo:
    """A git repository to build a test on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *args: str) -> str:
        done = subprocess.run(["git", *args], cwd=self.path, check=True, capture_output=True)
        return os.fsdecode(done.stdout).strip()

    def write(self, **files: str | bytes) -> Repo:
        return self.write_all(files)

    def write_all(self, files: dict[str, str | bytes]) -> Repo:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def commit(self, files: dict[str, str | bytes] | None = None) -> str:
        self.write_all(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """git as it is without the settings of this machine."""
    for key, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@localhost",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@localhost",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "always",
    }.items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[..., Repo]:
    def make(name: str = "repo") -> Repo:
        return Repo(tmp_path / name)

    return make


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    made = make_repo()
    made.commit({"a.py": "a", "src/b.py": "b", ".gitignore": "*.log\nout/\n"})
    return made


def content_of(archive: str | Path) -> dict[str, str]:
    """Files by name, with their text; links with an arrow; folders end in a slash."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            if member.issym():
                found[member.name] = "-> " + member.linkname
            elif member.isdir():
                found[member.name + "/"] = ""
            else:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read().decode(errors="surrogateescape")
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is in a folder, ``.git`` included: mode, time and content. Git renews the time of an object it meets."""
    objects = folder / ".git" / "objects"
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns if objects not in path.parents else 0,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }
