"""Packages files that match patterns."""

from __future__ import annotations

import errno
import glob
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nemo_run.core.packaging.archive import LINK, READ_SIZE, Entry, merge, without_escaping_links
from nemo_run.core.packaging.base import ArchivePackager
from nemo_run.core.packaging.globs import Patterns
from nemo_run.errors import MissingArgumentError, PackagingError

logger = logging.getLogger(__name__)

NEVER_PACKAGED = frozenset({".git", "__pycache__"})
_SPECIAL = frozenset("*?[\\")


class Found(NamedTuple):
    """A file on this machine, and its name in the package."""

    name: str
    path: str


@dataclass(kw_only=True)
class PatternPackager(ArchivePackager):
    """Packages the files of a folder that match patterns; needs no git.

    Patterns are written as in ``.gitignore``: ``*.py`` is found in every folder, ``/*.py`` and ``src/*.py`` only there,
    ``src`` is all that is in it, ``data/**/*.json`` descends. ``.git`` and ``__pycache__`` are never packaged.

    Attributes:
        include_pattern: As in NeMo-Run, instead of ``include``: one or more glob patterns, absolute or from the current
            folder (``**`` descends). A folder stands for all that is in it.
        relative_path: The folder from which the files are named in the package, one for all ``include_pattern`` or one
            for each; with ``include``, the folder to look in. By default the folder that is packaged.
        include: What to package.
        exclude: What to leave out of that.
        filter: Asked for each file: whether to package it, or under which name.

    Example:
        >>> PatternPackager(include=["*.py", "configs/"], exclude=["tests/"]).exclude
        ['tests/']
    """

    include_pattern: str | list[str] = ""
    relative_path: str | list[str] = ""
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    filter: Callable[[str], bool | str] | None = None

    def __post_init__(self) -> None:
        if not any(_listed(self.include_pattern)) and not self.include:
            raise MissingArgumentError(
                "PatternPackager needs to know what to package: include=[…], or include_pattern="
            )
        if any(_listed(self.include_pattern)) and self.include:
            raise PackagingError("PatternPackager takes include= or include_pattern=, not both")

    def entries(self, path: Path) -> Iterator[Entry]:
        """Return the files that match, in the order of their names."""
        exclude = Patterns(self.exclude)
        if self.include:
            found = self._included(path, exclude)
        else:
            found = find_pairs(self.include_pattern, self.relative_path, default_base=path, exclude=exclude)
        return without_escaping_links(merge([file_entries(self._filtered(found))]))

    def _included(self, path: Path, exclude: Patterns) -> list[Found]:
        bases = _listed(self.relative_path) or [""]
        if len(bases) > 1:
            raise PackagingError(
                f"include= looks in one folder, relative_path names {len(bases)}: use a HybridPackager"
            )
        base = _absolute(bases[0] or str(path))
        found = list(_matching(base, self.include, exclude))
        matched = set(itertools.chain.from_iterable(patterns for _, patterns in found))
        for pattern in self.include:
            if pattern not in matched:
                raise _nothing_matches(pattern, base)
        return [file for file, _ in found]

    def _filtered(self, found: list[Found]) -> Iterator[Found]:
        for file in found:
            answer = self.filter(file.name) if self.filter else True
            if answer:
                yield file._replace(name=answer) if isinstance(answer, str) else file


# ---------------------------------------------------------------- what matches


def _matching(base: str, patterns: list[str], exclude: Patterns) -> Iterator[tuple[Found, list[str]]]:
    """Yield the files below a folder that match patterns, each with those that it matches."""
    wanted = {pattern: Patterns([pattern], descend=True) for pattern in patterns}
    for start in sorted({_start(pattern, base) for pattern in patterns}):
        for file in _walk(base, start, exclude):
            matches = [pattern for pattern, matcher in wanted.items() if matcher.match(file.name)]
            if matches:
                yield file, matches


def find_pairs(
    patterns: str | list[str], bases: str | list[str], default_base: Path, exclude: Patterns | None = None
) -> list[Found]:
    """Return the files that match glob patterns, each named from the folder that goes with its pattern.

    Raises:
        PackagingError: There are not as many folders as patterns, or no pattern matches anything. Where only some
            match nothing, a warning names them.
    """
    found, without = [], []
    for pattern, folder in _paired(_listed(patterns), _listed(bases)):
        base = _absolute(folder or str(default_base))
        matching = _glob(pattern, base, exclude or Patterns([]))
        found += matching
        if not matching:
            without.append(_nothing_matches(pattern, base))
    if without and not found:
        raise without[0]
    for error in without:
        logger.warning("%s", error)
    return found


def _paired(patterns: list[str], bases: list[str]) -> list[tuple[str, str]]:
    """Return each pattern with its folder, which may be one for all; empty patterns are left out."""
    if len(bases) == 1:
        bases = bases * len(patterns)
    if len(patterns) != len(bases):
        raise PackagingError(
            f"include patterns and relative paths must have the same length, or one path goes with all patterns: "
            f"there are {len(patterns)} and {len(bases)}"
        )
    return [(pattern, base) for pattern, base in zip(patterns, bases, strict=True) if pattern]


