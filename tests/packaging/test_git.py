"""GitArchivePackager, on real repositories."""

from __future__ import annotations

import logging
import multiprocessing
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_run.core.packaging import GitArchivePackager
from nemo_run.errors import PackagingError
from tests.packaging.conftest import Repo, content_of, names_in, state_of

pytestmark = pytest.mark.needs("git")

COMMITTED = {"a.py": "a", "src/b.py": "b", ".gitignore": "*.log\nout/\n"}


@pytest.fixture
def package(repo: Repo, tmp_path: Path) -> Callable[..., dict[str, str]]:
    def package(path: Path = repo.path, **options: object) -> dict[str, str]:
        job_dir = tmp_path / f"job{len(list(tmp_path.glob('job*')))}"
        return content_of(GitArchivePackager(**options).package(path, str(job_dir), "train"))

    return package


def test_packages_what_is_committed(package: Callable[..., dict[str, str]]) -> None:
    assert package() == COMMITTED


def test_the_archive_is_named_after_the_job_and_made_once(repo: Repo, tmp_path: Path) -> None:
    packager, job_dir = GitArchivePackager(), tmp_path / "job with spaces"
    archive = packager.package(repo.path, str(job_dir), "my task")
    assert archive == str(job_dir / "my task.tar.gz")
    repo.commit({"a.py": "changed"})
    assert packager.package(repo.path, str(job_dir), "my task") == archive
    assert content_of(archive) == COMMITTED
    assert names_in(job_dir) == ["my task.tar.gz"]
    with pytest.raises(PackagingError, match="cannot be the name"):
        packager.package(repo.path, str(job_dir), "../task")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"subpath": "src"}, {"b.py"}),
        ({"subpath": "./src/"}, {"b.py"}),
        ({"subpath": "."}, {"a.py", "src/b.py", ".gitignore"}),
        ({"ref": "v1"}, {"a.py", "src/b.py", ".gitignore"}),
        ({"ref": "v1", "subpath": "src"}, {"b.py"}),
    ],
)
def test_ref_and_subpath(
    package: Callable[..., dict[str, str]], repo: Repo, options: dict[str, str], names: set[str]
) -> None:
    repo.git("tag", "v1")
    if "ref" in options:
        repo.commit({"later.py": ""})
    assert set(package(**options)) == names


