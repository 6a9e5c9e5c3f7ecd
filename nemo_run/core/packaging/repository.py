"""What is asked of git: one small function per question.

Nothing here changes a checkout or its ``.git``: new objects and indexes live in temporary folders.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nemo_run.core.packaging.archive import FILE, FOLDER, LINK, READ_SIZE, Entry
from nemo_run.errors import PackagingError

# Set inside a git hook, these would send our questions to another repository.
_LOCATIONS = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
_SETTINGS = {
    "GIT_OPTIONAL_LOCKS": "0",  # a question must not write the index, nor stop another git that does
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.splitIndex=false", "-c", "core.safecrlf=false")

# Before a command that writes files: with the line ends of the repository, whatever this machine prefers.
AS_COMMITTED = ("-c", "core.autocrlf=false", "-c", "core.eol=lf")

_PAX, _PAX_GLOBAL = b"x", b"g"


@dataclass(frozen=True)
class TreeChange:
    """A difference between the working tree and the commit that is checked out.

    Attributes:
        path: Relative to the top of the repository; with a ``/`` at its end it is a folder of which git tracks nothing,
            where all untracked files are asked for one that is a repository itself.
        kind: ``"untracked"``, ``"deleted"`` or ``"modified"``.
        dirty_inside: Whether it is a submodule that has changes of its own.
        is_unmerged: Whether a merge has left conflicts in it that are not resolved.
    """

    path: str
    kind: str
    dirty_inside: bool = False
    is_unmerged: bool = False


@dataclass(frozen=True)
class Status:
    """What is checked out, and the changes since; ``commit`` is ``None`` before the first one."""

    commit: str | None
    branch: str | None
    changes: list[TreeChange]


@dataclass(frozen=True)
class Link:
    """Where a tree refers to a commit of another repository, usually a submodule."""

    path: str
    commit: str


def git(
    repo: Path,
    *args: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    allowed: Sequence[int] = (),
) -> bytes:
    """Output of a git command.

    Raises:
        PackagingError: git is not installed, or failed with an exit code that is not ``allowed``.
    """
    try:
        done = subprocess.run(
            _command(args), cwd=repo, env=_environment(env), input=stdin, capture_output=True, check=False
        )
    except OSError as error:
        raise _not_started(error, repo) from error
    if done.returncode and done.returncode not in allowed:
        raise _failed(args, repo, done.stderr)
    return done.stdout


def top_of(path: Path) -> Path | None:
    """Return the top folder of the repository that ``path`` is in; ``None`` where there is none."""
    real = path.resolve()
    if real.is_dir() and not any(os.path.exists(folder / ".git") for folder in (real, *real.parents)):  # noqa: PTH110
        return None  # as git would say, which takes longer
    try:
        return Path(os.fsdecode(git(path, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    except PackagingError as error:
        if "not a git repository" in str(error):
            return None
        raise


def find_top(path: Path) -> Path | None:
    """Return what :func:`top_of` does, but None also where git is missing or does not trust the owner."""
    try:
        return top_of(path)
    except PackagingError:
        return None


def tree_of(repo: Path, ref: str) -> str:
    """Return the tree of a branch, tag, commit or tree.

    Raises:
        PackagingError: There is no such thing in the repository.
    """
    found = b""
    if not ref.startswith("-"):  # that would be an option of git, and is allowed in no name
        found = git(repo, "rev-parse", "--verify", "--quiet", f"{ref}^{{tree}}", allowed=(1, 128))
    if not found and ref == "HEAD":
        raise PackagingError(f"{repo} has no commit yet: make the first one, or package with include_uncommitted=True")
    if not found:
        raise PackagingError(
            f"{repo}: git knows no branch, tag or commit {ref!r}: see `git branch --all`, or fetch it first"
        )
    return found.decode().strip()


def has_folder(repo: Path, tree: str, folder: str, env: Mapping[str, str] | None = None) -> bool:
    """Check whether a tree has this folder, as a folder of its own and not of a submodule."""
    return git(repo, "ls-tree", "-d", tree, "--", _below_only(folder), env=env).startswith(b"040000 tree")


def status(repo: Path, untracked: str = "all", under: str = "", submodules: bool = True) -> Status:
    """Return the state of the working tree.

    Args:
        repo: Top of the repository.
        untracked: ``"all"`` names each untracked file, ``"normal"`` only the folder where all of it is untracked.
        under: Only changes below this folder.
        submodules: Whether a change in a submodule is one.
    """
    shown = (f"--untracked-files={untracked}", f"--ignore-submodules={'none' if submodules else 'all'}")
    output = git(repo, "status", "--porcelain=v2", "--branch", "-z", "--no-renames", *shown, "--", _below_only(under))
    head: dict[str, str] = {}
    changes = []
    for line in os.fsdecode(output).split("\0"):
        if line.startswith("# branch."):
            key, _, value = line.removeprefix("# branch.").partition(" ")
            head[key] = value
        elif line:
            changes.append(_change(line))
    commit, branch = head.get("oid"), head.get("head")
    return Status(
        None if commit == "(initial)" else commit,
        None if branch == "(detached)" else branch,
        sorted(changes, key=lambda c: c.path),
    )


def _below_only(folder: str) -> str:
    return f":(top,literal){folder}"


def _change(line: str) -> TreeChange:
    if line[0] == "?":
        return TreeChange(line[2:], "untracked")
    # "1 XY sub mH mI mW hH hI path"; an unmerged path has two fields more
    fields = line.split(" ", 10 if line[0] == "u" else 8)
    deleted = line[0] == "1" and "D" in fields[1]
    return TreeChange(
        fields[-1],
        "deleted" if deleted else "modified",
        dirty_inside=fields[2][2:].strip(".") != "",
        is_unmerged=line[0] == "u",
    )


def links_of(repo: Path, tree: str, env: Mapping[str, str] | None = None) -> list[Link]:
    """Return the commits of other repositories that a tree refers to."""
    output = git(repo, "ls-tree", "-r", "-z", "--full-tree", tree, env=env)
    if b"160000 commit " not in output:  # twenty thousand lines need not be looked at one by one
        return []
    found = []
    for line in os.fsdecode(output).split("\0"):
        if line.startswith("160000 commit "):
            about, _, path = line.partition("\t")
            found.append(Link(path, about.split(" ")[2]))
    return found


@contextlib.contextmanager
def scratch(repo: Path) -> Iterator[dict[str, str]]:
    """Yield an environment in which git has an empty index and writes its objects to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="nemorun-git-", ignore_cleanup_errors=True) as folder:
        objects = Path(folder, "objects")
        (objects / "info").mkdir(parents=True)
        theirs = Path(repo, os.fsdecode(git(repo, "rev-parse", "--git-path", "objects").removesuffix(b"\n")))
        (objects / "info" / "alternates").write_bytes(os.fsencode(theirs) + b"\n")
        yield {"GIT_INDEX_FILE": str(Path(folder, "index")), "GIT_OBJECT_DIRECTORY": str(objects)}