def _glob(pattern: str, base: str, exclude: Patterns) -> list[Found]:
    """Return the files that a pattern matches; if none, and it has spaces, those that its parts match."""
    places = [
        (_absolute(pattern), base),
        (os.path.realpath(Path(pattern).expanduser()), os.path.realpath(base)),
        (os.path.normpath(os.path.join(base, pattern)), base),  # noqa: PTH118 (normpath)
    ]
    for path, root in places:
        found = _glob_below(base, os.path.relpath(path, root), exclude) if _is_in(path, root) else []
        if found:
            return found
    parts = pattern.split()
    if len(parts) > 1:
        return find_pairs(parts, base, default_base=Path(base), exclude=exclude)
    return []


def _glob_below(base: str, pattern: str, exclude: Patterns) -> list[Found]:
    """As the shell does it, and ``**`` descends into folders, but not through links."""
    parts = pattern.split("/")
    recursive = parts.index("**") if "**" in parts else len(parts)
    head, tail = "/".join(parts[:recursive]), "/".join(parts[recursive:])
    starts = _places(base, head)
    files = [(file, file.name[len(start) :].lstrip("/")) for start in starts for file in _walk(base, start, exclude)]
    wanted = Patterns([f"/{tail}" if tail else "**"], descend=True)
    return [file for file, name in files if not tail or wanted.match(name)]


def _places(base: str, pattern: str) -> list[str]:
    """Return what a pattern without ``**`` leads to below a folder; the folder itself is empty."""
    exists = os.path.lexists(os.path.join(base, pattern))  # noqa: PTH118
    names = [pattern] if exists else sorted(glob.glob(pattern, root_dir=base))  # noqa: PTH207 (Path.glob hides less)
    return ["" if name == "." else name for name in names]


def _start(pattern: str, base: str) -> str:
    """Return the folder below which all matches of a pattern are, so that nothing else need be looked at."""
    parts = pattern.removeprefix("./").removesuffix("/").split("/")
    if len(parts) == 1:
        return ""
    literal = itertools.takewhile(lambda part: not _SPECIAL.intersection(part), parts[not parts[0] :])
    start = "/".join(literal)
    while start and not Path(base, start).is_dir():
        start = start.rpartition("/")[0]
    return start


def _walk(base: str, start: str, exclude: Patterns) -> Iterator[Found]:
    """Yield the files and links at and below a place, in order; what is excluded is not looked into."""
    if not start:
        yield from _walk_folder(base, "", exclude)
        return
    if _is_inside_excluded(start, exclude):
        return
    path = os.path.join(base, start)  # noqa: PTH118
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        if (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and not exclude.match(start):
            yield Found(start, path)
        return
    yield from _walk_folder(path, f"{start}/", exclude)


def _is_inside_excluded(place: str, exclude: Patterns) -> bool:
    parts = place.split("/")
    outer = itertools.accumulate(parts, "{}/{}".format)
    return any(exclude.match(f"{folder}/") for folder in outer) or not NEVER_PACKAGED.isdisjoint(parts)


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda item: item.name)
    except OSError as error:
        raise PackagingError(
            f"{folder}: cannot be listed: {error.strerror}; exclude it, or correct the folder"
        ) from error


def _walk_folder(folder: str, prefix: str, exclude: Patterns) -> Iterator[Found]:
    for item in _listing(folder):
        name = prefix + item.name
        if item.name in NEVER_PACKAGED:
            continue
        if item.is_dir(follow_symlinks=False):
            if not exclude.match(f"{name}/"):
                yield from _walk_folder(item.path, f"{name}/", exclude)
        elif (item.is_file() or item.is_symlink()) and not exclude.match(name):
            yield Found(name, item.path)


def _nothing_matches(pattern: str, base: str) -> PackagingError:
    return PackagingError(f"pattern {pattern!r} matches no file in {base}: correct it, or leave it out")


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 (Path.absolute leaves ".." in)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


# ---------------------------------------------------------------- what is in it


def file_entries(files: Iterable[Found]) -> Iterator[Entry]:
    """Return the files, read when their turn comes."""
    return map(_entry, files)


def _entry(file: Found) -> Entry:
    try:
        # Twenty thousand times: a file object takes three calls more, and a look at it by its path another walk there.
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # no wait for a pipe
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _link(file)
        raise _unreadable(file.path, error) from error
    try:
        about = os.fstat(fd)
        size = about.st_size
        content = os.read(fd, size) if size <= READ_SIZE else _pieces(file.path, size)
    except OSError as error:
        raise _unreadable(file.path, error) from error
    finally:
        os.close(fd)
    return Entry(file.name, content, size, executable=bool(about.st_mode & 0o100))


def _link(file: Found) -> Entry:
    try:
        target = os.fsencode(os.readlink(file.path))  # noqa: PTH115
    except OSError as error:
        raise _unreadable(file.path, error) from error
    return Entry(file.name, target, len(target), kind=LINK)


def _pieces(path: str, size: int) -> Iterator[bytes]:
    try:
        with Path(path).open("rb") as content:
            while size and (piece := content.read(min(size, READ_SIZE))):
                size -= len(piece)
                yield piece
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> PackagingError:
    return PackagingError(f"{path}: cannot be read: {error.strerror}; exclude it, or make it readable")
