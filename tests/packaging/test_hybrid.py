"""Packagers made of packagers."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nemo_run.core.packaging import ConditionalPackager, GitArchivePackager, HybridPackager, Packager, PatternPackager
from nemo_run.core.packaging.archive import Entry
from nemo_run.errors import PackagingError
from tests.packaging.conftest import Repo, content_of


@dataclass(kw_only=True)
class OwnPackager(Packager):
    """As a user writes one: nothing of ours but the name of the method."""

    text: str = "own"

    def package(self, path: Path, job_dir: str, name: str) -> str:
        source = Path(job_dir, "source")
        (source / "empty").mkdir(parents=True)
        (source / "own.txt").write_text(self.text)
        (source / "link").symlink_to("own.txt")
        (source / "hard").hardlink_to(source / "own.txt")
        archive = Path(job_dir, f"{name}.tar.bz2")
        with tarfile.open(archive, "w:bz2") as tar:
            tar.add(source, ".")
        return str(archive)


class NoTests(GitArchivePackager):
    """What :meth:`entries` gives can be chosen from."""

    def entries(self, path: Path) -> Iterator[Entry]:
        return (entry for entry in super().entries(path) if not entry.name.startswith("tests/"))


class MoreThanGit(GitArchivePackager):
    """A packager of ours whose ``package`` is overridden."""

    def package(self, path: Path, job_dir: str, name: str) -> str:
        return OwnPackager(text="more").package(path, job_dir, name)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(folder.name)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def package(packager: Packager, path: Path = tmp_path) -> dict[str, str]:
        job_dir = tmp_path / f"job{len(list(tmp_path.glob('job*')))}"
        return content_of(packager.package(path, str(job_dir), "train"))

    return package


@pytest.fixture
def two(tmp_path: Path) -> list[Packager]:
    """Two packagers that both have a file called ``both``."""
    folders = [write(tmp_path / "one", "both", "a"), write(tmp_path / "two", "both", "b")]
    return [PatternPackager(include=["*"], relative_path=str(folder)) for folder in folders]


def test_a_list_lays_packages_over_each_other(package: Callable[..., dict[str, str]], two: list[Packager]) -> None:
    assert package(HybridPackager(two)) == {"both": "two", "a": "one", "b": "two"}
    assert package(HybridPackager(two[::-1])) == {"both": "one", "a": "one", "b": "two"}
    assert package(HybridPackager(sub_packagers=[])) == {}


def test_a_dictionary_names_the_folders(package: Callable[..., dict[str, str]], two: list[Packager]) -> None:
    parts = {"x": two[0], "y/z/": two[1]}
    assert package(HybridPackager(parts)) == {"x/both": "one", "x/a": "one", "y/z/both": "two", "y/z/b": "two"}
    assert package(HybridPackager(sub_packagers=parts, extract_at_root=True)) == {"both": "two", "a": "one", "b": "two"}


def test_packagers_of_every_kind(package: Callable[..., dict[str, str]], two: list[Packager]) -> None:
    own = {"own.txt": "own", "hard": "own", "link": "-> own.txt", "empty/": ""}
    assert package(HybridPackager([OwnPackager()])) == own
    assert package(HybridPackager({"x": OwnPackager()})) == {f"x/{name}": text for name, text in own.items()}
    assert package(HybridPackager([MoreThanGit()]))["own.txt"] == "more"
    assert package(HybridPackager([Packager(), two[0]])) == {"both": "one", "a": "one"}
    assert package(HybridPackager({"x": HybridPackager({"y": two[0]})})) == {"x/y/both": "one", "x/y/a": "one"}


@pytest.mark.needs("git")
def test_a_subclass_chooses_entries(package: Callable[..., dict[str, str]], repo: Repo) -> None:
    repo.commit({"tests/t.py": "t"})
    assert set(package(NoTests(subpath=""), repo.path)) == {"a.py", "src/b.py", ".gitignore"}
    assert set(package(HybridPackager([NoTests()]), repo.path)) == {"a.py", "src/b.py", ".gitignore"}


def test_a_condition_is_asked_when_packaging(
    package: Callable[..., dict[str, str]], two: list[Packager], tmp_path: Path
) -> None:
    packager = HybridPackager([two[0], ConditionalPackager(two[1], when=lambda path: (path / "yes").exists())])
    assert package(packager) == {"both": "one", "a": "one"}
    (tmp_path / "yes").touch()
    assert package(packager) == {"both": "two", "a": "one", "b": "two"}


def test_links_lead_out_of_no_part(
    package: Callable[..., dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = write(tmp_path / "part", "deep/a")
    (part / "deep" / "up").symlink_to("../deep/a")
    (part / "other").symlink_to("../y/secret")
    found = package(HybridPackager({"x": PatternPackager(include=["*"], relative_path=str(part))}))
    assert found == {"x/deep/a": "part", "x/deep/up": "-> ../deep/a"}
    assert "'other'" in caplog.text


@pytest.mark.parametrize("folder", ["..", "../x", "/abs", "a/../../b"])
def test_a_place_outside_is_refused(package: Callable[..., dict[str, str]], two: list[Packager], folder: str) -> None:
    with pytest.raises(PackagingError, match="cannot be the place of a package"):
        package(HybridPackager({folder: two[0]}))


def test_an_archive_of_another_packager_that_is_none(package: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    class Broken(Packager):
        def package(self, path: Path, job_dir: str, name: str) -> str:
            Path(job_dir, "x").write_text("no tar")
            return str(Path(job_dir, "x"))

    with pytest.raises(PackagingError, match="not a tar archive"):
        package(HybridPackager([Broken()]))
    assert not list(tmp_path.rglob("*.tar.gz"))


def test_the_plain_packager_ships_nothing(tmp_path: Path) -> None:
    assert Packager().package(tmp_path, str(tmp_path), "x") == ""
    assert not list(tmp_path.iterdir())
