"""Packages the code of a git repository."""

from __future__ import annotations

import contextlib
import logging
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_run.core.packaging import repository
from nemo_run.core.packaging.archive import FOLDER, Entry, merge, placed, some, without_escaping_links
from nemo_run.core.packaging.base import ArchivePackager
from nemo_run.core.packaging.pattern import Found, file_entries, find_pairs
from nemo_run.errors import PackagingError

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class GitArchivePackager(ArchivePackager):
    """Packages a commit of the git repository that the code is in: what is committed, and only that.

    What the working tree has beyond it is pointed out in a warning, or goes along with ``include_uncommitted=True``.
    The checkout is only read. ``export-ignore`` in ``.gitattributes`` keeps files out of the package.

    Attributes:
        basepath: A folder of the repository; by default the one that is packaged.
        subpath: Package only this folder of the repository; it becomes the root of the package.
        ref: The branch, tag or commit.
        include_submodules: Package the submodules that are checked out, at the commits the ref records.
        include_pattern: Extra files, tracked or not: one or more glob patterns (``**`` descends). A folder stands for
            all that is in it.
        include_pattern_relative_path: The folder from which the extra files are named in the package, one for all
            patterns or one for each; the top of the repository by default.
        check_uncommitted_changes: Refuse to package while tracked files are changed.
        check_untracked_files: Refuse to package while there are files that git neither tracks nor ignores.
        include_uncommitted: Package the working tree: HEAD, the changes since, and what is untracked and not ignored.

    Example:
        >>> GitArchivePackager(subpath="src", include_uncommitted=True).ref
        'HEAD'
    """

    basepath: str = ""
    subpath: str = ""
    ref: str = "HEAD"
    include_submodules: bool = True
    include_pattern: str | list[str] = ""
    include_pattern_relative_path: str | list[str] = ""
    check_uncommitted_changes: bool = False
    check_untracked_files: bool = False
    include_uncommitted: bool = False

    def entries(self, path: Path) -> Iterator[Entry]:
        """Yield the files of the commit, or of the working tree; then the extra ones."""
        repo = self._repository(path)
        subpath = self._normal_subpath()
        extra = find_pairs(self.include_pattern, self.include_pattern_relative_path, default_base=repo)
        tree = None if self.include_uncommitted else repository.tree_of(repo, self.ref)
        if tree is None:
            self._refuse_other_ref(repo)
        else:
            self._point_out_changes(repo, tree, subpath, extra)
        with contextlib.ExitStack() as stack:
            sources = list(self._sources(repo, tree, subpath, stack))
            yield from without_escaping_links(merge([*sources, file_entries(extra)]))

    def _sources(
        self, repo: Path, tree: str | None, under: str, stack: contextlib.ExitStack
    ) -> Iterator[Iterator[Entry]]:
        """Yield the content of a tree, or of the working tree where it is ``None``, and of each repository inside."""
        tree, env, inside = _with_repositories_inside(repo, tree, under, stack)
        if around := _around(under, inside):
            yield from self._sources_inside(repo, around, inside[around], under[len(around) + 1 :], stack)
            return
        if under and not repository.has_folder(repo, tree, under, env):
            raise PackagingError(
                f"{repo}: there is no folder {under!r} in what is packaged: commit it, or correct subpath="
            )
        inside = {path: commit for path, commit in inside.items() if _is_below(path, under)}
        places = {path: path.removeprefix(f"{under}/") for path in inside}
        yield _without_folders(repository.tree_entries(repo, tree, under, env), except_for=set(places.values()))
        if self.include_submodules:
            yield from self._all_inside(repo, inside, places, stack)

    def _all_inside(
        self, repo: Path, inside: Mapping[str, str | None], places: Mapping[str, str], stack: contextlib.ExitStack
    ) -> Iterator[Iterator[Entry]]:
        """Yield the content of the repositories inside of another one, each at its place in the package."""
        for path, commit in inside.items():
            if not Path(repo, path, ".git").exists():
                logger.warning("submodule %r of %s is not checked out and is not packaged", path, repo)
                continue
            for source in self._sources_inside(repo, path, commit, "", stack):
                yield placed(source, places[path])

    def _sources_inside(
        self, repo: Path, path: str, commit: str | None, under: str, stack: contextlib.ExitStack
    ) -> Iterator[Iterator[Entry]]:
        """Return the content of a repository inside of another one."""
        if not Path(repo, path, ".git").exists():
            raise PackagingError(
                f"{repo}: subpath= is in the submodule {path!r}, which is not checked out: "
                f"git submodule update --init {path}"
            )
        tree = None if commit is None else _recorded_tree(repo, path, commit)
        return self._sources(repo / path, tree, under, stack)

    # ------------------------------------------------------------ what is asked for

    def _repository(self, path: Path) -> Path:
        folder = Path(self.basepath).expanduser() if self.basepath else path
        repo = repository.top_of(folder.absolute())
        if repo is None:
            raise PackagingError(
                f"{folder} is in no git repository: name one with basepath=, or package it with run.PatternPackager"
            )
        return repo

    def _normal_subpath(self) -> str:
        subpath = posixpath.normpath(self.subpath or ".")
        if subpath.startswith("/") or subpath.split("/")[0] == "..":
            raise PackagingError(f"subpath {self.subpath!r} must be a folder in the repository, relative to its top")
        return "" if subpath == "." else subpath

    def _refuse_other_ref(self, repo: Path) -> None:
        if self.ref != "HEAD" and repository.tree_of(repo, self.ref) != repository.tree_of(repo, "HEAD"):
            raise PackagingError(
                f"include_uncommitted=True packages what is checked out in {repo}, and that is not ref={self.ref!r}: "
                f"check it out, or leave one of the two out"
            )

    def _point_out_changes(self, repo: Path, tree: str, subpath: str, extra: list[Found]) -> None:
        """Say what the working tree has that is not packaged; not where the ref is not what is checked out."""
        checking = self.check_uncommitted_changes or self.check_untracked_files
        if not checking and not self._is_checked_out(repo, tree):
            return
        packaged = {found.path for found in extra}
        state = repository.status(
            repo,
            untracked="all" if packaged else "normal",
            under="" if checking else subpath,
            submodules=self.include_submodules,
        )
        self._tell_left_out(repo, [change for change in state.changes if str(repo / change.path) not in packaged])

    def _is_checked_out(self, repo: Path, tree: str) -> bool:
        return self.ref == "HEAD" or tree == repository.tree_of(repo, "HEAD")

    def _tell_left_out(self, repo: Path, left_out: Sequence[repository.TreeChange]) -> None:
        untracked = [change.path for change in left_out if change.kind == "untracked"]
        changed = [change.path for change in left_out if change.kind != "untracked"]
        ways_out = "commit them, or package them too with include_uncommitted=True"
        checks = (
            (self.check_uncommitted_changes, "uncommitted changes", changed),
            (self.check_untracked_files, "untracked files", untracked),
        )
        for wanted, what, paths in checks:
            if wanted and paths:
                raise PackagingError(f"{repo} has {what}: {some(paths)}: {ways_out}")
        if left_out:
            logger.warning(
                "%s: %d uncommitted and %d untracked files are not packaged: %s; %s",
                repo, len(changed), len(untracked), some(changed + untracked), ways_out,
            )  # fmt: skip


