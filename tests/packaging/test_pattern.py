"""PatternPackager, on real folders."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_run.core.packaging import PatternPackager
from nemo_run.errors import MissingArgumentError, PackagingError
from tests.packaging.conftest import content_of, state_of

FILES = {
    "a.py", "a.yaml", ".hidden", "src/b.py", "src/deep/er/c.py", "src/deep/er/c.json", "tests/t.py", "sp ace/x y.py",
    "data/[1].csv", "build/gen.py", "-dash", "new\nline",
}  # fmt: skip
SOURCES = {"a.py", "src/b.py", "src/deep/er/c.py", "sp ace/x y.py", "build/gen.py"}
JUNK = {".git/config", "src/__pycache__/b.pyc", "src/.git"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES | JUNK:
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "tree"


@pytest.fixture
def package(tree: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    def package(path: Path = tree, **options: object) -> dict[str, str]:
        job_dir = tmp_path / f"job{len(list(tmp_path.glob('job*')))}"
        return content_of(PatternPackager(**options).package(path, str(job_dir), "train"))

    return package


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["**"], [], FILES),
        (["*"], [], FILES),
        (["*.py"], [], SOURCES | {"tests/t.py"}),
        (["/*.py"], [], {"a.py"}),
        (["*.py", "*.yaml"], ["__pycache__", "*.pyc", "tests/"], SOURCES | {"a.yaml"}),
        (["src"], [], {"src/b.py", "src/deep/er/c.py", "src/deep/er/c.json"}),
        (["src/"], ["deep"], {"src/b.py"}),
        (["./src/*.py"], [], {"src/b.py"}),
        (["src/**/*.py"], [], {"src/b.py", "src/deep/er/c.py"}),
        (["src/**/er/*"], [], {"src/deep/er/c.py", "src/deep/er/c.json"}),
        (["**/*.py"], ["/build", "src/deep/"], {"a.py", "src/b.py", "tests/t.py", "sp ace/x y.py"}),
        (["src", "src/deep"], [], {"src/b.py", "src/deep/er/c.py", "src/deep/er/c.json"}),
        (["src"], ["*", "!*.json", "!src/", "!src/deep/", "!er"], {"src/deep/er/c.json"}),
        (["data/\\[1].csv", "sp ace"], [], {"data/[1].csv", "sp ace/x y.py"}),
        (["-dash", "new\nline"], [], {"-dash", "new\nline"}),
    ],
)  # fmt: skip
def test_include_and_exclude(
    package: Callable[..., dict[str, str]], include: list[str], exclude: list[str], names: set[str]
) -> None:
    assert package(include=include, exclude=exclude) == {name: name for name in names}


def test_filter_chooses_and_renames(package: Callable[..., dict[str, str]]) -> None:
    def keep(name: str) -> bool | str:
        return name.removeprefix("src/") if name.startswith("src/") else name == "a.py"

    assert package(include=["*.py"], filter=keep) == {
        "b.py": "src/b.py",
        "deep/er/c.py": "src/deep/er/c.py",
        "a.py": "a.py",
    }
    with pytest.raises(PackagingError, match=r"'\.\./a.py' cannot be in a package"):
        package(include=["a.py"], filter="../{}".format)


def test_include_looks_in_relative_path(
    package: Callable[..., dict[str, str]], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(package(tmp_path, include=["*.json"], relative_path=str(tree / "src"))) == {"deep/er/c.json"}
    monkeypatch.chdir(tree)
    assert set(package(tmp_path, include=["*.json"], relative_path="src")) == {"deep/er/c.json"}


# The patterns of NeMo-Run, as `find PATTERN -type f` would have it, named from relative_path.
@pytest.mark.parametrize(
    ("pattern", "base", "names"),
    [
        ("{tree}", "{tree}", FILES),
        ("{tree}/*", "{tree}", FILES - {".hidden"}),
        ("{tree}/src", "{tree}", {"src/b.py", "src/deep/er/c.py", "src/deep/er/c.json"}),
        ("{tree}/src/*", "{tree}/src", {"b.py", "deep/er/c.py", "deep/er/c.json"}),
        ("{tree}/src", "{tree}/..", {"tree/src/b.py", "tree/src/deep/er/c.py", "tree/src/deep/er/c.json"}),
        ("src/*.py", "{tree}", {"src/b.py"}),
        ("src/*.py", ".", {"src/b.py"}),
        ("src/**", "{tree}", {"src/b.py", "src/deep/er/c.py", "src/deep/er/c.json"}),
        ("**", "{tree}", FILES),
        ("**/*.json", "{tree}", {"src/deep/er/c.json"}),
        ("s*/**/er", "{tree}", {"src/deep/er/c.py", "src/deep/er/c.json"}),
        ("a.* tests", "{tree}", {"a.py", "a.yaml", "tests/t.py"}),
        ("sp ace", "{tree}", {"sp ace/x y.py"}),
        ("sp*/x y.py", "{tree}", {"sp ace/x y.py"}),
        ("data/[1].csv", "{tree}", {"data/[1].csv"}),
        (["a.py", "{tree}/src/b.py"], ["{tree}", "{tree}/src"], {"a.py", "b.py"}),
        (["a.py", "src/b.py"], "{tree}", {"a.py", "src/b.py"}),
        (["a.py", ""], ["{tree}", ""], {"a.py"}),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_include_pattern(
    package: Callable[..., dict[str, str]], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    pattern: str | list[str], base: str | list[str], names: set[str], inside: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(tree if inside or base == "." else tmp_path)

    def here(text: str | list[str]) -> str | list[str]:
        return text.replace("{tree}", str(tree)) if isinstance(text, str) else [str(here(part)) for part in text]

    assert set(package(include_pattern=here(pattern), relative_path=here(base))) == names


def test_include_pattern_through_a_link_to_the_folder(
    package: Callable[..., dict[str, str]], tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to("tree")
    assert set(package(include_pattern=str(tmp_path / "alias" / "src" / "*.py"), relative_path=str(tree))) == {
        "src/b.py"
    }


def test_links_stay_links_and_lead_nowhere_else(
    package: Callable[..., dict[str, str]], tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tree / "src" / "loop").symlink_to("..")
    (tree / "src" / "dir").symlink_to("deep")
    (tree / "src" / "out").symlink_to(tmp_path)
    (tree / "src" / "dead").symlink_to("nothing")
    for options in ({"include": ["src/**"]}, {"include_pattern": "src/**", "relative_path": str(tree)}):
        links = {name: text for name, text in package(**options).items() if text.startswith("->")}
        assert links == {"src/loop": "-> ..", "src/dir": "-> deep", "src/dead": "-> nothing"}
        assert "'src/out'" in caplog.text
        caplog.clear()


def test_same_files_same_bytes_and_nothing_is_written(tree: Path, tmp_path: Path) -> None:
    before = state_of(tree)
    packager = PatternPackager(include=["**"])
    first = Path(packager.package(tree, str(tmp_path / "job1"), "x"))
    assert state_of(tree) == before
    for path in tree.rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o640)
    second = Path(packager.package(tree, str(tmp_path / "job2"), "y"))
    assert first.read_bytes() == second.read_bytes()


def test_the_job_folder_may_be_in_the_packaged_folder(tree: Path) -> None:
    archive = PatternPackager(include=["**"]).package(tree, str(tree / "job"), "x")
    assert set(content_of(archive)) == FILES


def test_what_is_no_file_is_passed_over(
    package: Callable[..., dict[str, str]], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tree / "src" / "fifo")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("src/socket")
        assert "src/b.py" in package(include=["src"])
        assert not {"src/fifo", "src/socket"} & set(package(include_pattern="src"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, MissingArgumentError, "needs to know what to package: include="),
        ({"include_pattern": [""]}, MissingArgumentError, "needs to know"),
        ({"include": ["*"], "include_pattern": "*"}, PackagingError, "not both"),
        ({"include": ["*.py", "*.none"]}, PackagingError, r"'\*.none' matches no file in .*/tree:"),
        ({"include": ["*.py"], "exclude": ["*"]}, PackagingError, r"'\*.py' matches no file"),
        ({"include": ["src"], "exclude": ["/src"]}, PackagingError, "'src' matches no file"),
        ({"include": ["src/deep/er"], "exclude": ["deep"]}, PackagingError, "matches no file"),
        ({"include": [".git/config"]}, PackagingError, "matches no file"),
        ({"include": ["../job*/x"]}, PackagingError, "matches no file"),
        ({"include": ["none/**"]}, PackagingError, "'none/.*' matches no file"),
        ({"include": ["*"], "relative_path": ["a", "b"]}, PackagingError, "HybridPackager"),
        ({"include": ["*"], "relative_path": "/nonexistent"}, PackagingError, "/nonexistent: cannot be listed"),
        ({"include_pattern": "*.none"}, PackagingError, "matches no file"),
        ({"include_pattern": "/etc/passwd"}, PackagingError, "matches no file in .*/tree"),
        ({"include_pattern": "scr it's"}, PackagingError, "'scr' matches no file"),
        ({"include_pattern": "src; touch pwned"}, PackagingError, "matches no file"),
        ({"include_pattern": "$(touch pwned)"}, PackagingError, "matches no file"),
        ({"include_pattern": ["a.py"], "relative_path": ["a", "b"]}, PackagingError, "same length"),
    ],
)
def test_refused(
    package: Callable[..., dict[str, str]], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object], error: type[Exception], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tree)
    with pytest.raises(error, match=message):
        package(**options)
    assert not list(tmp_path.rglob("pwned")) + list(tmp_path.rglob("*.tmp")) + list(tmp_path.rglob("*.tar.gz"))


def test_a_file_that_vanishes_is_named(tree: Path, tmp_path: Path) -> None:
    def keep(name: str) -> bool:
        (tree / "src" / "b.py").unlink(missing_ok=True)
        return True

    with pytest.raises(PackagingError, match=r"src/b.py: cannot be read: No such file"):
        PatternPackager(include=["src"], filter=keep).package(tree, str(tmp_path / "job"), "x")


@pytest.mark.needs("unprivileged user")
def test_an_unreadable_file_is_named(package: Callable[..., dict[str, str]], tree: Path) -> None:
    (tree / "src" / "b.py").chmod(0)
    with pytest.raises(PackagingError, match=r"src/b.py: cannot be read: Permission denied; exclude it"):
        package(include=["src"])
