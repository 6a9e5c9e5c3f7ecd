"""Which code ran, and having it again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_run.core.packaging.provenance import CodeVersion, code_version, restore
from nemo_run.errors import PackagingError
from tests.packaging.conftest import Repo, state_of

pytestmark = pytest.mark.needs("git")


def files_in(folder: Path) -> dict[str, tuple[str, bool, bytes]]:
    return {
        str(path.relative_to(folder)): ("link", False, str(path.readlink()).encode())
        if path.is_symlink()
        else ("file", bool(path.stat().st_mode & 0o100), path.read_bytes())
        for path in folder.rglob("*")
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file())
    }


def version_of(path: Path) -> CodeVersion:
    version = code_version(path)
    assert version is not None
    return version


def test_a_clean_checkout(repo: Repo) -> None:
    commit = repo.git("rev-parse", "HEAD")
    assert version_of(repo.path / "src") == CodeVersion(commit=commit, branch="main", dirty=False)
    repo.git("checkout", "-q", "--detach")
    assert version_of(repo.path).branch is None


def test_outside_of_a_repository_and_without_git(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert code_version(tmp_path) is None
    assert not caplog.records
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(repo.path) is None
    assert "install git" in caplog.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:s3cret@host.org/a/b.git", "https://host.org/a/b.git"),
        ("https://s3cret@host.org:8443/a.git", "https://host.org:8443/a.git"),
        ("https://us%40er:s3:cr@et@host.org/a.git", "https://host.org/a.git"),
        ("https://host.org/a.git?token=s3cret", "https://host.org/a.git"),
        ("ssh://git:s3cret@host.org:22/a.git", "ssh://git@host.org:22/a.git"),
        ("git@host.org:a/b.git", "git@host.org:a/b.git"),
        ("/srv/a b.git", "/srv/a b.git"),
    ],
)
def test_the_remote_is_told_without_secrets(repo: Repo, url: str, shown: str) -> None:
    repo.git("remote", "add", "origin", url)
    assert version_of(repo.path).remote == shown


def test_the_remote_that_the_branch_follows(repo: Repo) -> None:
    repo.git("remote", "add", "fork", "fork")
    assert version_of(repo.path).remote == "fork"
    repo.git("remote", "add", "origin", "origin")
    assert version_of(repo.path).remote == "origin"
    repo.git("config", "branch.main.remote", "fork")
    assert version_of(repo.path).remote == "fork"


def change(repo: Repo) -> None:
    repo.commit({"gone.py": "x", "crlf.txt": b"1\r\n2\r\n", "latin.txt": b"\xe9\n", "mode.sh": "#!", "d/x": "x"})
    repo.write_all({
        "a.py": "a\nno newline at the end", "src/new file\n.py": "new", "-dash": "-",
        "bin": random.Random(1).randbytes(3000),
        "crlf.txt": b"1\r\n3\r\n", "latin.txt": b"\xe8\n", "staged.py": "1", "x.log": "ignored", "empty": "",
        "tokenizer.py": "t", "env.py": "e",
    })  # fmt: skip
    (repo.path / "mode.sh").chmod(0o755)
    (repo.path / "gone.py").unlink()
    repo.git("add", "staged.py")
    repo.write_all({"staged.py": "2"})
    (repo.path / "d" / "x").unlink()
    (repo.path / "d").rmdir()
    (repo.path / "d").symlink_to("src")


@pytest.mark.parametrize(
    "setting", ["diff.noprefix", "diff.mnemonicPrefix", "core.autocrlf", "color.ui", "diff.external", ""]
)
def test_uncommitted_changes_are_recorded_and_restored(repo: Repo, tmp_path: Path, setting: str) -> None:
    if setting:
        repo.git("config", setting, "always" if setting == "color.ui" else "false" if "external" in setting else "true")
    change(repo)
    before = state_of(repo.path)
    version = version_of(repo.path)
    assert (version.dirty, version.omitted) == (True, ())
    dest = restore(version, repo.path / "src", tmp_path / "then")
    assert state_of(repo.path) == before
    expected = files_in(repo.path)
    del expected["x.log"]
    if setting == "core.autocrlf":  # git keeps it with the line ends of Unix, and so it comes back
        expected["crlf.txt"] = ("file", False, b"1\n3\n")
    assert files_in(dest) == expected
    repo.commit({"a.py": "later"})
    assert files_in(restore(version, repo.path, tmp_path / "later")) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["later", "repo", "then"]


def test_from_another_clone(repo: Repo, tmp_path: Path) -> None:
    repo.git("clone", "-q", str(repo.path), str(tmp_path / "clone"))
    repo.write_all({"a.py": "changed"})
    version = version_of(repo.path)
    assert (restore(version, tmp_path / "clone", tmp_path / "then") / "a.py").read_text() == "changed"


def test_before_the_first_commit(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    fresh = make_repo("fresh").write_all({"a.py": "a", "b/b.py": "b"})
    fresh.git("add", "a.py")
    version = version_of(fresh.path)
    assert (version.commit, version.branch, version.dirty) == (None, "main", True)
    assert set(files_in(restore(version, fresh.path, tmp_path / "then"))) == {"a.py", "b/b.py"}


SECRETS = [
    ".env",
    ".env.local",
    "prod.env",
    "id_rsa",
    "id_ed25519.pub",
    "server.key",
    "a.pem",
    "client_secret.json",
    "credentials.json",
    "hf-token",
    ".netrc",
    "TOKEN.txt",
]


def test_what_is_large_or_secret_is_named_and_not_recorded(
    repo: Repo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo.commit({"weights.bin": "small"})
    large = "x" * (1 << 20) + "x"
    repo.write_all(
        {"weights.bin": large, "new.bin": large, "kept.py": "kept"} | {f"conf/{name}": "s3cret" for name in SECRETS}
    )
    repo.git("add", "weights.bin")
    version = version_of(repo.path)
    assert set(version.omitted) == {"weights.bin", "new.bin"} | {f"conf/{name}" for name in SECRETS}
    assert len(version.patch) < 1000
    assert b"s3cret" not in version.patch
    then = restore(version, repo.path, tmp_path / "then")
    assert (then / "kept.py").read_text() == "kept"
    assert (then / "weights.bin").read_text() == "small"
    assert "14 changes were not recorded" in caplog.text


def test_submodules_are_restored_as_recorded(make_repo: Callable[..., Repo], repo: Repo, tmp_path: Path) -> None:
    lib = make_repo("lib")
    lib.commit({"lib.py": "1"})
    repo.git("submodule", "--quiet", "add", str(lib.path), "third party/lib")
    repo.commit()
    inside = Repo(repo.path / "third party" / "lib")
    inside.commit({"lib.py": "2"})
    inside.write_all({"lib.py": "3"})
    version = version_of(repo.path)
    assert version.omitted == ("third party/lib",)  # what is not committed in it
    then = restore(version, repo.path, tmp_path / "then")
    assert (then / "third party" / "lib" / "lib.py").read_text() == "2"
    repo.git("submodule", "--quiet", "deinit", "--all", "--force")
    assert not (restore(version, repo.path, tmp_path / "again") / "third party" / "lib" / "lib.py").exists()


def test_an_untracked_repository_is_named(repo: Repo) -> None:
    Repo(repo.path / "clone").commit({"c.py": ""})
    version = version_of(repo.path)
    assert (version.dirty, version.omitted, version.patch) == (True, ("clone/",), b"")


def test_restore_needs_the_commit(repo: Repo, make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    repo.git("remote", "add", "origin", "https://me:pw@host.org/a.git")
    version = version_of(repo.path)
    other = make_repo("other")
    other.commit()
    with pytest.raises(PackagingError, match=f"lacks commit {version.commit}: fetch it from https://host.org/a.git"):
        restore(version, other.path, tmp_path / "then")
    with pytest.raises(PackagingError, match=r"is in no git repository: clone https://host.org/a.git first"):
        restore(version, tmp_path, tmp_path / "then")
    assert not list(tmp_path.glob("*then*"))


def test_a_version_from_a_file_cannot_be_an_option_of_git(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(PackagingError, match="lacks commit --output"):
        restore(CodeVersion(commit="--output=pwned"), repo.path, tmp_path / "then")
    assert not list(tmp_path.rglob("pwned"))


def test_a_restored_folder_is_left_alone(repo: Repo, tmp_path: Path) -> None:
    then = restore(version_of(repo.path), repo.path, tmp_path / "then")
    (then / "a.py").write_text("mine")
    restore(version_of(repo.path), repo.path, then)
    assert (then / "a.py").read_text() == "mine"
