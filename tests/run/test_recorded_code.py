"""Recording code is best effort: a launch never depends on what is merely near, nor does it fill the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

LAUNCH = """
import nemo_run as run
from pkg.tasks import work
if __name__ == "__main__":
    run.run(run.Partial(work), executor=run.LocalExecutor(), name="w", check=True)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A launching script that imports a package and a module beside it."""
    top = tmp_path / "project"
    (top / "pkg").mkdir(parents=True)
    (top / "pkg/__init__.py").touch()
    (top / "pkg/tasks.py").write_text("import beside\ndef work():\n    print('worked')\n")
    (top / "beside.py").touch()
    (top / "launch.py").write_text(LAUNCH)
    return top


def git(project: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=project, check=True)


def commit(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "1")


def launch(project: Path, python: str = sys.executable, **env: str) -> str:
    home = project.parent / "home"
    done = subprocess.run(
        [python, "launch.py"], cwd=project, env={**os.environ, "NEMORUN_HOME": str(home), **env},
        capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "worked" in done.stdout + done.stderr
    return done.stdout + done.stderr


def recorded(project: Path) -> list[dict]:
    (file,) = (project.parent / "home").rglob("provenance.json")
    return [entry for entry in json.loads(file.read_text())["code"] if entry["root"] == str(project)]


def test_only_regular_files_are_code(project):
    for folder in (project, project / "pkg"):
        (folder / ".#tasks.py").symlink_to("user@host.1234:1700000000")
        (folder / "old.py").symlink_to("gone.py")
        (folder / "folder.py").mkdir()
        os.mkfifo(folder / "pipe.py")
    launch(project)
    (entry,) = recorded(project)
    assert entry["kind"] == "files"


def test_without_git_the_files_are_recorded_and_a_note_says_so(project, tmp_path):
    commit(project)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "env", "uname"):
        (programs / name).symlink_to(f"/bin/{name}")
    said = launch(project, PATH=str(programs))
    assert said.count("the commit of the code is not recorded") == 1
    assert [entry["kind"] for entry in recorded(project)] == ["files"]


@pytest.mark.needs("root")
def test_a_checkout_of_another_user_is_no_obstacle(project):
    commit(project)
    for path in (project, *project.rglob("*")):
        os.chown(path, 12345, 12345)
    said = launch(project, SUDO_UID="", GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_SYSTEM=os.devnull)
    assert said.count("the commit of the code is not recorded") == 1
    assert [entry["kind"] for entry in recorded(project)] == ["files"]


def test_untracked_files_have_a_limit_in_total_and_the_note_says_what_was_left_out(project):
    commit(project)
    (project / "new.py").write_text("small = True\n")
    (project / "images").mkdir()
    for number in range(12):
        (project / f"images/{number:02}.jpg").write_bytes(os.urandom(900_000))
    said = launch(project)
    assert "7 untracked files (6 MB) are not recorded with the code, as all together are over 5 MB" in said
    (entry,) = recorded(project)
    assert entry["omitted"] == [f"images/{number:02}.jpg" for number in range(5, 12)]
    (patch,) = (project.parent / "home").rglob("*.patch")
    assert patch.stat().st_size < 8 << 20
    assert b"small = True" in patch.read_bytes()


def test_what_is_installed_inside_of_the_project_is_no_code_of_it(project):
    venv.create(project / ".venv", symlinks=True)
    (site,) = (project / ".venv").glob("lib/python*/site-packages")
    (site / "near.pth").write_text("\n".join(path for path in sys.path if Path(path).is_dir()))
    (site / "library").mkdir()
    (site / "library/__init__.py").touch()
    (project / "beside.py").write_text("import library")
    launch(project, python=str(project / ".venv/bin/python"))
    (entry,) = recorded(project)
    (archive,) = (project.parent / "home").rglob(entry["archive"])
    with tarfile.open(archive) as kept:
        assert sorted(kept.getnames()) == ["beside.py", "launch.py", "pkg/__init__.py", "pkg/tasks.py"]


def test_packages_that_pip_installed_for_the_user_are_no_code(project, tmp_path):
    site = tmp_path / "user/lib/python3/site-packages"
    (site / "library").mkdir(parents=True)
    (site / "library/__init__.py").touch()
    (project / "beside.py").write_text("import library")
    launch(project, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    (file,) = (project.parent / "home").rglob("provenance.json")
    roots = [entry["root"] for entry in json.loads(file.read_text())["code"]]
    assert str(project) in roots
    assert str(site) not in roots