def _with_repositories_inside(
    repo: Path, tree: str | None, under: str, stack: contextlib.ExitStack
) -> tuple[str, dict[str, str], dict[str, str | None]]:
    """Return a tree, how git finds it, and by path the commits of inner repositories; ``None``: as they are now."""
    if tree is not None:
        return tree, {}, {link.path: link.commit for link in repository.links_of(repo, tree)}
    state = repository.status(repo, under=under)
    if conflicts := [change.path for change in state.changes if change.is_unmerged]:
        logger.warning(
            "%s: conflicts of a merge are packaged as they are: %s; resolve them first", repo, some(conflicts)
        )
    inside: dict[str, str | None] = {c.path.rstrip("/"): None for c in state.changes if c.path.endswith("/")}
    tree, env = stack.enter_context(repository.snapshot(repo, state.commit, state.changes))
    return tree, env, inside | {link.path: None for link in repository.links_of(repo, tree, env)}


def _recorded_tree(repo: Path, submodule: str, commit: str) -> str:
    try:
        return repository.tree_of(repo / submodule, commit)
    except PackagingError as error:
        raise PackagingError(
            f"submodule {submodule!r} of {repo} lacks the recorded commit {commit[:12]}: "
            f"fetch it with `git submodule update --init --recursive`, or leave it out by include_submodules=False"
        ) from error


def _around(folder: str, inside: Iterable[str]) -> str:
    """Return the repository, of those inside, that a folder is in; empty where it is in none of them."""
    return next((path for path in inside if f"{folder}/".startswith(f"{path}/")), "")


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _without_folders(entries: Iterator[Entry], except_for: set[str]) -> Iterator[Entry]:
    """In git no folder is empty, so only the places of other repositories need to be named."""
    return (entry for entry in entries if entry.kind != FOLDER or entry.name in except_for)
