"""Which code an experiment ran, and how to have it again."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path

from nemo_run.core.packaging import repository
from nemo_run.core.packaging.archive import made_whole, some
from nemo_run.core.packaging.repository import TreeChange
from nemo_run.errors import PackagingError

logger = logging.getLogger(__name__)

_MOST_KEPT, _MOST_UNTRACKED = 1 << 20, 5 << 20  # bytes of one file, and of all untracked ones together
_SECRET = re.compile(
    r"""^\.env\b | \.(env|pem|key|p12|pfx|jks)$ | ^\.(netrc|npmrc|pypirc|git-credentials)$
    | (^|[._-]) (secrets?|passwords?|credentials?|tokens?|id_(rsa|dsa|ecdsa|ed25519)) ($|[._-])""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class CodeVersion:
    """The state of a git repository at a moment.

    Attributes:
        commit: What was checked out; ``None`` before the first commit.
        branch: Its branch; ``None`` where there was none.
        dirty: Whether there were changes since the commit, untracked files included.
        remote: Address of the repository it is shared with, without a password; ``None`` where there is none.
        patch: The changes since the commit, for ``git apply``; binary files and untracked ones are in it.
        omitted: Changes that the patch lacks: files over 1 MiB, untracked files over 5 MiB together or that look like
            secrets, and changes inside other repositories.
    """

    commit: str | None
    branch: str | None = None
    dirty: bool = False
    remote: str | None = None
    patch: bytes = field(default=b"", repr=False)
    omitted: tuple[str, ...] = ()


def code_version(path: str | os.PathLike[str]) -> CodeVersion | None:
    """Return the state of the repository that a folder is in; ``None`` where there is none, or no git.

    Example:
        >>> import tempfile
        >>> code_version(tempfile.mkdtemp()) is None
        True
    """
    try:
        repo = repository.top_of(Path(path).absolute())
        return None if repo is None else _version(repo)
    except PackagingError as error:  # an experiment is no worse for it
        logger.warning("the version of the code is not recorded: %s", error)
        return None


def _version(repo: Path) -> CodeVersion:
    state = repository.status(repo)
    kept = _within_limit(repo, [change for change in state.changes if _is_kept(repo, change)])
    omitted = {change.path for change in state.changes if change not in kept or change.dirty_inside}
    return CodeVersion(
        commit=state.commit,
        branch=state.branch,
        dirty=bool(state.changes),
        remote=_remote(repo, state.branch),
        patch=_patch(repo, state.commit, kept) if kept else b"",
        omitted=tuple(sorted(omitted)),
    )


def _is_kept(repo: Path, change: TreeChange) -> bool:
    if change.kind == "deleted":
        return True
    secret = change.kind == "untracked" and _SECRET.search(posixpath.basename(change.path))
    try:
        return not secret and not change.path.endswith("/") and (repo / change.path).lstat().st_size <= _MOST_KEPT
    except OSError:
        return False


def _within_limit(repo: Path, changes: list[TreeChange]) -> list[TreeChange]:
    """Leave out what makes the untracked files too much to be kept for every launch: the largest of them."""
    sizes = {change.path: _size(repo / change.path) for change in changes if change.kind == "untracked"}
    total, left_out = 0, []
    for path in sorted(sizes, key=lambda path: (sizes[path], path)):
        total += sizes[path]
        if total > _MOST_UNTRACKED:
            left_out.append(path)
    if not left_out:
        return changes
    logger.warning(
        "%s: %d untracked files (%d MB) are not recorded with the code, as all together are over %d MB: %s; "
        "commit them, or name them in .gitignore",
        repo, len(left_out), sum(map(sizes.__getitem__, left_out)) >> 20, _MOST_UNTRACKED >> 20, some(left_out),
    )  # fmt: skip
    omitted = set(left_out)
    return [change for change in changes if change.path not in omitted]


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _patch(repo: Path, commit: str | None, changes: list[TreeChange]) -> bytes:
    form = ("-r", "-p", "--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color")
    with repository.snapshot(repo, commit, changes) as (tree, env):
        base = commit or repository.git(repo, "hash-object", "-t", "tree", os.devnull).decode().strip()
        return repository.git(repo, "diff-tree", *form, base, tree, env=env)


def _remote(repo: Path, branch: str | None) -> str | None:
    """Return the remote that the branch follows, else ``origin``, else the first one."""
    output = repository.git(
        repo, "config", "-z", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$", allowed=(1,)
    )
    settings = dict(item.split("\n", 1) for item in os.fsdecode(output).split("\0") if "\n" in item)
    names = [settings.get(f"branch.{branch}.remote"), "origin"]
    urls = [settings.get(f"remote.{name}.url") for name in names]
    urls += [value for key, value in settings.items() if key.startswith("remote.")]
    return next((_without_credentials(url) for url in urls if url), None)


def _without_credentials(url: str) -> str:
    """Without user and password; the user of an SSH address is no secret."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    user, at, host = host.rpartition("@")
    user = user.partition(":")[0] + "@" if at and "ssh" in scheme else ""
    return f"{scheme}://{user}{host}{slash}{path.partition('?')[0]}"


def restore(version: CodeVersion, repo: str | os.PathLike[str], dest: str | os.PathLike[str]) -> Path:
    """Make a folder with the code as it was: the commit, and the patch on it.

    The repository is only read. A folder that is already there and not empty is left as it is.

    Args:
        version: What :func:`code_version` said.
        repo: A folder of a clone of the repository.
        dest: The folder to make.

    Returns:
        ``dest`` as a path.

    Raises:
        PackagingError: The clone lacks the commit; the message says where to fetch it.
    """
    top = repository.top_of(Path(repo).absolute())
    if top is None:
        raise PackagingError(
            f"{repo} is in no git repository: clone {version.remote or 'it'} first, and name that folder"
        )
    if version.omitted:
        logger.warning("%s: %d changes were not recorded: %s", dest, len(version.omitted), some(list(version.omitted)))
    target = Path(dest).absolute()
    with made_whole(target) as folder:
        if folder is not None:
            _check_out(version, top, folder)
    return target


def _check_out(version: CodeVersion, repo: Path, folder: Path) -> None:
    with repository.scratch(repo) as env:
        if version.commit:
            repository.git(repo, "read-tree", _known(repo, version), env=env)
        if version.patch:
            apply = ("apply", "--cached", "--binary", "--whitespace=nowarn", "-")
            repository.git(repo, *apply, stdin=version.patch, env=env)
        tree = repository.git(repo, "write-tree", env=env).decode().strip()
        write = ("checkout-index", "--all", "--quiet", f"--prefix={folder}/")
        repository.git(repo, *repository.AS_COMMITTED, *write, env=env)
        submodules = repository.links_of(repo, tree, env)
    for submodule in submodules:
        if Path(repo, submodule.path, ".git").exists():
            (folder / submodule.path).mkdir(parents=True, exist_ok=True)
            _check_out(CodeVersion(commit=submodule.commit), repo / submodule.path, folder / submodule.path)
        else:
            logger.warning("submodule %r of %s is not checked out and is not restored", submodule.path, repo)


def _known(repo: Path, version: CodeVersion) -> str:
    commit = version.commit or ""
    try:
        return repository.tree_of(repo, commit)
    except PackagingError as error:
        source = f" from {version.remote}" if version.remote else ""
        raise PackagingError(f"{repo} lacks commit {commit}: fetch it{source}, then try again") from error