@contextlib.contextmanager
def snapshot(repo: Path, commit: str | None, changes: Iterable[TreeChange]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a commit with changes of the working tree, as a tree of git that is made outside of the repository.

    Untracked folders that are repositories are not in it.

    Yields:
        The tree, and the environment in which git finds it.
    """
    with scratch(repo) as env:
        if commit:
            git(repo, "read-tree", commit, env=env)
        _update_index(repo, changes, env)
        yield git(repo, "write-tree", env=env).decode().strip(), env


def _update_index(repo: Path, changes: Iterable[TreeChange], env: Mapping[str, str]) -> None:
    deleted, written = bytearray(), bytearray()
    for change in changes:
        if change.path.endswith("/"):
            continue
        (deleted if change.kind == "deleted" else written).extend(os.fsencode(change.path) + b"\0")
    if deleted:  # first: a folder may have become a file
        git(repo, "update-index", "--force-remove", "-z", "--stdin", stdin=bytes(deleted), env=env)
    if written:
        uncompressed = ("-c", "core.compression=0")  # soon gone again
        options = ("--add", "--remove", "-z", "--stdin")
        git(repo, *uncompressed, "update-index", *options, stdin=bytes(written), env=env)


# ---------------------------------------------------------------- the content of a tree


def tree_entries(repo: Path, tree: str, under: str = "", env: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """Yield the files and links of a tree, as ``git archive`` gives them (``.gitattributes`` is honoured).

    Args:
        repo: Top of the repository.
        tree: The tree.
        under: Only what is below this folder, named from there.
        env: Where git finds the tree.
    """
    args = (*AS_COMMITTED, "archive", "--format=tar", tree, "--", *([_below_only(under)] if under else []))
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                _command(args),
                cwd=repo,
                env=_environment(env),
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=READ_SIZE,
            )
        except OSError as error:
            raise _not_started(error, repo) from error
        with process:
            if process.stdout is not None:
                yield from _below(under, _tar_entries(process.stdout))
        if process.returncode:
            errors.seek(0)
            raise _failed(args, repo, errors.read())


def _below(folder: str, entries: Iterator[Entry]) -> Iterator[Entry]:
    if not folder:
        return entries
    prefix = f"{folder}/"
    return (entry._replace(name=entry.name.removeprefix(prefix)) for entry in entries if entry.name.startswith(prefix))


def _tar_entries(stream: IO[bytes]) -> Iterator[Entry]:
    """Yield the members of the tar that git writes. ``tarfile`` reads any tar, and takes five times as long."""
    long: dict[bytes, bytes] = {}
    while len(header := stream.read(512)) == 512 and header[0]:
        kind = header[156:157]
        if kind in (_PAX, _PAX_GLOBAL):
            size = int(header[124:135], 8)
            long = _pax(stream.read(size)) if kind == _PAX else {}
            stream.read(-size % 512)
        else:
            yield from _member(stream, header, kind, long)
            long = {}
    while stream.read(READ_SIZE):  # git must be able to write its last padding
        pass


def _member(stream: IO[bytes], header: bytes, kind: bytes, long: Mapping[bytes, bytes]) -> Iterator[Entry]:
    """Yield the member that a header begins; none where git has failed, which its exit code tells."""
    name = os.fsdecode(long.get(b"path") or _name(header))
    if kind == LINK:
        target = long.get(b"linkpath") or header[157:257].rstrip(b"\0")
        yield Entry(name, target, len(target), kind=LINK)
        return
    if kind == FOLDER:
        yield Entry(name.rstrip("/"), b"", 0, kind=FOLDER)
        return
    size = int(long.get(b"size") or int(header[124:135], 8))
    executable = bool(int(header[100:107], 8) & 0o100)
    if size > READ_SIZE:
        pieces = _Pieces(stream, size)
        yield Entry(name, pieces, size, executable, FILE)
        for _ in pieces:  # not all of it may have been wanted
            pass
        stream.read(-size % 512)
        return
    content = stream.read(size + -size % 512)
    if len(content) >= size:
        yield Entry(name, content[:size], size, executable, FILE)


class _Pieces:
    """The next ``size`` bytes of a stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.left = stream, size

    def __iter__(self) -> Iterator[bytes]:
        while self.left and (piece := self.stream.read(min(self.left, READ_SIZE))):
            self.left -= len(piece)
            yield piece


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0")
    return prefix + b"/" + name if prefix else name


def _pax(records: bytes) -> dict[bytes, bytes]:
    found = {}
    while records:
        length = int(records[: records.index(b" ")])
        key, _, value = records[records.index(b" ") + 1 : length - 1].partition(b"=")
        found[key] = value
        records = records[length:]
    return found


# ---------------------------------------------------------------- starting git


def _command(args: Sequence[str]) -> list[str]:
    return ["git", *_OPTIONS, *args]


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in _LOCATIONS} | _SETTINGS | dict(env or {})


def _not_started(error: OSError, repo: Path) -> PackagingError:
    if repo.is_dir():
        return PackagingError(
            f"git cannot be started ({error.strerror}): install git, or use a packager that needs none"
        )
    return PackagingError(f"{repo}: no such folder")


def _failed(args: Sequence[str], repo: Path, errors: bytes) -> PackagingError:
    command = next((arg for arg in args if not arg.startswith("-") and "=" not in arg), "")
    said = errors.decode(errors="replace").strip() or "no reason given"
    return PackagingError(f"{repo}: git {command} failed: {said}")