def test_any_folder_of_the_repository_will_do(
    package: Callable[..., dict[str, str]], repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert package(repo.path / "src") == COMMITTED
    assert package(tmp_path, basepath=str(repo.path / "src")) == COMMITTED
    monkeypatch.setenv("HOME", str(tmp_path))
    assert package(tmp_path, basepath="~/repo") == COMMITTED


def test_names_of_every_kind(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    names = [
        "with space",
        "new\nline",
        "ünïcode",
        "-dash",
        "--upload-pack=x",
        "quote'\"",
        "$(x)`y`",
        os.fsdecode(b"\xff"),
        "p/" * 90 + "deep",
        "n" * 200,
        "*",
        ":(top)",
    ]
    files: dict[str, str | bytes] = {name: name.encode(errors="surrogateescape") for name in names}
    repo.commit(files)
    untracked = {f"u/{name}": content for name, content in files.items()}
    repo.write_all(untracked)
    assert package(subpath="", include_uncommitted=True) == COMMITTED | {
        name: os.fsdecode(name[2:] if name.startswith("u/") else name) for name in files | untracked
    }
    assert package(ref="HEAD")["new\nline"] == "new\nline"


def test_modes_and_links_are_kept_and_nothing_leads_out(
    package: Callable[..., dict[str, str]], repo: Repo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (repo.path / "run.sh").touch(0o700)
    for link, target in {
        "inside": "src/b.py",
        "src/up": "../a.py",
        "src/out": "../../x",
        "abs": "/etc/passwd",
        "dir": "src",
        "dead": "none",
        "l" * 120: "t" * 150,
    }.items():
        (repo.path / link).symlink_to(target)
    repo.commit()
    archive = GitArchivePackager().package(repo.path, str(tmp_path / "links"), "x")
    found = content_of(archive)
    assert {name: text for name, text in found.items() if text.startswith("->")} == {
        "inside": "-> src/b.py",
        "src/up": "-> ../a.py",
        "dir": "-> src",
        "dead": "-> none",
        "l" * 120: "-> " + "t" * 150,
    }
    assert "2 symbolic link(s) lead out" in caplog.text
    assert "src/out" in caplog.text
    with tarfile.open(archive) as tar:
        assert {stat.filemode(member.mode)[1:] for member in tar if member.isfile()} == {"rwxr-xr-x", "rw-r--r--"}


def test_export_ignore_at_the_top_counts_below_a_subpath(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    repo.commit({".gitattributes": "*.bin export-ignore\n", "src/big.bin": "x"})
    assert set(package(subpath="src")) == {"b.py"}


# ---------------------------------------------------------------- reproducible, and harmless


def test_line_ends_are_those_of_the_repository(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    repo.commit({"run.sh": "1\n2\n", ".gitattributes": "*.bat eol=crlf\n", "run.bat": "1\r\n"})
    repo.git("config", "core.autocrlf", "true")
    repo.write_all({"a.py": "1\r\n"})
    found = package(include_uncommitted=True)
    assert (found["run.sh"], found["a.py"], found["run.bat"]) == ("1\n2\n", "1\n", "1\r\n")


def test_same_tree_same_bytes(repo: Repo, make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    other = make_repo("other")
    other.commit({"unrelated": ""})
    (other.path / "unrelated").unlink()
    other.commit(dict(COMMITTED))
    os.utime(other.path / "a.py", (1, 1))
    (other.path / "a.py").chmod(0o600)
    archives = [
        Path(GitArchivePackager(**options).package(where.path, str(tmp_path / f"out{number}"), name)).read_bytes()
        for number, (where, name, options) in enumerate(
            [(repo, "x", {}), (other, "y", {}), (other, "z", {"include_uncommitted": True})]
        )
    ]
    assert archives[0] == archives[1] == archives[2]


@pytest.mark.parametrize("include_uncommitted", [False, True])
def test_the_checkout_is_left_exactly_as_it_was(repo: Repo, tmp_path: Path, include_uncommitted: bool) -> None:
    repo.write_all({"a.py": "changed", "new.py": "new"})
    repo.git("add", "new.py")
    before = state_of(repo.path)
    GitArchivePackager(include_uncommitted=include_uncommitted, include_pattern=str(repo.path / "src")).package(
        repo.path, str(tmp_path / "job"), "x"
    )
    assert state_of(repo.path) == before


def _launch(repo: Path, job_dir: Path) -> None:
    GitArchivePackager(include_uncommitted=True).package(repo, str(job_dir), "x")


def test_several_launches_at_once_from_one_checkout(repo: Repo, tmp_path: Path) -> None:
    repo.write_all({f"f{number}.py": str(number) for number in range(50)})
    context = multiprocessing.get_context("spawn")
    launches = [context.Process(target=_launch, args=(repo.path, tmp_path / f"job{number % 3}")) for number in range(6)]
    for launch in launches:
        launch.start()
    for launch in launches:
        launch.join()
    assert [launch.exitcode for launch in launches] == [0] * 6
    archives = {(tmp_path / f"job{number}" / "x.tar.gz").read_bytes() for number in range(3)}
    assert len(archives) == 1
    assert all(names_in(tmp_path / f"job{number}") == ["x.tar.gz"] for number in range(3))
    assert len(content_of(tmp_path / "job0" / "x.tar.gz")) == 53


def test_the_job_folder_may_be_in_the_checkout(repo: Repo) -> None:
    archive = GitArchivePackager(include_uncommitted=True).package(repo.path, str(repo.path / "jobs"), "x")
    assert content_of(archive) == COMMITTED


def test_a_git_hook_does_not_lead_astray(
    package: Callable[..., dict[str, str]], make_repo: Callable[..., Repo], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repo("other")
    other.commit({"wrong.py": ""})
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git" / "index"))
    assert package() == COMMITTED
    assert package(include_uncommitted=True) == COMMITTED


# ---------------------------------------------------------------- uncommitted and untracked


def _dirty(repo: Repo) -> None:
    repo.commit({"gone.py": "gone", "d/x": "x", "staged_then_gone.py": "1", "kind": "file"})
    repo.write_all({"a.py": "changed", "new dir/new.py": "new", "noise.log": "ignored", "out/x": "ignored"})
    (repo.path / "gone.py").unlink()
    repo.write_all({"staged.py": "staged", "staged_then_gone.py": "2"})
    repo.git("add", "staged.py", "staged_then_gone.py")
    repo.write_all({"staged.py": "staged and changed"})
    (repo.path / "staged_then_gone.py").unlink()
    (repo.path / "d" / "x").unlink()  # a folder becomes a link, a file a folder
    (repo.path / "d").rmdir()
    (repo.path / "d").symlink_to("src")
    (repo.path / "kind").unlink()
    repo.write_all({"kind/inner": "folder"})
    repo.git("rm", "-q", "--cached", "src/b.py")  # no longer tracked, but there


def test_include_uncommitted_ships_the_working_tree(
    package: Callable[..., dict[str, str]], repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    _dirty(repo)
    assert package(include_uncommitted=True, check_uncommitted_changes=True, check_untracked_files=True) == {
        ".gitignore": COMMITTED[".gitignore"],
        "a.py": "changed",
        "src/b.py": "b",
        "new dir/new.py": "new",
        "staged.py": "staged and changed",
        "d": "-> src",
        "kind/inner": "folder",
    }
    assert not caplog.records


def test_include_uncommitted_of_a_subpath(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    repo.write_all({"src/new.py": "new", "other.py": "x"})
    assert package(include_uncommitted=True, subpath="src") == {"b.py": "b", "new.py": "new"}
    assert package(include_uncommitted=True, subpath="src", ref="main") == {"b.py": "b", "new.py": "new"}


def test_include_uncommitted_of_a_linked_work_tree(
    package: Callable[..., dict[str, str]], repo: Repo, tmp_path: Path
) -> None:
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    (tmp_path / "linked" / "a.py").write_text("linked")
    assert package(tmp_path / "linked", include_uncommitted=True)["a.py"] == "linked"


def test_include_uncommitted_before_the_first_commit(
    package: Callable[..., dict[str, str]], make_repo: Callable[..., Repo]
) -> None:
    fresh = make_repo("fresh").write_all({"a.py": "a", "b.py": "b"})
    fresh.git("add", "a.py")
    assert package(fresh.path, include_uncommitted=True) == {"a.py": "a", "b.py": "b"}


def test_include_uncommitted_in_the_middle_of_a_conflict(
    package: Callable[..., dict[str, str]], repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    repo.git("checkout", "-q", "-b", "side")
    repo.commit({"a.py": "theirs"})
    repo.git("checkout", "-q", "main")
    repo.commit({"a.py": "ours"})
    with pytest.raises(Exception, match="merge"):
        repo.git("merge", "side")
    assert "<<<<<<<" in package(include_uncommitted=True)["a.py"]
    assert "conflicts of a merge are packaged as they are: 'a.py'" in caplog.records[-1].getMessage()
    (repo.path / "a.py").unlink()
    assert "a.py" not in package(include_uncommitted=True)


def test_what_is_not_shipped_is_pointed_out_once(
    package: Callable[..., dict[str, str]], repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    _dirty(repo)
    before = {name: text for name, text in package().items() if name in COMMITTED}
    assert before == COMMITTED
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "7 uncommitted and 3 untracked files are not packaged: 'a.py'" in message
    assert "include_uncommitted=True" in message


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({}, True),
        ({"subpath": "src"}, False),  # the change is elsewhere
        ({"ref": "main"}, True),
        ({"ref": "v1"}, False),  # another version was asked for
        ({"include_pattern": "a.py"}, False),  # it is shipped after all
    ],
)
def test_only_what_matters_is_pointed_out(
    package: Callable[..., dict[str, str]],
    repo: Repo,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    warns: bool,
) -> None:
    repo.git("tag", "v1")
    repo.commit({"later.py": ""})
    repo.write_all({"a.py": "changed"})
    package(**options)
    assert bool(caplog.records) == warns


def test_a_clean_checkout_is_not_mentioned(
    package: Callable[..., dict[str, str]], repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    repo.write_all({"x.log": "ignored"})
    os.utime(repo.path / "a.py", (1, 1))
    package(check_uncommitted_changes=True, check_untracked_files=True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("check", "change", "message"),
    [
        ("check_uncommitted_changes", {"a.py": "changed"}, "has uncommitted changes: 'a.py'"),
        ("check_untracked_files", {"new.py": "new"}, "has untracked files: 'new.py'"),
    ],
)
def test_checks_refuse(
    package: Callable[..., dict[str, str]], repo: Repo, check: str, change: dict[str, str | bytes], message: str
) -> None:
    repo.write_all(change)
    with pytest.raises(PackagingError, match=message):
        package(**{check: True}, subpath="src")  # the whole repository is checked
    other = {"check_uncommitted_changes", "check_untracked_files"} - {check}
    assert package(**{other.pop(): True}) == COMMITTED


# ---------------------------------------------------------------- extra files


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("extra", {"extra/1.txt", "extra/deep/2.txt", "extra/deep/er/3.json"}),
        ("extra/*", {"extra/1.txt", "extra/deep/2.txt", "extra/deep/er/3.json"}),
        ("extra/*.txt", {"extra/1.txt"}),
        ("extra/**/*.json", {"extra/deep/er/3.json"}),
        ("extra/deep out", {"extra/deep/2.txt", "extra/deep/er/3.json", "out/ignored"}),
        (["extra/1.txt", "out"], {"extra/1.txt", "out/ignored"}),
    ],
)
def test_extra_files(
    package: Callable[..., dict[str, str]],
    repo: Repo,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str | list[str],
    names: set[str],
) -> None:
    repo.write_all({"extra/1.txt": "", "extra/deep/2.txt": "", "extra/deep/er/3.json": "", "out/ignored": ""})
    monkeypatch.chdir(repo.path)
    assert set(package(include_pattern=pattern)) == names | set(COMMITTED)
    assert set(package(include_pattern=pattern, subpath="src")) == names | {"b.py"}


def test_extra_files_from_elsewhere(package: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.py").write_text("mine")
    pattern, base = str(tmp_path / "data" / "*"), str(tmp_path / "data")
    assert package(include_pattern=[pattern], include_pattern_relative_path=[base]) == COMMITTED | {"a.py": "mine"}
    assert package(include_pattern=pattern, include_pattern_relative_path=str(tmp_path))["data/a.py"] == "mine"


# ---------------------------------------------------------------- submodules


@pytest.fixture
def nested(make_repo: Callable[..., Repo], repo: Repo) -> Repo:
    """repo ─ src/lib ─ deep/inner"""
    inner, lib = make_repo("inner"), make_repo("lib")
    inner.commit({"inner.py": "1"})
    lib.commit({"lib.py": "1"})
    lib.git("submodule", "--quiet", "add", str(inner.path), "deep/inner")
    lib.commit()
    repo.git("submodule", "--quiet", "add", str(lib.path), "src/lib")
    repo.git("submodule", "--quiet", "update", "--init", "--recursive")
    repo.commit()
    return repo


IN_LIB = {"lib.py": "1", "deep/inner/": "", "deep/inner/inner.py": "1"}


def _without_modules(content: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in content.items() if not name.endswith(".gitmodules")}


def test_submodules_are_packaged_where_they_are(package: Callable[..., dict[str, str]], nested: Repo) -> None:
    in_lib = {f"src/lib/{name}": text for name, text in IN_LIB.items()}
    assert _without_modules(package()) == COMMITTED | {"src/lib/": ""} | in_lib
    assert _without_modules(package(subpath="src")) == {"b.py": "b", "lib/": ""} | {
        f"lib/{n}": t for n, t in IN_LIB.items()
    }
    assert _without_modules(package(include_submodules=False)) == COMMITTED | {"src/lib/": ""}
    nested.commit({"docs/index.md": ""})
    assert package(subpath="docs") == {"index.md": ""}


def test_submodules_are_packaged_as_recorded(
    package: Callable[..., dict[str, str]], nested: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    lib = Repo(nested.path / "src" / "lib")
    lib.commit({"lib.py": "2"})
    lib.write_all({"lib.py": "3", "untracked.py": ""})
    assert package()["src/lib/lib.py"] == "1"
    assert "1 uncommitted and 0 untracked files are not packaged: 'src/lib'" in caplog.text
    with pytest.raises(PackagingError, match="uncommitted changes: 'src/lib'"):
        package(check_uncommitted_changes=True)
    caplog.clear()
    package(include_submodules=False)
    assert not caplog.records
    nested.commit()
    assert package()["src/lib/lib.py"] == "2"


def test_include_uncommitted_goes_into_submodules_and_repositories(
    package: Callable[..., dict[str, str]], nested: Repo
) -> None:
    Repo(nested.path / "src" / "lib").write_all({"lib.py": "3"})
    Repo(nested.path / "src" / "lib" / "deep" / "inner").write_all({"new.py": "new"})
    Repo(nested.path / "clone").commit({"c.py": "c"})
    Repo(nested.path / "empty").write_all({"e.py": "e"})  # without a commit
    found = package(include_uncommitted=True)
    expected = {
        "src/lib/lib.py": "3",
        "src/lib/deep/inner/new.py": "new",
        "src/lib/deep/inner/inner.py": "1",
        "clone/c.py": "c",
        "empty/e.py": "e",
    }
    assert expected.items() <= found.items()
    assert expected.keys() - {"src/lib/lib.py"} - package(include_uncommitted=True, include_submodules=False).keys()


def test_a_submodule_that_is_not_checked_out_is_pointed_out(
    package: Callable[..., dict[str, str]], nested: Repo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nested.git("clone", "-q", str(nested.path), str(tmp_path / "clone"))
    assert set(_without_modules(package(tmp_path / "clone"))) == {*COMMITTED, "src/lib/"}
    assert "'src/lib'" in caplog.text
    assert "not checked out" in caplog.text


def test_a_recorded_commit_that_is_not_here_is_an_error(package: Callable[..., dict[str, str]], nested: Repo) -> None:
    nested.git("update-index", "--cacheinfo", f"160000,{'1' * 40},src/lib")
    nested.git("commit", "-q", "-m", "x")
    with pytest.raises(PackagingError, match=r"src/lib.* lacks the recorded commit 111.*git submodule update"):
        package()


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ref": "none"}, "no branch, tag or commit 'none'"),
        ({"ref": ""}, "no branch, tag or commit ''"),
        ({"ref": "--upload-pack=touch pwned"}, "no branch, tag or commit"),
        ({"ref": "-o/tmp/x"}, "no branch, tag or commit"),
        ({"ref": "--output=pwned"}, "no branch, tag or commit"),
        ({"ref": "HEAD; touch pwned"}, "no branch, tag or commit"),
        ({"ref": "$(touch pwned)"}, "no branch, tag or commit"),
        ({"subpath": "none"}, "no folder 'none'"),
        ({"subpath": "a.py"}, "no folder 'a.py'"),
        ({"subpath": "none", "include_uncommitted": True}, "no folder 'none'"),
        ({"subpath": "--output=pwned"}, "no folder"),
        ({"subpath": "../x"}, "must be a folder in the repository"),
        ({"subpath": "/etc"}, "must be a folder in the repository"),
        ({"basepath": "/nonexistent; touch pwned"}, "no such folder"),
        ({"include_pattern": "*.none"}, r"'\*.none' matches no file in .*repo"),
        ({"include_pattern": "a.py; touch pwned"}, "matches no file"),
        ({"include_pattern": ["nothing", "none"]}, "'nothing' matches no file"),
        ({"include_pattern": ["a.py"], "include_pattern_relative_path": [".", "."]}, "same length"),
        ({"ref": "v1", "include_uncommitted": True}, "is not ref='v1'"),
    ],
)
def test_refused(
    package: Callable[..., dict[str, str]],
    repo: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    message: str,
) -> None:
    repo.git("tag", "v1")
    repo.commit({"later.py": ""})
    monkeypatch.chdir(repo.path)
    with pytest.raises(PackagingError, match=message):
        package(**options)
    assert not list(tmp_path.rglob("pwned*"))
    assert not list(tmp_path.rglob("*.tmp")) + list(tmp_path.rglob("*.tar.gz"))


def test_a_branch_with_a_hostile_name_is_just_a_branch(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    name = "$(touch${IFS}pwned);'\"&|`x`"
    repo.git("update-ref", f"refs/heads/{name}", "HEAD")
    assert package(ref=name) == COMMITTED


def test_outside_of_a_repository(tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match=r"is in no git repository.*PatternPackager"):
        GitArchivePackager().package(tmp_path, str(tmp_path / "job"), "x")


def test_without_git(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagingError, match="install git"):
        GitArchivePackager().package(repo.path, str(tmp_path / "job"), "x")


def test_what_git_says_is_told(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    blob = repo.git("rev-parse", "HEAD:a.py")
    (repo.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(PackagingError, match="git archive failed"):
        package()
