"""Patterns mean what they mean to git."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from nemo_run.core.packaging.globs import Patterns
from nemo_run.errors import PackagingError

SIGNS = ["a", "b", "*", "**", "?", "/", "/**/", "[ab]", "[!a]", "[^b-z]", "[]a]", "[a-]", "\\*", "\\[", ".", "-", " x"]
PATTERN = st.tuples(st.sampled_from(["", "", "!"]), st.lists(st.sampled_from(SIGNS), min_size=1, max_size=6)).map(
    lambda pair: pair[0] + "".join(pair[1])
)
NAMES = ["a", "b", "ab", "a.b", "*", "]", "x", "a x", "b-z", "-", "[", "a\nb"]
PATH = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def git_ignores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str], str], bool]:
    tree = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", tree], check=True)

    def ignores(patterns: list[str], path: str) -> bool:
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        excludes = [f"--exclude={pattern}" for pattern in patterns]
        command = ["git", "ls-files", "--others", "--ignored", "-z", *excludes]
        output = subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout
        shutil.rmtree(tree / path.partition("/")[0]) if "/" in path else file.unlink()
        return f"{path}\0" in output

    return ignores


def ignored(patterns: list[str], path: str) -> bool:
    rules = Patterns(patterns)
    folders = [path[:end] for end, sign in enumerate(path, 1) if sign == "/"]
    return any(map(rules.match, [*folders, path]))


@pytest.mark.needs("git")
@settings(max_examples=80, deadline=None, derandomize=True)
@example(["**/b"], "a/a/b").via("any depth")
@example(["a/**/b"], "a/b").via("no folder between")
@example(["a/**"], "a/x").via("all below")
@example(["*", "!a", "!a/b"], "a/b").via("taken back")
@example(["a[!x]b"], "a/b").via("no slash is in a set")
@given(st.lists(PATTERN, min_size=1, max_size=3), PATH)
def test_as_git_does(git_ignores: Callable[[list[str], str], bool], patterns: list[str], path: str) -> None:
    assume(all(pattern.strip("!/.") and not pattern.lstrip("!").startswith("./") for pattern in patterns))
    assert ignored(patterns, path) == git_ignores(patterns, path), (patterns, path)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.py", ["a.py", "x/y/a.py", "x.py/data"], ["a.pyc"]),
        ("/*.py", ["a.py"], ["x/a.py"]),
        ("./*.py", ["a.py"], ["x/a.py"]),
        ("src/*.py", ["src/a.py"], ["src/x/a.py", "x/src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/y/a.py"], ["a.py"]),
        ("src", ["src/a", "src/x/a", "x/src/a", "src"], ["srcs/a"]),
        ("src/", ["src/a", "src/x/a", "x/src/a"], ["src"]),
        ("**", ["a", "x/y"], []),
        ("a b\n[x]?", ["a b\nxy"], ["a b\n[x]y"]),
    ],
)
def test_a_folder_stands_for_what_is_in_it(pattern: str, matching: list[str], other: list[str]) -> None:
    patterns = Patterns([pattern], descend=True)
    assert [path for path in matching + other if patterns.match(path)] == matching


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "matches nothing"),
        ("/", "matches nothing"),
        ("./", "'\\*\\*' for everything"),
        ("[z-a]", "'\\[z-a\\]' cannot"),
    ],
)
def test_refused(pattern: str, message: str) -> None:
    with pytest.raises(PackagingError, match=message):
        Patterns([pattern])
