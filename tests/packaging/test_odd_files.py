"""Folders hold more than files, patterns have typing errors, and what is wanted may be in a submodule."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nemo_run as run
from nemo_run.errors import PackagingError
from tests.packaging.conftest import Repo, content_of


def packed(packager: run.Packager, folder: Path, tmp_path: Path) -> dict[str, str]:
    return content_of(packager.package(folder, str(tmp_path / "out"), "code"))


# ---------------------------------------------------------------- what is no file
@pytest.mark.parametrize(
    "options",
    [
        {"include_pattern": "out", "relative_path": "."},
        {"include_pattern": "out/*", "relative_path": "."},
        {"include_pattern": ["out/control", "out/a.txt"], "relative_path": "."},
        {"include": ["out/*"]},
        {"include": ["*"]},
    ],
)
def test_a_pipe_is_passed_over(options, tmp_path):
    top = tmp_path / "top"
    (top / "out").mkdir(parents=True)
    (top / "out/a.txt").write_text("1")
    os.mkfifo(top / "out/control")
    code = (
        "import sys, nemo_run as run\n"
        f"print(run.PatternPackager(**{options!r}).package(__import__('pathlib').Path.cwd(), sys.argv[1], 'code'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "package")], cwd=top, check=True, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert content_of(done.stdout.strip()) == {"out/a.txt": "1"}


def test_a_pattern_that_only_a_pipe_matches_matches_no_file(tmp_path):
    os.mkfifo(tmp_path / "control")
    with pytest.raises(PackagingError, match="'control' matches no file"):
        packed(run.PatternPackager(include_pattern="control", relative_path=str(tmp_path)), tmp_path, tmp_path)


# ---------------------------------------------------------------- patterns
@pytest.mark.parametrize("pattern", ["confgs/a.yaml", "confgs/**/*.yaml", "configs/b/c/*.yaml", "/confgs/a.yaml"])
def test_a_typing_error_is_named_as_it_was_written(pattern, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/a.yaml").touch()
    with pytest.raises(PackagingError, match=f"pattern '{pattern}' matches no file".replace("*", r"\*")):
        packed(run.PatternPackager(include=[pattern]), tmp_path, tmp_path)


@pytest.mark.parametrize("patterns", [["data/*", "cache/*"], ["cache/*", "data/*"], "data/* cache/*"])
def test_one_of_several_patterns_may_match_nothing_yet(patterns, repo: Repo, tmp_path, monkeypatch, caplog):
    repo.commit({"code.py": ""})
    repo.write_all({"data/a.jsonl": "{}"})
    monkeypatch.chdir(repo.path)
    git = run.GitArchivePackager(include_pattern=patterns, include_pattern_relative_path=".")
    assert packed(git, repo.path, tmp_path).keys() >= {"code.py", "data/a.jsonl"}
    assert "pattern 'cache/*' matches no file" in caplog.text
    plain = run.PatternPackager(include_pattern=patterns, relative_path=".")
    assert packed(plain, repo.path, tmp_path / "plain") == {"data/a.jsonl": "{}"}


# ---------------------------------------------------------------- times
@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Etc/GMT+12", "Pacific/Kiritimati", "UTC"])
def test_packaged_files_can_be_zipped_in_every_time_zone(zone, repo: Repo, tmp_path, monkeypatch):
    repo.commit({"code.py": "x = 1"})
    for number, packager in enumerate((run.GitArchivePackager(), run.PatternPackager(include=["*.py"]))):
        archive = packager.package(repo.path, str(tmp_path / f"out{number}"), "code")
        (tmp_path / f"code{number}").mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", tmp_path / f"code{number}"], check=True)
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", zone)
            time.tzset()
            for number in range(2):
                shutil.make_archive(str(tmp_path / f"zipped{number}"), "zip", tmp_path / f"code{number}")
    finally:
        time.tzset()


# ---------------------------------------------------------------- submodules
@pytest.fixture
def outer(repo: Repo, make_repo: Callable[..., Repo]) -> Repo:
    """A repository with a submodule that has a submodule."""
    inner, deep = make_repo("inner"), make_repo("deep")
    deep.commit({"pkg/deep.py": "deep"})
    inner.commit({"src/lib.py": "lib", "top.py": "top"})
    inner.git("submodule", "--quiet", "add", str(deep.path), "deps/deep")
    inner.commit()
    repo.commit({"app/a.py": "a"})
    repo.git("submodule", "--quiet", "add", str(inner.path), "third_party/lib")
    repo.git("submodule", "--quiet", "update", "--init", "--recursive")
    repo.commit()
    return repo


@pytest.mark.parametrize("uncommitted", [False, True])
@pytest.mark.parametrize(
    ("subpath", "names"),
    [
        ("third_party/lib", {"src/lib.py", "top.py", "deps/deep/pkg/deep.py"}),
        ("third_party/lib/src", {"lib.py"}),
        ("third_party/lib/deps/deep", {"pkg/deep.py"}),
        ("third_party/lib/deps/deep/pkg", {"deep.py"}),
        ("third_party", {"lib/src/lib.py", "lib/top.py", "lib/deps/deep/pkg/deep.py"}),
        ("app", {"a.py"}),
    ],
)
def test_a_subpath_may_be_or_lie_in_a_submodule(subpath, names, uncommitted, outer: Repo, tmp_path):
    packager = run.GitArchivePackager(subpath=subpath, include_uncommitted=uncommitted)
    found = {name for name in packed(packager, outer.path, tmp_path) if not name.endswith((".gitmodules", "/"))}
    assert found == names


def test_a_subpath_in_a_submodule_that_is_not_there_is_an_error(outer: Repo, tmp_path):
    with pytest.raises(PackagingError, match="there is no folder 'scr'"):
        packed(run.GitArchivePackager(subpath="third_party/lib/scr"), outer.path, tmp_path)
    outer.git("submodule", "--quiet", "deinit", "-f", "third_party/lib")
    with pytest.raises(PackagingError, match="git submodule update --init third_party/lib"):
        packed(run.GitArchivePackager(subpath="third_party/lib/src"), outer.path, tmp_path)


def test_a_repository_without_a_commit_is_told_as_such(make_repo: Callable[..., Repo], tmp_path):
    repo = make_repo("empty").write_all({"a.py": "a"})
    with pytest.raises(PackagingError, match=r"has no commit yet: make the first one, or .*include_uncommitted=True"):
        packed(run.GitArchivePackager(), repo.path, tmp_path)
    assert packed(run.GitArchivePackager(include_uncommitted=True), repo.path, tmp_path) == {"a.py": "a"}
